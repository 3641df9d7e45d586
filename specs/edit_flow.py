"""What changes in a text inside a collection in flow style: each entry or item stays as it is written, with
the separator before it.

Called by specs.edit_block. Comments between entries that come or go are more than it can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.edit_changes import same
from specs.edit_lists import aligned
from specs.edit_nodes import Node
from specs.edit_places import Awkward, Splice, replaced
from specs.edit_text import flow

_COLON = re.compile(r"\s*:")


@dataclass(frozen=True, slots=True)
class _Part:
    """An entry or item as it stands: where it begins, its value, and the end of its key if it has one."""

    start: int
    node: Node
    key_end: int | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An entry or item as it shall be: which part it was, its values before and after, and its new text."""

    source: int | None
    old: Any
    new: Any
    fresh: str


def is_concerned(node: Node, old: Any, new: Any, apart: frozenset[str]) -> bool:
    """Whether a value must change, or holds an alias that is to be written out."""
    if not same(old, new):
        return True
    return bool(apart) and any(each.kind == "alias" and each.anchor in apart for each in node.inside())


def changed_in_flow(
    text: str, node: Node, old: Any, new: Any, apart: frozenset[str] = frozenset()
) -> Iterator[Splice]:
    """What makes a collection that is not empty, and is `old`, into another of its type; aliases of `apart`
    are written out.
    """
    parts, wanted = _of_mapping(node, old, new) if isinstance(old, Mapping) else _of_list(node, old, new)
    stays = [each.source for each in wanted] == list(range(len(parts)))
    pieces: list[str] = []
    for each in wanted:
        if each.source is None:
            pieces.append(each.fresh)
            continue
        part = parts[each.source]
        splices = list(_value(text, part, each.old, each.new, apart))
        if stays:
            yield from splices
        else:
            pieces.append(replaced(text, splices, part.start, part.node.end))
    if not stays:
        yield _joined(text, node, parts, [each.source for each in wanted], pieces)


def _of_mapping(
    node: Node, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[list[_Part], list[_Wanted]]:
    if any(key.text not in old for key, _ in node.entries):  # keys that are faults of the document
        raise Awkward
    parts = [_Part(key.start, value, key.end) for key, value in node.entries]
    kept = [
        _Wanted(at, old[key.text], new[key.text], "")
        for at, (key, _) in enumerate(node.entries)
        if key.text in new
    ]
    added = [
        _Wanted(None, None, value, flow({name: value})[1:-1])
        for name, value in new.items()
        if name not in old
    ]
    return parts, kept + added


def _of_list(node: Node, old: Sequence[Any], new: Sequence[Any]) -> tuple[list[_Part], list[_Wanted]]:
    sources = zip(aligned(old, new), new, strict=True)
    parts = [_Part(item.start, item, None) for item in node.children]
    return parts, [_Wanted(at, None if at is None else old[at], item, flow(item)) for at, item in sources]


def _value(text: str, part: _Part, old: Any, new: Any, apart: frozenset[str]) -> Iterator[Splice]:
    node = part.node
    if not is_concerned(node, old, new, apart):
        return
    if node.style in ("{", "[", ":") and old and new and type(old) is type(new):
        yield from changed_in_flow(text, node, old, new, apart)
    elif node.start < node.end:
        yield node.content, node.end, flow(new, style=node.style if node.kind == "plain" else "")
    else:
        colon = None if part.key_end is None else _COLON.match(text, part.key_end)
        if colon is None:
            raise Awkward
        yield colon.end(), node.end, f" {flow(new)}"


def _joined(
    text: str, node: Node, parts: Sequence[_Part], sources: Sequence[int | None], pieces: Sequence[str]
) -> Splice:
    """The inside of a collection put together from its pieces, with the separators that it has."""
    if node.style == ":":
        raise Awkward
    inside, end = text.index(node.style, node.content) + 1, node.end - 1
    starts, ends = [part.start for part in parts], [part.node.end for part in parts]
    opening, closing = text[inside : starts[0]], text[ends[-1] : end]
    between = [text[stop:start] for stop, start in zip(ends[:-1], starts[1:], strict=True)]
    if any("#" in each for each in (opening, closing, *between)):
        raise Awkward
    usual = between[0] if between else f",{opening}" if opening.strip(" ") else ", "
    out = [opening]
    before: int | None = None
    for at, (source, piece) in enumerate(zip(sources, pieces, strict=True)):
        if at:
            stood = before is not None and source == before + 1
            out.append(between[before] if stood and before is not None else usual)
        out.append(piece)
        before = source
    return inside, end, "".join([*out, closing])
