"""Where the lines of a job's log are, and when they were printed: what a reader needs who holds a part of it only.

Called by the dashboard, on a text that `reconciler.queries.logs` has laid out. Lines are numbered from 1 through the
whole text, headings too. It goes through the logs in a thread, in blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.execution import timeline
from reconciler.execution.logs import read_at
from reconciler.queries.logs import Part, Text

_BLOCK = 256 << 10


@dataclass(frozen=True, slots=True)
class Place:
    """The beginning of a line: its number, and its byte offset."""

    line: int
    offset: int


async def at_offset(text: Text, offset: int) -> Place:
    """The first line that begins at an offset or behind it; the end of the text if none does."""
    return await asyncio.to_thread(_at_offset, text, min(offset, text.size))


async def at_line(text: Text, line: int) -> Place:
    """The line of a number; of one that is not there, the last one."""
    return await asyncio.to_thread(_at_line, text, line)


async def times(text: Text, offset: int) -> list[tuple[int, int]]:
    """(offset, milliseconds since 1970): what lies from there on was printed then, or within the second after it."""
    return await asyncio.to_thread(_times, text, offset)


def _at_offset(text: Text, offset: int) -> Place:
    line = 1
    if offset <= 0:
        return Place(1, 0)
    for at, block in _blocks(text):
        if at + len(block) < offset:
            line += block.count(b"\n")
            continue
        begin = max(0, offset - at - 1)  # the line end before the offset counts: then one begins just there
        found = block.find(b"\n", begin)
        if found >= 0:
            return Place(line + block.count(b"\n", 0, found) + 1, at + found + 1)
        line += block.count(b"\n")
    return Place(line, text.size)


def _at_line(text: Text, line: int) -> Place:
    begun, last = 1, 0  # lines that have begun, and where the last one did
    for at, block in _blocks(text):
        count = block.count(b"\n")
        if begun + count >= line:
            place = -1
            for _ in range(line - begun):
                place = block.find(b"\n", place + 1)
            offset = last if line == begun else at + place + 1
            return Place(line, offset) if offset < text.size else _at_line(text, line - 1)
        begun += count
        last = at + block.rfind(b"\n") + 1 if count else last
    if last and last == text.size:
        begun -= 1  # behind the last line end there is none
    return _at_line(text, begun) if begun < line else Place(1, 0)


def _blocks(text: Text) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the whole text; less only when files have gone meanwhile."""
    for part in text.parts:
        if part.head:
            yield part.position, part.head
        at = 0
        while part.folder is not None and at < part.size:
            block = read_at(part.folder, at, min(_BLOCK, part.size - at))
            if not block:
                return
            yield part.start + at, block
            at += len(block)


def _times(text: Text, offset: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for part in text.parts:
        if part.end >= offset:
            found += _times_of(part)
    behind = next((place for place, (at, _) in enumerate(found) if at > offset), len(found))
    return found[max(0, behind - 1) :]


def _times_of(part: Part) -> Iterator[tuple[int, int]]:
    """Of entries with the same offset the last one counts: in between, nothing was printed."""
    last = None if part.script.at is None else (part.position, round(part.script.at.timestamp() * 1000))
    for entry in [] if part.folder is None else timeline.load(part.folder):
        at = part.position if entry.log == 0 else part.start + entry.log
        if entry.log >= part.size:
            break
        if last is not None and last[0] != at:
            yield last
        last = at, entry.at
    if last is not None:
        yield last
