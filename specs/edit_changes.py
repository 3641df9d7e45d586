"""Changes of a document as values: what differs between two mappings, and what a mapping is after changes.

Called by specs.edit and what writes its texts. Knows values only, never a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specs.compose import DEEPEST
from specs.edit_lists import aligned
from specs.messages import label
from specs.model import Steps

_LARGEST = 2**63


class Uneditable(ValueError):
    """A change that cannot be made in a text; the sentence says where, and what a person can do."""


class Unstorable(Uneditable):
    """A value that no document can hold: where, in steps from its root, and why."""

    def __init__(self, steps: Steps, why: str) -> None:
        super().__init__(f"{label(steps)} {why}")
        self.steps = steps
        self.why = why


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a document: the value at `steps` is set to `value`, or removed.

    Steps begin at the document's root. An index that equals the length of its list appends; removing what is
    not there changes nothing.
    """

    steps: Steps
    value: Any = None
    remove: bool = False

    @classmethod
    def removal(cls, steps: Steps) -> Change:
        """What stands at `steps` goes."""
        return cls(steps, remove=True)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal with their types: 1, True, 1.0 and "1" all differ."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], base: Steps = ()) -> list[Change]:
    """The fewest changes that make `old` into `new`, in the order in which they are to be made.

    `base` is where both stand in their document. A list is set as a whole where items come in between, are
    moved, or are plain values; edit then finds out which of its lines stay.
    """
    return list(_between(old, new, base))


def _between(old: Any, new: Any, steps: Steps) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and (new or not steps):
        yield from (Change.removal((*steps, key)) for key in old if key not in new)
        for key, value in new.items():
            if key in old:
                yield from _between(old[key], value, (*steps, key))
            else:
                yield Change((*steps, key), value)
    elif isinstance(old, list) and isinstance(new, list) and not all(map(_is_plain, (*old, *new))):
        yield from _of_lists(old, new, steps)
    elif not same(old, new):
        yield Change(steps, new)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (Mapping, list))


def _of_lists(old: list[Any], new: list[Any], steps: Steps) -> Iterator[Change]:
    sources = aligned(old, new)
    kept = [source for source in sources if source is not None]
    if not kept or sources[: len(kept)] != sorted(kept):
        yield Change(steps, new)
        return
    gone = set(range(len(old))).difference(kept)
    yield from (Change.removal((*steps, at)) for at in sorted(gone, reverse=True))
    for at, source in enumerate(kept):
        yield from _between(old[source], new[at], (*steps, at))
    yield from (Change((*steps, at), new[at]) for at in range(len(kept), len(new)))


def applied(document: Any, changes: Iterable[Change]) -> Any:
    """The value of a document after changes, made one after the other; the old value is left as it is.

    Raises Uneditable where a path leads through a plain value, or a value is none that a document can hold.
    """
    for change in changes:
        document = _changed(document, change, 0)
    return document


def _changed(value: Any, change: Change, depth: int) -> Any:
    if depth == len(change.steps):
        return storable(change.value, change.steps)
    step = change.steps[depth]
    if isinstance(step, int):
        return _changed_list([] if value is None else value, step, change, depth)
    if value is not None and not isinstance(value, Mapping):
        raise Uneditable(f"{_where(change, depth)} is not a mapping, so {step} cannot be changed in it")
    entries = dict(value or {})
    if not change.remove:
        entries[step] = _changed(entries.get(step), change, depth + 1)
    elif step in entries:
        if depth + 1 == len(change.steps):
            del entries[step]
        else:
            entries[step] = _changed(entries[step], change, depth + 1)
    else:
        return value
    return entries


def _changed_list(value: Any, step: int, change: Change, depth: int) -> Any:
    if not isinstance(value, list):
        raise Uneditable(f"{_where(change, depth)} is not a list, so no item of it can be changed")
    items, last = list(value), depth + 1 == len(change.steps)
    if change.remove and (step >= len(items) or last):
        del items[step : step + 1]
    elif not 0 <= step <= len(items):
        raise Uneditable(f"{_where(change, depth)} has {len(items)} item(s), so [{step}] cannot be set")
    else:
        items[step:] = [
            _changed(items[step] if step < len(items) else None, change, depth + 1),
            *items[step + 1 :],
        ]
    return items


def _where(change: Change, depth: int) -> str:
    return label(change.steps[:depth]) if depth else "the document"


def storable(value: Any, steps: Steps = ()) -> Any:
    """A copy of a JSON value; Unstorable if a document cannot hold it."""
    if len(steps) >= DEEPEST and isinstance(value, (Mapping, list, tuple)):
        raise Unstorable(steps[:3], f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Unstorable(steps, f"has a key that is not text: {key}")
            _check_text(key, steps)
        return {key: storable(item, (*steps, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item, (*steps, at)) for at, item in enumerate(value)]
    if isinstance(value, str):
        _check_text(value, steps)
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_LARGEST <= value < _LARGEST:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise Unstorable(steps, f"cannot be held by a specification: {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, (int, float)):
        return "the number is endless, or has more than 64 bits"
    return f"it is a {type(value).__name__}, not JSON"


def _check_text(text: str, steps: Steps) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unstorable(steps, "holds half of a surrogate pair, which is no character") from None
