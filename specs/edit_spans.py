"""The lines of entries and items in block style: which belong to which, and how some come or go without the
others.

Called by specs.edit_block. A key takes no comment above it along, an item of a list those directly above it,
at its column. Of blank lines on both sides of what goes, those of one side go too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from specs.edit_nodes import Node
from specs.edit_places import (
    Awkward,
    Splice,
    before_break,
    column_of,
    is_alone,
    line_end,
    line_start,
    next_line,
    skip_space,
)

_DASHES = re.compile(r"[ \t]*(-[ \t]+)*")
_BLANK_BELOW = re.compile(r"(\r\n|\n|\r(?!\n))[ \t]*(?=[\r\n])")
_BLANK_LINE = re.compile(r"(\r\n|\n|\r(?!\n))[ \t]*[\r\n]")


@dataclass(frozen=True, slots=True)
class Span:
    """An entry or item: its key or dash, the beginning of its first line (of comments that go with it), the
    end of its last line, and whether blank lines below it would be a part of it (`|+`).
    """

    start: int
    lead: int
    end: int
    keeps: bool


def entry_spans(text: str, mapping: Node) -> list[Span]:
    """The entries of a mapping."""
    return [
        Span(key.start, line_start(text, key.start), line_end(text, value.end), value.keeps)
        for key, value in mapping.entries
    ]


def item_spans(text: str, items: Node) -> list[Span]:
    """The items of a list; Awkward where no dash is found."""
    spans: list[Span] = []
    position = items.content
    for item in items.children:
        dash = skip_space(text, position)
        if not text.startswith("-", dash):
            raise Awkward
        lead = _lead(text, dash, spans[-1].end if spans else -1)
        spans.append(Span(dash, lead, line_end(text, item.end), item.keeps))
        position = max(item.end, dash + 1)
    return spans


def _lead(text: str, dash: int, previous: int) -> int:
    lead = line_start(text, dash)
    if not is_alone(text, dash):
        return lead
    comment = f"{text[lead:dash]}#"
    above = line_start(text, before_break(text, lead))
    while previous < above < lead and text.startswith(comment, above):
        lead, above = above, line_start(text, before_break(text, above))
    return lead


def are_apart(text: str, spans: Sequence[Span]) -> bool:
    """Whether blank lines stand between all of them."""
    pairs = list(pairwise(spans))
    return bool(pairs) and all(_BLANK_LINE.search(text, one.end, other.start) for one, other in pairs)


def inserted(text: str, first: Span, before: Span | None, lines: str, gap: str) -> Splice:
    """An item's lines, which begin with a line end, put behind another item or before the first; `gap` is the
    line end of a blank line between items, or nothing.
    """
    if before is not None:
        return before.end, before.end, lines if before.keeps else gap + lines
    if is_alone(text, first.start):
        above = before_break(text, first.lead)
        return above, above, lines + gap
    break_first = lines[: len(lines) - len(lines.lstrip("\r\n"))]
    return (
        first.start,
        first.start,
        lines.lstrip("\r\n ") + gap + break_first + " " * column_of(text, first.start),
    )


def cuts(text: str, spans: Sequence[Span], gone: set[int]) -> Iterator[Splice]:
    """Some of the entries or items taken out, not all."""
    at = 0
    if 0 in gone and not is_alone(text, spans[0].start):
        at = next(index for index in range(len(spans)) if index not in gone)
        yield _first_cut(text, spans[0].start, spans[at - 1].end, spans[at].start)
    yield from (_cut(text, spans, index, gone) for index in sorted(gone) if index >= at)


def _first_cut(text: str, start: int, end: int, following: int) -> Splice:
    """The first ones of a collection that begins behind a dash: the next one comes up, if no comment is
    between.
    """
    prefix = text[line_start(text, start) : start]
    if not _DASHES.fullmatch(prefix):
        raise Awkward
    if "#" in text[end:following]:
        return start - len(prefix) + len(prefix.rstrip(" \t")), end, ""
    return start, following, ""


def _cut(text: str, spans: Sequence[Span], index: int, gone: set[int]) -> Splice:
    """An entry or item that has lines of its own."""
    span, end = spans[index], spans[index].end
    if not is_alone(text, span.start):
        raise Awkward
    if span.lead == 0:
        return 0, next_line(text, span.end), ""
    above = before_break(text, span.lead)
    if index == 0 and 1 not in gone:
        end = _behind_blank_lines(text, end)
    elif index and (index == len(spans) - 1 or _BLANK_BELOW.match(text, end)):
        while above > spans[index - 1].end and not text[line_start(text, above) : above].strip():
            above = before_break(text, line_start(text, above))
    before = [each for at, each in enumerate(spans[:index]) if at not in gone]
    if before and before[-1].keeps:
        end = _behind_blank_lines(text, end)
    return above, end, ""


def _behind_blank_lines(text: str, position: int) -> int:
    while blank := _BLANK_BELOW.match(text, position):
        position = blank.end()
    return position
