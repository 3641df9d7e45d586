"""Which items of two lists belong together, and which of them keep their place.

Called by what finds differences, what writes them, and what tells a document's own fields.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

_NAMING = ("name", "id")
_MOST_COMPARED = 250_000


def aligned(old: Sequence[Any], new: Sequence[Any]) -> list[int | None]:
    """For each item of `new`, the index of the item of `old` that it continues, or None if it is a new one.

    Mappings are told by `name` or `id` where all have one, everything else by its value; what is left in the
    same place is taken to be the same, changed.
    """
    ours, theirs, named = _identities(old, new)
    blocks = _same(ours, theirs)
    found = {at + step: start + step for start, at, size in blocks for step in range(size)}
    found |= _moved(ours, theirs, found)
    found |= _changed(blocks, found, named=named)
    return [found.get(at) for at in range(len(new))]


def _same(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int, int]]:
    """Runs of items that are the same in both lists, in order, as (where, where, how many); the last is empty.

    Of very long lists only their beginnings and ends are compared so, as the rest takes time that grows with
    the square.
    """
    shorter = min(len(ours), len(theirs))
    head = next((at for at in range(shorter) if ours[at] != theirs[at]), shorter)
    rest = range(1, shorter - head + 1)
    tail = next((at - 1 for at in rest if ours[-at] != theirs[-at]), shorter - head)
    ends = len(ours) - tail, len(theirs) - tail
    blocks = [(0, 0, head)]
    if (ends[0] - head) * (ends[1] - head) <= _MOST_COMPARED:
        matcher = SequenceMatcher(None, ours[head : ends[0]], theirs[head : ends[1]], autojunk=False)
        blocks += [(head + start, head + at, size) for start, at, size in matcher.get_matching_blocks()]
    return [*blocks, (*ends, tail), (len(ours), len(theirs), 0)]


def _moved(ours: Sequence[str], theirs: Sequence[str], found: Mapping[int, int]) -> dict[int, int]:
    """Items that are in both lists, in another order."""
    used = set(found.values())
    left: dict[str, list[int]] = {}
    for index in reversed(range(len(ours))):
        if index not in used:
            left.setdefault(ours[index], []).append(index)
    wanted = [at for at in range(len(theirs)) if at not in found]
    return {at: left[theirs[at]].pop() for at in wanted if left.get(theirs[at])}


def _changed(
    blocks: Sequence[tuple[int, int, int]], found: Mapping[int, int], *, named: bool
) -> dict[int, int]:
    """Items that are left in the same place between items that are the same; with names, as many of each."""
    used = set(found.values())
    changed: dict[int, int] = {}
    last_old = last_new = 0
    for start, at, size in blocks:
        before = [index for index in range(last_old, start) if index not in used]
        after = [index for index in range(last_new, at) if index not in found]
        if not named or len(before) == len(after):
            changed |= zip(after, before, strict=False)
        last_old, last_new = start + size, at + size
    return changed


def staying(sources: Sequence[int | None]) -> set[int]:
    """The most indexes of a list whose sources ascend: these items keep their place, all others move or are
    new.
    """
    ends: list[int] = []
    tails: list[int] = []
    before: dict[int, int | None] = {}
    for index, source in enumerate(sources):
        if source is None:
            continue
        place = bisect_left(ends, source)
        before[index] = tails[place - 1] if place else None
        ends[place : place + 1] = [source]
        tails[place : place + 1] = [index]
    found: set[int] = set()
    at = tails[-1] if tails else None
    while at is not None:
        found.add(at)
        at = before[at]
    return found


def _identities(old: Sequence[Any], new: Sequence[Any]) -> tuple[list[str], list[str], bool]:
    for key in _NAMING:
        ours, theirs = _names(old, key), _names(new, key)
        if ours is not None and theirs is not None:
            return ours, theirs, True
    return [_token(item) for item in old], [_token(item) for item in new], False


def _names(items: Sequence[Any], key: str) -> list[str] | None:
    """The names of all items, if all have one of their own."""
    names = [item.get(key) if isinstance(item, Mapping) else None for item in items]
    told = [name for name in names if isinstance(name, str)]
    return told if len(set(told)) == len(items) else None


def _token(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
