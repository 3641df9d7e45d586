"""The text of a document changed where it stands: from what a document is and shall be to the few places of
its text that differ.

Called by specs.edit, which reads the result again and compares: what is told here need not be right, but
nearly always is. All else stays byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from specs.edit_block import Block, Slot
from specs.edit_changes import same
from specs.edit_nodes import Node
from specs.edit_places import Awkward, column_of, line_break, replaced, skip_space
from specs.edit_text import Layout


def spliced(text: str, root: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The text with the document at `root`, which is `old`, made into `new`; Awkward where that cannot be."""
    return _spliced(Block(text, layout_of(text, root)), root, old, new)


def spliced_apart(text: str, root: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The same, with the aliases of all that changes written out, so that they keep their own values."""
    apart = frozenset(_changing_anchors(root, old, new))
    if not apart:
        raise Awkward
    return _spliced(Block(text, layout_of(text, root), apart), root, old, new)


def spliced_quoted(text: str, root: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The same, without new block scalars, to which lines of spaces below could be added."""
    apart = frozenset(_changing_anchors(root, old, new))
    layout = replace(layout_of(text, root), scripts=False)
    return _spliced(Block(text, layout, apart), root, old, new)


def _spliced(block: Block, root: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if not old or not new:
        raise Awkward
    return replaced(block.text, block.value(Slot(root, -1, 0), old, new))


def _changing_anchors(node: Node, old: Any, new: Any) -> Iterator[str]:
    """The anchors of values that change, or may go."""
    if same(old, new):
        return
    if node.kind == "mapping" and isinstance(new, Mapping):
        yield from [node.anchor] if node.anchor else []
        for key, value in node.entries:
            yield from _changing_anchors(value, old.get(key.text), new.get(key.text))
    else:
        yield from (each.anchor for each in node.inside() if each.anchor and each.kind != "alias")


def layout_of(text: str, root: Node) -> Layout:
    """How a document is indented, by its first mapping and its first list inside a mapping."""
    steps, dashes = [2], [2]
    waiting = [root]
    while waiting and (len(steps) < 2 or len(dashes) < 2):
        node = waiting.pop(0)
        for key, value in node.entries if node.kind == "mapping" else ():
            if value.is_block and value.kind == "mapping":
                steps.append(value.children[0].column - key.column)
            elif value.is_block:
                dashes.append(column_of(text, skip_space(text, value.content)) - key.column)
        waiting += [child for child in node.children if child.is_block]
    step, dash = steps[:2][-1], dashes[:2][-1]
    return Layout(step if 0 < step < 9 else 2, dash if 0 <= dash < 9 else 2, line_break(text))
