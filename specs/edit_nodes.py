"""A document as a tree of nodes that know where they stand in the text.

Called by what edits texts. Block collections end at the next token in libyaml, at the end of their last leaf
here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from yaml.events import DocumentStartEvent, Event, MappingStartEvent, ScalarEvent

from specs.edit_events import CLOSING, OPENING, end_of, end_of_scalar, events, keeps_line_ends, start_of
from specs.edit_places import Awkward, skip_space

Kind = Literal["plain", "mapping", "list", "alias"]

_PROPERTY = re.compile(r"[&!]\S*")


class Node(NamedTuple):
    """A value in a text: from `start`, with its anchor, over `content`, without, up to `end`.

    `style` is a quote, `|` or `>` for plain values (`|+` or `>+` where line ends at the end count), `{` or `[`
    for collections in flow style, `:` for a single pair without braces. `children` are items, or keys and
    values in turn. `anchor` is that of the value, or the one that an alias names.
    """

    kind: Kind
    start: int
    content: int
    end: int
    column: int
    style: str
    text: str = ""
    children: tuple[Node, ...] = ()
    anchor: str = ""

    @property
    def entries(self) -> tuple[tuple[Node, Node], ...]:
        """Keys and values of a mapping."""
        return tuple(zip(self.children[::2], self.children[1::2], strict=True))

    @property
    def is_block(self) -> bool:
        """Whether it is a mapping or list in block style."""
        return self.kind in ("mapping", "list") and not self.style

    @property
    def is_script(self) -> bool:
        """Whether it is a block scalar."""
        return self.style[:1] in ("|", ">")

    @property
    def keeps(self) -> bool:
        """Whether blank lines below it would be a part of it."""
        if self.is_block and self.children:
            return self.children[-1].keeps
        return self.is_script and self.style.endswith("+")

    def inside(self) -> Iterator[Node]:
        """The node and all nodes in it."""
        yield self
        for child in self.children:
            yield from child.inside()


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    event: Event
    children: list[Node] = field(default_factory=list)


def document_at(text: str, line: int) -> Node:
    """The root of the document of a readable text whose root begins at a line; Awkward if there is none."""
    stack: list[_Open] = []
    looking = False
    for event in events(text):
        kind = type(event)
        if looking:
            looking = False
            if start_of(event)[1] + 1 != line:
                continue
            if kind not in OPENING:
                return _leaf(text, event)
            stack.append(_Open(event))
        elif kind is DocumentStartEvent:
            looking = True
        elif not stack:
            continue
        elif kind in OPENING:
            stack.append(_Open(event))
        else:
            node = _collection(text, stack.pop(), event) if kind in CLOSING else _leaf(text, event)
            if not stack:
                return node
            stack[-1].children.append(node)
    raise Awkward


def _leaf(text: str, event: Event) -> Node:
    start, _, column = start_of(event)
    anchor = _anchor(event)
    if not isinstance(event, ScalarEvent):
        return Node("alias", start, start, end_of(event), column, "", anchor=anchor)
    end = end_of_scalar(text, event)
    content = min(_content(text, event, start), end) if anchor else start
    style = event.style or ""
    if style in ("|", ">") and keeps_line_ends(text, event):
        style += "+"
    return Node("plain", start, content, end, column, style, event.value, (), anchor)


def _collection(text: str, opened: _Open, closing: Event) -> Node:
    event: Any = opened.event
    start, _, column = start_of(event)
    kind: Kind = "mapping" if isinstance(event, MappingStartEvent) else "list"
    style, end = "", opened.children[-1].end if opened.children else end_of(event)
    if event.flow_style and end_of(closing) > start_of(closing)[0]:
        style, end = "{" if kind == "mapping" else "[", end_of(closing)
    elif event.flow_style:
        style = ":"
    content = _content(text, event, start)
    return Node(kind, start, content, end, column, style, "", tuple(opened.children), _anchor(event))


def _anchor(event: Any) -> str:
    return event.anchor or ""


def _content(text: str, event: Any, start: int) -> int:
    """Where a value begins behind its anchor; with a tag, where that begins: both go together."""
    if event.tag is not None or not event.anchor:
        return start
    match = _PROPERTY.match(text, start)
    return skip_space(text, match.end()) if match else start
