"""Lines of a script's log by their number: where each begins, and when it was printed (escape-state, 12.1).

Called by the queries that show logs as entries, in threads: all of this blocks. What was found out about a log is kept
in memory for the next reader, so that a log is gone through once, however many follow it; the lines themselves are
read again. A line that is longer than `LONGEST` is several; one without its end is none before its script has ended.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.execution import timeline
from reconciler.execution.logs import cut, read_at, size_of

LONGEST = 16 << 10
_CHUNK = 256 << 10
_APART = 64 << 10
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. `at`: milliseconds since 1970, None: printed before the first entry of the index."""

    number: int
    at: int | None
    text: bytes


@dataclass
class Lines:
    """The lines of one log, numbered from 0.

    `marks`: (number of a line, its offset), here and there; `times`: (number of a line, time), where the time changes.
    """

    folder: Path
    count: int = 0
    offset: int = 0
    complete: bool = False
    marks: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    times: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, end: int | None) -> int:
        """How many lines there are by now. `end`: bytes of the log once its script has ended, None while it runs."""
        with self.lock:
            if not self.complete:
                self._go_on(size_of(self.folder) if end is None else end, ended=end is not None)
            return self.count

    def read(self, first: int, most: int, most_bytes: int) -> list[Line]:
        """Lines from a number on, of those that `look` has found; fewer when they are many bytes, but one at least."""
        with self.lock:
            count, stop = self.count, self.offset
            number, offset = self.marks[bisect_right(self.marks, (first, 1 << 62)) - 1]
        found: list[Line] = []
        while offset < stop and number < min(count, first + most) and most_bytes > 0:
            chunk = read_at(self.folder, offset, min(_CHUNK, stop - offset))
            texts, used = _split(chunk, last=offset + len(chunk) >= stop)
            if not used:
                break  # the log has gone meanwhile
            offset += used
            for _, text in texts:
                if first <= number < min(count, first + most) and most_bytes > 0:
                    most_bytes -= len(text) + 1
                    found.append(Line(number, self._time(number), text))
                number += 1
        return found

    def _time(self, number: int) -> int | None:
        place = bisect_right(self.times, (number, 1 << 62)) - 1
        return self.times[place][1] if place >= 0 else None

    def _go_on(self, size: int, *, ended: bool) -> None:
        """Through what has come since."""
        index = timeline.load(self.folder) if self.offset < size else []
        while self.offset < size:
            chunk = read_at(self.folder, self.offset, min(_CHUNK, size - self.offset))
            whole = self.offset + len(chunk) >= size
            found, used = _split(chunk, last=whole and ended)
            self._note(found, index)
            self.offset += used
            if self.offset >= self.marks[-1][1] + _APART:
                self.marks.append((self.count, self.offset))
            if whole or not used:
                break
        self.complete = ended

    def _note(self, found: list[tuple[int, bytes]], index: list[timeline.Entry]) -> None:
        """Number them, and find their times: that of the last entry of the index at which the log ended before them."""
        position = self.offset
        place = bisect_right(index, position, key=lambda entry: entry.log)
        for size, _ in found:
            while place < len(index) and index[place].log <= position:
                place += 1
            if place and (not self.times or self.times[-1][1] != index[place - 1].at):
                self.times.append((self.count, index[place - 1].at))
            self.count += 1
            position += size


_LOOKED: OrderedDict[Path, Lines] = OrderedDict()
_LOCK = threading.Lock()


def lines_of(folder: Path) -> Lines:
    """What is known of the log in a folder."""
    with _LOCK:
        found = _LOOKED.pop(folder, None) or Lines(folder)
        _LOOKED[folder] = found
        while len(_LOOKED) > _KEPT:
            _LOOKED.popitem(last=False)
    return found


def _split(data: bytes, *, last: bool) -> tuple[list[tuple[int, bytes]], int]:
    """The lines that bytes begin with, each as (bytes in the log, text), and how many bytes these are.

    `last`: what has no line end is a line as well.
    """
    found: list[tuple[int, bytes]] = []
    *whole, rest = data.split(b"\n")
    for line in whole:
        line = _shortened(line, found) if len(line) > LONGEST else line
        found.append((len(line) + 1, line.removesuffix(b"\r")))
    rest = _shortened(rest, found) if len(rest) > LONGEST else rest
    if last and rest:
        found.append((len(rest), rest.removesuffix(b"\r")))
        rest = b""
    return found, len(data) - len(rest)


def _shortened(line: bytes, found: list[tuple[int, bytes]]) -> bytes:
    """The end of a line that is too long; what is before it is added as lines of their own, whole characters each."""
    while len(line) > LONGEST:
        size = cut(line[:LONGEST])
        found.append((size, line[:size]))
        line = line[size:]
    return line
