"""Places in a text: lines, what lies between tokens, and splices, which say what stands somewhere instead.

Called by what edits texts. Positions count characters; line ends are \\n, \\r\\n and \\r, as libyaml has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Splice = tuple[int, int, str]
"""From, to, and what stands there instead."""

_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\r\n]*)*")
_BREAK = re.compile(r"\r\n|\n|\r")


class Awkward(Exception):
    """A place where a text cannot be changed by itself. Never leaves specs.edit."""


def replaced(text: str, splices: Iterable[Splice], start: int = 0, end: int | None = None) -> str:
    """A part of a text after splices; of those at one place the first comes first. Where something goes, more may go
    or come; Awkward if two overlap otherwise.
    """
    out: list[str] = []
    position, gone = start, False
    for begin, stop, instead in sorted(splices, key=lambda splice: splice[:2]):
        if begin >= position:
            out += (text[position:begin], instead)
            position, gone = stop, not instead
        elif gone and (begin == stop or not instead):
            out.append(instead)
            position = max(position, stop)
        else:
            raise Awkward
    out.append(text[position:end])
    return "".join(out)


def skip_space(text: str, position: int) -> int:
    """Where the next token begins: behind spaces, line ends and comments."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def has_break(text: str, start: int, end: int) -> bool:
    """Whether a line ends between two positions."""
    return _BREAK.search(text, start, end) is not None


def column_of(text: str, position: int) -> int:
    """How many characters are before a position in its line."""
    return position - line_start(text, position)


def is_alone(text: str, position: int) -> bool:
    """Whether nothing but spaces is before a position in its line."""
    return not text[line_start(text, position) : position].strip(" \t")


def line_start(text: str, position: int) -> int:
    """Where the line of a position begins."""
    return max(text.rfind("\n", 0, position), text.rfind("\r", 0, position)) + 1


def line_end(text: str, position: int) -> int:
    """Where the line of a position ends, before its line end."""
    match = _BREAK.search(text, position)
    return match.start() if match else len(text)


def next_line(text: str, position: int) -> int:
    """Where the line below that of a position begins; the end of the text if there is none."""
    match = _BREAK.search(text, position)
    return match.end() if match else len(text)


def before_break(text: str, position: int) -> int:
    """Where the line above one that begins at a position ends; the position itself on the first line."""
    if text.endswith("\r\n", 0, position):
        return position - 2
    return max(position - 1, 0)


def line_break(text: str) -> str:
    """The first line end of a text; a plain one if it has none."""
    match = _BREAK.search(text)
    return match.group() if match else "\n"


def with_plain_breaks(text: str) -> str:
    """The text with \\n as its only line end."""
    return _BREAK.sub("\n", text)
