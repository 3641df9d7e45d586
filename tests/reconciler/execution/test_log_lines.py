"""Lines of logs by number: the same however the log has come, however often it is looked at, compressed or not."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.execution import archive, log_lines, timeline
from reconciler.execution.log_lines import LONGEST, Lines, lines_of
from reconciler.execution.timeline import Entry

MANY = 1 << 30


def texts(lines: Lines, first: int = 0, most: int = 1 << 40) -> list[bytes]:
    return [line.text for line in lines.read(first, most, MANY)]


def expected(data: bytes) -> list[bytes]:
    """By the rule itself, slowly."""
    found = []
    *whole, rest = data.split(b"\n")
    for line in [*whole, *([rest] if rest else [])]:
        while len(line) > log_lines.LONGEST:
            size = log_lines.cut(line[: log_lines.LONGEST])
            found.append(line[:size])
            line = line[size:]
        found.append(line.removesuffix(b"\r"))
    return found


def test_lines_are_numbered_and_read_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"".join(b"line %d\n" % n for n in range(100_000)))
    lines = Lines(tmp_path)
    assert lines.look(None) == 100_000
    for first in (0, 1, 54_321, 99_999):
        assert texts(lines, first, 3) == [b"line %d" % n for n in range(first, min(first + 3, 100_000))]
    assert [line.number for line in lines.read(500, 2, MANY)] == [500, 501]
    assert texts(lines, 100_000) == []
    assert len(lines.read(0, 100_000, 100)) < 20
    assert len(lines.read(0, 100_000, 1)) == 1


def test_a_line_without_its_end_waits_for_the_end_of_the_script(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntw")
    lines = Lines(tmp_path)
    assert (lines.look(None), texts(lines)) == (1, [b"one"])
    log.write_bytes(b"one\ntwo\r\nthree")
    assert (lines.look(None), texts(lines)) == (2, [b"one", b"two"])
    assert (lines.look(14), texts(lines)) == (3, [b"one", b"two", b"three"])
    log.write_bytes(b"one\ntwo\r\nthree and what somebody left running says")
    assert (lines.look(14), texts(lines, 2)) == (3, [b"three"])


def test_nothing_is_no_line(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    assert (lines.look(None), lines.look(0), texts(lines)) == (0, 0, [])
    (tmp_path / "log").write_bytes(b"\n\n")
    assert lines_of(tmp_path).look(2) == 2
    assert texts(lines_of(tmp_path)) == [b"", b""]


def test_long_lines_are_cut_between_characters(tmp_path: Path) -> None:
    line = ("é" * LONGEST).encode() + b"x"
    (tmp_path / "log").write_bytes(line + b"\nshort\n")
    lines = Lines(tmp_path)
    lines.look(None)
    found = texts(lines)
    assert found[-1] == b"short"
    assert b"".join(found[:-1]) == line
    assert all(len(part) <= LONGEST for part in found)
    assert [part.decode() for part in found]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b"\n", b"\r\n", "é€😀".encode(), b"\xff", b"b" * 9, b"\n\n"]), max_size=60
    ),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_how_it_came_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], looks: list[int]
) -> None:
    """Looked at while it grows, in any portions, and whole."""
    folder = tmp_path_factory.mktemp("log")
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_lines, "LONGEST", 8)
        patch.setattr(log_lines, "_CHUNK", 16)
        patch.setattr(log_lines, "_APART", 12)
        growing = Lines(folder)
        size, seen = 0, []
        for step in looks:
            size = min(len(data), size + step)
            (folder / "log").write_bytes(data[:size])
            growing.look(None)
            assert texts(growing)[: len(seen)] == seen
            seen = texts(growing)
        (folder / "log").write_bytes(data)
        growing.look(len(data))
        whole = Lines(folder)
        whole.look(len(data))
        assert texts(growing) == texts(whole) == expected(data)
        assert growing.count == len(expected(data))
        for first in range(growing.count):
            assert texts(growing, first) == expected(data)[first:]


def test_a_compressed_log_has_the_same_lines(tmp_path: Path) -> None:
    data = b"".join(b"line %d of a log that is worth it\n" % n for n in range(20_000))
    (tmp_path / "log").write_bytes(data)
    plain = Lines(tmp_path)
    plain.look(len(data))
    before = texts(plain)
    assert archive.compress(tmp_path)
    packed = Lines(tmp_path)
    packed.look(len(data))
    assert texts(packed) == before == texts(plain)


def test_a_line_has_the_time_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\nbb\nccc\ndddd\n")
    for entry in (Entry(1000, 2, 2), Entry(5000, 2, 2), Entry(7000, 9, 9)):
        timeline.append(tmp_path, entry)
    lines = Lines(tmp_path)
    lines.look(None)
    assert [line.at for line in lines.read(0, 9, MANY)] == [None, 5000, 5000, 7000]


def test_a_time_that_was_told_stays(tmp_path: Path) -> None:
    """Though the index says more by now."""
    (tmp_path / "log").write_bytes(b"a\nb\n")
    lines = lines_of(tmp_path)
    lines.look(None)
    timeline.append(tmp_path, Entry(1000, 2, 2))
    assert lines_of(tmp_path).look(4) == 2
    assert [line.at for line in lines_of(tmp_path).read(0, 9, MANY)] == [None, None]


def test_readers_at_the_same_time_see_the_same(tmp_path: Path) -> None:
    data = b"".join(b"line %d\n" % n for n in range(50_000))
    log = tmp_path / "log"
    log.write_bytes(b"")
    got: list[list[bytes]] = [[] for _ in range(4)]

    def reader(mine: list[bytes]) -> None:
        lines = lines_of(tmp_path)
        while len(mine) < 50_000:
            lines.look(None)
            mine += [line.text for line in lines.read(len(mine), 777, MANY)]

    threads = [threading.Thread(target=reader, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    with log.open("ab", buffering=0) as file:
        for start in range(0, len(data), 7_001):
            file.write(data[start : start + 7_001])
            time.sleep(0.0005)
    for thread in threads:
        thread.join(30)
    assert all(mine == expected(data) for mine in got)
