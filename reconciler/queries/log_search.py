"""Searches the text of a job's log for a word (design 7.4).

Called by the native API, on a text that `reconciler.queries.logs` has laid out. It goes through the logs in a thread in
blocks, so that neither the size of a log nor that of a line counts; how much one call looks at is limited, and `next`
says where to go on. Texts are literal: no pattern of a user's is ever compiled.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.execution.logs import read_at
from reconciler.queries.logs import Part, Text

_SECONDS = 5.0  # one answer looks no longer, and says where to go on
LONGEST_ANY_CASE = 64  # characters of a word beyond ASCII that is looked for without regard to case
BUDGET = 128 << 20
_BLOCK = 256 << 10
_SHOWN = 500
_BEFORE = 150


@dataclass(frozen=True, slots=True)
class Query:
    """A word to look for, of one line."""

    word: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class _Hit:
    """A line with the word, by offsets in its log: the line's and the word's. No line: the budget ends at `offset`."""

    line: int | None
    offset: int
    word: int = 0


async def search(text: Text, query: Query, offset: int, limit: int) -> dict[str, Any]:
    """Lines that have the word, from an offset of the text on; `next`: where to go on, when there may be more."""
    return await asyncio.to_thread(_search, text, query, offset, limit)


def _search(text: Text, query: Query, offset: int, limit: int) -> dict[str, Any]:
    finder, until = _Finder(query), time.monotonic() + _SECONDS
    items: list[dict[str, Any]] = []
    budget = BUDGET
    for part in text.parts:
        if part.folder is None or part.end <= offset:
            continue
        begin = max(0, offset - part.start)
        for hit in _hits(_Log(part.folder, part.size), finder, begin, budget, until):
            if hit.line is None or len(items) == limit:
                return {"items": items, "next": part.start + hit.offset}
            items.append(_item(part, part.folder, hit))
        budget -= part.size - begin
        if budget <= 0 and part.end < text.size:
            return {"items": items, "next": part.end}
    return {"items": items, "next": None}


def _item(part: Part, folder: Path, hit: _Hit) -> dict[str, Any]:
    script = part.script
    return {
        "task": script.task,
        "trial": script.trial,
        "script": script.name,
        "line": hit.line,
        "offset": part.start + hit.offset,
        "text": _excerpt(folder, part.size, hit),
    }


@dataclass(frozen=True, slots=True)
class _Log:
    """One script's log up to where it ends for its readers."""

    folder: Path
    size: int

    def read(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`."""
        return read_at(self.folder, offset, min(limit, self.size - offset))


def _hits(log: _Log, finder: _Finder, begin: int, budget: int, until: float) -> Iterator[_Hit]:
    """One for each line that has the word at `begin` or behind it.

    A line that has been told is passed over, also when it is endless: so the budget never ends within one, and who
    goes on from there tells no line twice.
    """
    line, start = _place(log, begin)
    at, told = begin, False
    while at < log.size:
        if not told and (at - begin >= budget or (at > begin and time.monotonic() > until)):
            yield _Hit(None, at)
            return
        block = log.read(at, _BLOCK + finder.widest - 1)
        if not block:
            return
        core = min(_BLOCK, len(block))
        here = 0
        while True:
            if told:
                ending = block.find(b"\n", here, core)
                if ending < 0:
                    break
                here, told = ending, False
            found = finder.search(block, here)
            if not 0 <= found < core:
                break
            lines = block.count(b"\n", here, found)
            line += lines
            start = at + block.rfind(b"\n", here, found) + 1 if lines else start
            yield _Hit(line, start, at + found)
            here, told = found, True
        lines = block.count(b"\n", here, core)
        line += lines
        start = at + block.rfind(b"\n", here, core) + 1 if lines else start
        at += core


def _place(log: _Log, offset: int) -> tuple[int, int]:
    """(number, offset) of the line that an offset lies in."""
    line, start, at = 1, 0, 0
    while at < offset and (block := log.read(at, min(_BLOCK, offset - at))):
        line += block.count(b"\n")
        last = block.rfind(b"\n")
        start = at + last + 1 if last >= 0 else start
        at += len(block)
    return line, start


def _excerpt(folder: Path, size: int, hit: _Hit) -> str:
    """The line, or as much of it around the word as is shown."""
    first = max(hit.offset, hit.word - 4 * _BEFORE)
    window = read_at(folder, first, min(size, hit.word + 4 * _SHOWN) - first)
    before, after = window[: hit.word - first], window[hit.word - first :].partition(b"\n")[0]
    # a character that the window cuts is not shown
    whole = before if first == hit.offset else before.lstrip(bytes(range(0x80, 0xC0)))
    left = whole.decode("utf-8", "replace")[-_BEFORE:]
    return left + after.removesuffix(b"\r").decode("utf-8", "replace")[: _SHOWN - len(left)]


class _Finder:
    """What finds the word: a linear search, or, for letters beyond ASCII without regard to case, fixed choices.

    `widest`: the most bytes that what is found can have.
    """

    def __init__(self, query: Query) -> None:
        self._lower = query.ignore_case and query.word.isascii()
        self._word = (query.word.lower() if self._lower else query.word).encode()
        self._choices = _choices(query.word) if query.ignore_case and not self._lower else None
        self._seen: tuple[bytes, bytes] = (b"", b"")
        self.widest = 4 * len(query.word) if self._choices else len(self._word)

    def search(self, block: bytes, begin: int) -> int:
        """Where it is found first; -1: nowhere."""
        if self._choices is not None:
            found = self._choices.search(block, begin)
            return found.start() if found else -1
        if not self._lower:
            return block.find(self._word, begin)
        if self._seen[0] is not block:
            self._seen = (block, block.lower())
        return self._seen[1].find(self._word, begin)


def _choices(word: str) -> re.Pattern[bytes]:
    """A sequence of fixed choices: what it takes at each place of a log grows with the word, so that is bounded."""
    choices = [sorted({form.encode() for form in _cases(character)}) for character in word]
    return re.compile(b"".join(b"(?:%s)" % b"|".join(map(re.escape, forms)) for forms in choices))


def _cases(character: str) -> set[str]:
    return {character, character.lower(), character.upper(), character.casefold()}
