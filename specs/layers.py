"""Layers of fields: a document's own over its Environment's defaults over its Project's; merged, and traced
back.

Called by the evaluation and by `origins`. Never judges a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.document import Document
from specs.model import Steps
from specs.positions import Position, pointer


@dataclass(frozen=True, slots=True)
class Layer:
    """Fields from one place: `base` is where they stand in the document; without a document, they are a
    last good version.
    """

    path: str
    base: Steps
    values: Mapping[str, Any]
    document: Document | None

    def position(self, steps: Steps, *, key: bool = False) -> Position:
        """Where a value (or its key) of this layer stands."""
        if self.document is None:
            return 1, 1
        return self.document.positions.nearest(pointer((*self.base, *steps)), key=key)


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """The fields of all layers, the first one strongest: mappings by key, all else replaced, null means
    built-in.
    """
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        _merge_into(merged, layer.values)
    return merged


def _merge_into(merged: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            inner = merged.get(name)
            inner = inner if isinstance(inner, dict) else {}
            merged[name] = inner
            _merge_into(inner, value)
        else:
            merged[name] = without_nulls(value)


def without_nulls(value: Any) -> Any:
    """A copy without entries that are null, at any depth; items of lists stay."""
    if isinstance(value, Mapping):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def holder(layers: Sequence[Layer], steps: Steps) -> tuple[Layer, Steps]:
    """The strongest layer that holds the value at a path, or the nearest value around it, and how much of
    the path.
    """
    for length in range(len(steps), 0, -1):
        for layer in layers:
            if _holds(layer.values, steps[:length]):
                return layer, steps[:length]
    return layers[0], ()


def _holds(values: Any, steps: Steps) -> bool:
    for step in steps:
        if isinstance(values, Mapping):
            if values.get(str(step)) is None:
                return False
            values = values[str(step)]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return False
    return True


def fields(spec: Mapping[str, Any], layers: Sequence[Layer]) -> Iterator[tuple[str, Steps]]:
    """The effective fields whose origin is worth naming: top-level ones, and the entries of merged
    mappings.
    """
    for name, value in spec.items():
        inner = [layer for layer in layers if isinstance(layer.values.get(name), Mapping)]
        if inner and isinstance(value, Mapping) and value:
            yield from ((f"{name}.{entry}", (name, entry)) for entry in value)
        else:
            yield name, (name,)
