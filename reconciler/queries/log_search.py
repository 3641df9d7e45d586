"""Searches the text of a job's log for a word (design 7.4).

Called by the native API, on a text that `reconciler.queries.logs` has laid out. It goes through the logs in a thread in
blocks, so that neither the size of a log nor that of a line counts; how much one call looks at is limited, and `next`
says where to go on. Texts are literal: no pattern of a user's is ever compiled.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.execution.logs import read_at
from reconciler.queries.logs import Part, Text

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
    finder, widest = _finder(query)
    items: list[dict[str, Any]] = []
    budget = BUDGET
    for part in text.parts:
        if part.folder is None or part.end <= offset:
            continue
        begin = max(0, offset - part.start)
        for hit in _hits(_Log(part.folder, part.size), finder, widest, begin, budget):
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


def _hits(log: _Log, finder: re.Pattern[bytes], widest: int, begin: int, budget: int) -> Iterator[_Hit]:
    """One for each line that has the word at `begin` or behind it.

    A line that has been told is passed over, also when it is endless: so the budget never ends within one, and who
    goes on from there tells no line twice.
    """
    line, start = _place(log, begin)
    at, told = begin, False
    while at < log.size:
        if not told and at - begin >= budget:
            yield _Hit(None, at)
            return
        block = log.read(at, _BLOCK + widest - 1)
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
            if found is None or found.start() >= core:
                break
            lines = block.count(b"\n", here, found.start())
            line += lines
            start = at + block.rfind(b"\n", here, found.start()) + 1 if lines else start
            yield _Hit(line, start, at + found.start())
            here, told = found.start(), True
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


def _finder(query: Query) -> tuple[re.Pattern[bytes], int]:
    """What finds the word, and the most bytes that it can have. Takes linear time: a sequence of fixed choices."""
    if not query.ignore_case:
        word = query.word.encode()
        return re.compile(re.escape(word)), len(word)
    choices = [sorted({form.encode() for form in _cases(character)}) for character in query.word]
    text = b"".join(b"(?:%s)" % b"|".join(map(re.escape, forms)) for forms in choices)
    return re.compile(text), sum(max(map(len, forms)) for forms in choices)


def _cases(character: str) -> set[str]:
    return {character, character.lower(), character.upper(), character.casefold()}
