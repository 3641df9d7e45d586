"""What of a log reaches a terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.client import Client
from api.cli.jobs import _search
from api.cli.output import Format, show_table
from api.cli.terminal import Harmless, harmless

PLAIN = "plain ✓ \x1b[1;31mred\x1b[0m\ttab\r\n".encode()
STEERING = (
    b"\x1b]0;title\x07",
    b"\x1b]52;c;ZXZpbA==\x1b\\",
    b"\x1b]8;;http://evil\x1b\\",
    b"\x1b[2J",
    b"\x1b[?1049h",
    b"\x1b[10;10H",
    b"\x1b[>4;1m",
    b"\x1bP+q\x1b\\",
    b"\x1bc",
    b"\x1b(0",
    b"\x07",
    b"\x00",
    b"\x08",
    b"\x7f",
    b"\xc2\x9b",
)


@pytest.mark.parametrize("steering", STEERING)
def test_only_colours_pass(steering: bytes) -> None:
    """At any place, however it is cut."""
    for at in range(len(steering) + 1):
        harmless = Harmless()
        found = harmless.feed(PLAIN + steering[:at]) + harmless.feed(steering[at:] + PLAIN)
        assert found + harmless.feed(b"") == PLAIN + PLAIN, at


PIECES = st.sampled_from(
    [b"\x1b", b"[", b"2J", b"\x07", b"]", b"0;", b"m", b"31", b"\\", b"\xc2", b"\x9b", b"text"]
)


@given(st.lists(st.binary(max_size=40) | st.lists(PIECES, max_size=12).map(b"".join), max_size=8))
def test_nothing_is_left_that_steers(chunks: list[bytes]) -> None:
    """Whatever comes, and however it is cut; of text nothing is lost."""
    harmless = Harmless()
    found = b"".join(harmless.feed(chunk) for chunk in chunks)
    assert not any(byte < 32 and byte not in (9, 10, 13, 27) for byte in found)
    assert not re.search(rb"\x1b(?!\[[0-9;:]*m)", found)
    text = bytes(byte for byte in b"".join(chunks) if 32 <= byte < 127)
    if b"\x1b" not in b"".join(chunks) and not any(byte >= 127 for byte in b"".join(chunks)):
        assert bytes(byte for byte in found if 32 <= byte < 127) == text


def test_a_line_that_was_found_steers_nothing() -> None:
    """What is broken off in it is left out, and its colour ends with it."""
    assert harmless("plain ✓") == "plain ✓"
    for steering in STEERING:
        assert harmless("a" + steering.decode("utf-8") + "b") == "ab"
    assert harmless("\x1b[31mred") == "\x1b[31mred\x1b[0m"
    assert harmless("cut \x1b]0;ti") == "cut "


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_search_shows_a_terminal_no_more_than_the_log_does(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"task": "main", "trial": 1, "script": "run", "line": 1, "text": "\x1b]0;title\x07found"}
    client = Client("http://127.0.0.1:9", None)
    monkeypatch.setattr(Client, "get", lambda *_asked, **_more: {"items": [item], "next": None})
    for screen, shown in (
        (_Screen(), "main #1 run:1: found\n"),
        (io.StringIO(), f"main #1 run:1: {item['text']}\n"),
    ):
        monkeypatch.setattr("sys.stdout", screen)
        _search(client, 1, {}, 0, Format.TABLE)
        assert screen.getvalue() == shown


@pytest.mark.parametrize("screen", [_Screen(), io.StringIO()])
def test_what_is_copied_from_a_table_is_whole(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal sentences are folded, and never a KEY or a state; no line ends in blanks."""
    monkeypatch.setattr("sys.stdout", screen)
    for name, value in (("COLUMNS", "40"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    key, told = "Deployment/shop/production/shop/a-long-name", "what is waited for has not come " * 4
    show_table(("KEY", "STATE", "WHY"), [(key, "executing", told), ("Build/a/_/b", "passed", None)])
    head, first, *more = screen.getvalue().splitlines()
    assert head.split() == ["KEY", "STATE", "WHY"]
    assert first.split()[:2] == [key, "executing"]
    assert more[-1].split() == ["Build/a/_/b", "passed", "-"]
    assert (len(more) > 1) == screen.isatty()
    assert [line for line in (head, first, *more) if line != line.rstrip()] == []
