"""Searching a job's log: every line once, whatever its length, with the offset that readers use."""

from __future__ import annotations

import asyncio
import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reconciler.execution import archive
from reconciler.queries import log_search, logs
from reconciler.queries.log_search import Query, search
from reconciler.queries.logs import Part, Text
from reconciler.store.jobs import LogScript

BEGAN = datetime(2026, 7, 1, tzinfo=UTC)


def text_of(folder: Path, contents: Sequence[bytes | None]) -> Text:
    """Scripts under headings; None has no log."""
    parts: list[Part] = []
    position = 0
    for number, content in enumerate(contents):
        place = None if content is None else folder / str(number)
        if place is not None and content is not None:
            place.mkdir(exist_ok=True)
            (place / "log").write_bytes(content)
        at = BEGAN + timedelta(minutes=number)
        script = LogScript(f"id{number}", f"t{number}", 1, "run", "x", None, None, None, True, at)
        parts.append(Part(script, place, f"==> {number} <==\n".encode(), position, len(content or b"")))
        position = parts[-1].end
    return Text(tuple(parts), True)


async def whole(text: Text) -> bytes:
    return b"".join([chunk async for chunk in logs.pieces(text, 0, text.size)])


def found(text: Text, query: Query, limit: int = 500) -> list[dict[str, Any]]:
    """All pages."""
    items: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        page = asyncio.run(search(text, query, offset, limit))
        items += page["items"]
        assert page["next"] is None or page["next"] > offset
        offset = page["next"]
    return items


def test_a_line_is_told_with_its_place(tmp_path: Path) -> None:
    text = text_of(tmp_path, [b"one\ntwo needle needle\r\nthree", None, b"\n\nNeedle\nneedle"])
    items = found(text, Query("needle"))
    assert [(i["task"], i["trial"], i["script"], i["line"], i["text"]) for i in items] == [
        ("t0", 1, "run", 2, "two needle needle"),
        ("t2", 1, "run", 4, "needle"),
    ]
    content = asyncio.run(whole(text))
    assert [content[i["offset"] :].split(b"\n")[0] for i in items] == [b"two needle needle\r", b"needle"]
    assert [i["line"] for i in found(text, Query("nEEDLE", True))] == [2, 3, 4]


def test_headings_are_no_part_of_what_is_searched(tmp_path: Path) -> None:
    assert found(text_of(tmp_path, [b"x\n", b"y\n"]), Query("==>")) == []


def test_a_text_is_literal(tmp_path: Path) -> None:
    text = text_of(tmp_path, [b"a.c\nabc\n(a+)+$\n"])
    assert [i["text"] for i in found(text, Query("a.c"))] == ["a.c"]
    assert [i["text"] for i in found(text, Query("(A+)+$", True))] == ["(a+)+$"]


def test_letters_of_all_languages_may_be_big_or_small(tmp_path: Path) -> None:
    text = text_of(tmp_path, ["Große Übung\nGROSSE ÜBUNG\nΣίσυφος\n".encode()])
    assert [i["line"] for i in found(text, Query("übung", True))] == [1, 2]
    assert [i["line"] for i in found(text, Query("große", True))] == [1, 2]
    assert [i["line"] for i in found(text, Query("ΣΊΣ", True))] == [3]
    assert [i["line"] for i in found(text, Query("übung"))] == []


@settings(max_examples=60, deadline=None)
@given(some.data())
def test_every_line_is_found_once_wherever_blocks_and_pages_end(data: some.DataObject) -> None:
    word = data.draw(some.text("ab", min_size=1, max_size=4))
    contents = [c.encode() for c in data.draw(some.lists(some.text("ab\n", max_size=60), max_size=3))]
    block, budget, limit = (data.draw(some.integers(1, top)) for top in (9, 40, 3))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(log_search, "_BLOCK", block)
        patch.setattr(log_search, "BUDGET", budget)
        text = text_of(Path(folder), contents)
        items = found(text, Query(word), limit)
    expected = [
        (
            part.script.task,
            number,
            part.start + sum(len(line) + 1 for line in lines[: number - 1]),
            lines[number - 1],
        )
        for part, lines in zip(text.parts, [c.decode().split("\n") for c in contents], strict=True)
        for number in range(1, len(lines) + 1)
        if word in lines[number - 1]
    ]
    assert [(i["task"], i["line"], i["offset"], i["text"]) for i in items] == expected


def test_a_line_of_a_hundred_megabytes_takes_little_memory(tmp_path: Path) -> None:
    """Its text is what stands around the word; it is told once, and what follows it is found."""
    line = b"." * 50_000_000 + "é needle é".encode() + b"." * 50_000_000
    text = text_of(tmp_path, [b"first\n" + line + b"\nneedle\n"])
    del line
    tracemalloc.start()
    try:
        items = found(text, Query("needle"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert [(i["line"], i["offset"]) for i in items] == [(2, text.parts[0].start + 6), (3, text.size - 7)]
    assert len(items[0]["text"]) == 500
    assert "é needle é" in items[0]["text"]


def test_an_answer_goes_through_so_much_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a `next` without an item, and going on from there finds the rest."""
    monkeypatch.setattr(log_search, "BUDGET", 1 << 20)
    text = text_of(tmp_path, [b"x\n" * 1_000_000 + b"needle\n", b"needle\n"])
    page = asyncio.run(search(text, Query("needle"), 0, 10))
    assert page["items"] == []
    assert page["next"] is not None
    assert [i["line"] for i in found(text, Query("needle"))] == [1_000_001, 1]


def test_compressed_logs_are_searched_alike(tmp_path: Path) -> None:
    text = text_of(tmp_path, [b"".join(b"line %d\n" % n for n in range(100_000))])
    before = found(text, Query("9999"))
    assert archive.compress(tmp_path / "0")
    assert found(text, Query("9999")) == before
    assert len(before) == 19


def test_since_begins_with_the_first_script_that_printed_then(tmp_path: Path) -> None:
    """Whole when it began later; at the end when nothing was printed."""
    text = text_of(tmp_path, [b"one\n", None, b"two\n"])
    for part in text.parts:
        if part.folder is not None and part.script.at is not None:
            moment = part.script.at.timestamp() + 10
            os.utime(part.folder / "log", (moment, moment))
    expected = {-5: 0, 5: 0, 30: text.parts[1].position, 90: text.parts[2].position, 1000: text.size}
    for seconds, offset in expected.items():
        assert asyncio.run(logs.since(text, BEGAN + timedelta(seconds=seconds))) == offset
