"""What changes in a text inside mappings and lists in block style.

Called by specs.edit_splice with the root of a document. Each value stands in a slot behind a `:` or a dash;
it is changed inside, or another one is written over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.edit_flow import changed_in_flow, is_concerned
from specs.edit_lists import aligned, staying
from specs.edit_nodes import Node
from specs.edit_places import Awkward, Splice, column_of, has_break, is_alone, line_end, replaced
from specs.edit_spans import Span, are_apart, cuts, entry_spans, inserted, item_spans
from specs.edit_text import Layout, entry_lines, item_lines, literal, parts

_COLON = re.compile(r"[ \t]*:")
_HEADER = re.compile(r"[|>]([-+0-9]*)")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a value stands: behind a `:` or `-` that ends at `after` (-1 for a root), of a key or dash at
    `column`.
    """

    node: Node
    after: int
    column: int
    is_item: bool = False


class Block:
    """The splices of one text; aliases of the anchors in `apart` are written out."""

    def __init__(self, text: str, layout: Layout, apart: frozenset[str] = frozenset()) -> None:
        self.text = text
        self.layout = layout
        self.apart = apart

    def value(self, slot: Slot, old: Any, new: Any) -> Iterator[Splice]:
        """What makes the value in a slot, which is `old`, into `new`."""
        node = slot.node
        if not is_concerned(node, old, new, self.apart):
            return
        if not (old and new and node.kind in ("mapping", "list") and type(old) is type(new)):
            yield from self._instead(slot, new)
        elif node.style:
            yield from changed_in_flow(self.text, node, old, new, self.apart)
        elif node.kind == "mapping":
            yield from self._mapping(slot, old, new)
        else:
            yield from self._list(slot, old, new)

    def _mapping(self, slot: Slot, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Splice]:
        entries = slot.node.entries
        if any(key.text not in old for key, _ in entries):  # keys that are faults of the document
            raise Awkward
        gone = {at for at, (key, _) in enumerate(entries) if key.text not in new}
        if len(gone) == len(entries):
            yield from self._instead(slot, new)
            return
        for key, value in entries:
            name = key.text
            if name in new and is_concerned(value, old[name], new[name], self.apart):
                inner = Slot(value, self._colon(key), key.column)
                yield from self.value(inner, old[name], new[name])
        end = line_end(self.text, slot.node.end)
        added = [name for name in new if name not in old]
        for name in added:
            lines = entry_lines(name, new[name], self.layout)
            yield end, end, self._below(lines, entries[0][0].column)
        yield from cuts(self.text, entry_spans(self.text, slot.node), gone)

    def _list(self, slot: Slot, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Splice]:
        sources = aligned(old, new)
        stay = staying(sources)
        if not stay:
            yield from self._instead(slot, new)
            return
        items, spans = slot.node.children, item_spans(self.text, slot.node)
        column = column_of(self.text, spans[0].start)
        slots = [Slot(item, span.start + 1, column, True) for item, span in zip(items, spans, strict=True)]
        in_flow = all(item.style == "{" for item in items)
        gap = self.layout.line_break if are_apart(self.text, spans) else ""
        before: Span | None = None
        for at, source in enumerate(sources):
            inner = () if source is None else self.value(slots[source], old[source], new[at])
            if source is not None and at in stay:
                yield from inner
                before = spans[source]
                continue
            if source is None:
                lines = self._below(item_lines(new[at], self.layout, in_flow=in_flow), column)
            else:
                lines = self.layout.line_break + self._moved(spans[source], inner)
            yield inserted(self.text, spans[0], before, lines, gap)
        kept = {sources[at] for at in stay}
        yield from cuts(self.text, spans, {at for at in range(len(items)) if at not in kept})

    def _moved(self, span: Span, splices: Iterable[Splice]) -> str:
        """An item as it stands, with its own changes, for another place of its list."""
        if is_alone(self.text, span.start):
            return replaced(self.text, splices, span.lead, span.end)
        indent = " " * column_of(self.text, span.start)
        return indent + replaced(self.text, splices, span.start, span.end)

    def _instead(self, slot: Slot, new: Any) -> Iterator[Splice]:
        """Another value in a slot, written anew."""
        node = slot.node
        head, below = parts(
            new, self.layout, item=slot.is_item, style=node.style if node.kind == "plain" else ""
        )
        if slot.after < 0:
            raise Awkward
        if node.is_block:
            yield from self._over_block(slot, head, below)
        elif node.is_script:
            yield from self._over_script(slot, new, head, below)
        else:
            yield from self._over_line(slot, head, below)

    def _over_line(self, slot: Slot, head: str, below: Sequence[str]) -> Iterator[Splice]:
        """A value where one stands that begins in the line of its key or dash, or where nothing stands."""
        node = slot.node
        if node.content == node.end:
            behind_anchor = node.start < node.end and not (slot.is_item and below)
            begin = node.end if behind_anchor else slot.after
            yield begin, node.end, f" {head}" if head else ""
        elif has_break(self.text, slot.after, node.content):
            if below or not head:
                raise Awkward
            yield node.content, node.end, head
        else:
            yield self._in_line(slot, node.end, head, below)
        if below:
            end = line_end(self.text, node.end)
            yield end, end, self._below(below, slot.column)

    def _over_script(self, slot: Slot, new: Any, head: str, below: Sequence[str]) -> Iterator[Splice]:
        """A value where a block scalar stands; another block scalar is indented as the old one."""
        node = slot.node
        header = _HEADER.match(self.text, node.content)
        if header is None:
            raise Awkward
        first = line_end(self.text, header.end())
        body = self._below(below, slot.column)
        script = literal(new, self.layout, node.style) if isinstance(new, str) else None
        if script and not any(map(str.isdigit, script[0] + header.group(1))):
            content = len(self.text) - len(self.text[first:].lstrip(" \t\r\n"))
            if first < content < node.end:
                body = self._below(script[1], column_of(self.text, content))
        yield node.content if head else slot.after, header.end(), head
        yield first, max(first, node.end), body

    def _over_block(self, slot: Slot, head: str, below: Sequence[str]) -> Iterator[Splice]:
        """A value where a mapping or list in block style stands."""
        node = slot.node
        end, body = line_end(self.text, node.end), self._below(below, slot.column)
        if has_break(self.text, slot.after, node.content):
            behind = node.start + len(f"&{node.anchor}") if node.anchor else slot.after
            if head:
                yield behind, behind, f" {head}"
            yield line_end(self.text, behind), end, body
        else:
            yield self._in_line(slot, end, head + body, below)

    def _in_line(self, slot: Slot, end: int, written: str, below: Sequence[str]) -> Splice:
        """What stands behind a `:` or `-`; the spaces before it stay where nothing must stand below it."""
        if written and not (slot.is_item and below):
            return slot.node.content, end, written
        return slot.after, end, f" {written}" if written else ""

    def _below(self, lines: Sequence[str], column: int) -> str:
        """Lines as they stand below another one."""
        indent = " " * column
        return "".join(self.layout.line_break + (indent + line if line else "") for line in lines)

    def _colon(self, key: Node) -> int:
        """The end of the `:` behind a key."""
        match = _COLON.match(self.text, key.end)
        if match is None:
            raise Awkward
        return match.end()
