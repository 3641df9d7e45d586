"""A document written anew where its text cannot be changed in place: ruamel's round trip, which keeps
comments but not all spacing.

Called by specs.edit, for that one document, and only after splicing has failed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

from specs.edit_changes import same
from specs.edit_lists import aligned, staying
from specs.edit_nodes import Node
from specs.edit_places import Awkward, is_alone, line_end, line_start, with_plain_breaks
from specs.edit_splice import layout_of
from specs.edit_text import Layout, literal, parts, text

_WIDTH = 2**20


def dumped(whole: str, root: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The text with the document at `root`, which is `old`, written as `new`; Awkward if ruamel cannot."""
    layout = layout_of(whole, root)
    start = line_start(whole, root.start) if is_alone(whole, root.start) else root.start
    end = line_end(whole, root.end)
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.indent(mapping=layout.step, sequence=layout.dash + 2, offset=layout.dash)
    out = io.StringIO()
    try:
        loaded = yaml.load(with_plain_breaks(whole[start:end]))
        _change(loaded, old, new, layout, _often(loaded))
        yaml.dump(loaded, out)
    except Exception:  # what ruamel cannot read or write, it tells in many ways
        raise Awkward from None
    written = out.getvalue().removesuffix("\n").replace("\n", layout.line_break)
    return whole[:start] + written + whole[end:]


def _change(target: Any, old: Any, new: Any, layout: Layout, often: set[int]) -> None:
    """Makes a loaded mapping or list, which is `old`, into `new`; what else is in it stays the same object."""
    if isinstance(old, Mapping):
        for key in [key for key in old if key not in new]:
            del target[key]
        for key, value in new.items():
            if key not in old:
                target[key] = _fresh(value, layout)
            elif not same(old[key], value):
                target[key] = _value(target[key], old[key], value, layout, often)
        return
    sources = aligned(old, new)
    stay = staying(sources)
    values = [
        _fresh(value, layout) if source is None else _value(target[source], old[source], value, layout, often)
        for source, value in zip(sources, new, strict=True)
    ]
    kept = {sources[at] for at in stay}
    for at in reversed(range(len(old))):
        if at not in kept:
            del target[at]
    for at, value in enumerate(values):
        if at in stay:
            target[at] = value
        else:
            target.insert(at, value)


def _value(target: Any, old: Any, new: Any, layout: Layout, often: set[int]) -> Any:
    if same(old, new):
        return target
    if (
        isinstance(target, (CommentedMap, CommentedSeq))
        and type(old) is type(new)
        and id(target) not in often
    ):
        _change(target, old, new, layout, often)
        return target
    if isinstance(new, str) and isinstance(target, (DoubleQuotedScalarString, SingleQuotedScalarString)):
        return type(target)(new)
    return _fresh(new, layout)


def _fresh(value: Any, layout: Layout) -> Any:
    """A value that ruamel writes as specs.edit_text does."""
    if isinstance(value, Mapping):
        return CommentedMap((key, _fresh(item, layout)) for key, item in value.items())
    if isinstance(value, list):
        items = CommentedSeq(_fresh(item, layout) for item in value)
        if parts(value, layout)[0]:
            items.fa.set_flow_style()
        return items
    if not isinstance(value, str):
        return value
    if literal(value, layout):
        return LiteralScalarString(value)
    return value if text(value, inside=True) == value else DoubleQuotedScalarString(value)


def _often(loaded: Any) -> set[int]:
    """The mappings and lists that stand in several places through aliases."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, (Mapping, Sequence)) or isinstance(value, str):
            continue
        if id(value) in seen:
            found.add(id(value))
            continue
        seen.add(id(value))
        waiting += value.values() if isinstance(value, Mapping) else value
    return found
