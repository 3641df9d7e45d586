"""The events of libyaml for a text, and where what they tell of begins and ends.

Called by what looks for places in a text. Marks count characters; those of block scalars lie behind the blank
lines that follow, so their ends are found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from yaml._yaml import CParser
from yaml.events import (
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from specs.edit_places import before_break

OPENING = (MappingStartEvent, SequenceStartEvent)
CLOSING = (MappingEndEvent, SequenceEndEvent)
HEADER = re.compile(r"[|>]([-+0-9]*)")
"""What begins a block scalar."""


def events(text: str) -> Iterator[Event]:
    """All events of a readable text."""
    parser = CParser(text)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    finally:
        parser.dispose()


def start_of(event: Event) -> tuple[int, int, int]:
    """Where an event begins: position, line and column, all from 0."""
    mark: Any = event.start_mark
    return mark.index, mark.line, mark.column


def end_of(event: Event) -> int:
    """The position where an event ends."""
    mark: Any = event.end_mark
    return int(mark.index)


def end_of_scalar(text: str, event: ScalarEvent) -> int:
    """The position where a plain value ends, of a block scalar without blank lines that are not a part of it."""
    start, end = start_of(event)[0], end_of(event)
    if event.style not in ("|", ">"):
        return end
    if keeps_line_ends(text, event) or event.value.rstrip("\n").endswith((" ", "\t")):
        return before_break(text, end) if text.endswith(("\n", "\r"), start, end) else end
    return start + len(text[start:end].rstrip(" \t\r\n"))


def keeps_line_ends(text: str, event: ScalarEvent) -> bool:
    """Whether a block scalar has all line ends at its end (`|+`)."""
    header = HEADER.search(text, start_of(event)[0])
    return header is not None and "+" in header.group(1)
