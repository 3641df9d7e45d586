"""What a revision does to products: numbers of what is new, gone or renamed, and a changeset (pdc, 2.5, 9).

Called in the transaction that stores the revision, so that numbers, changesets and specifications are never apart. It
compares what was in force with what is now, and so does not care who changed it, or how.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reconciler.model.product import KINDS, RESOURCES, SCHEDULE, Pair, body_of, name_of
from reconciler.model.resource import Resource
from reconciler.model.told import Told
from reconciler.store import products
from reconciler.store.database import Write
from reconciler.store.products import Changeset

T = TypeVar("T")
_MOST_TITLES = 20
_ENTRY = "schedule "
_NOTHING = "null"


@dataclass(frozen=True, slots=True)
class _Difference:
    """Of one sort of objects: what they were and are, by name, and what is whose successor (old → new)."""

    resource: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    moved: Mapping[str, str]


def note(
    write: Write,
    before: Mapping[str, Resource],
    stored: Iterable[Resource],
    removed: Iterable[str],
    told: Sequence[Told] = (),
    numbering: Sequence[tuple[str, str]] = (),
) -> None:
    """Keep numbers and changesets in step; `told` is what the commits say of themselves, oldest first.

    `numbering` are (sort, name) of new objects in the order in which they are numbered, before all others.
    """
    now = {each.key: each for each in stored if each.kind in KINDS}
    keys = [*now, *(key for key in removed if key.partition("/")[0] in KINDS)]
    if not keys:
        return
    renamed = _renamed(told)
    turns = {each: turn for turn, each in enumerate(numbering)}
    changes: list[dict[str, Any]] = []
    for found in _differences(keys, before, now, renamed):
        before_numbers, numbers = _settle(write, found, turns)
        changes += _changes(found, before_numbers, numbers)
    if changes:
        _keep(write, changes, told)


def _differences(
    keys: Iterable[str],
    before: Mapping[str, Resource],
    now: Mapping[str, Resource],
    renamed: Mapping[str, str],
) -> Iterator[_Difference]:
    old_specs = {key: found for key in keys if (found := _spec(before.get(key))) is not None}
    new_specs = {key: found for key in keys if (found := _spec(now.get(key))) is not None}
    moved_keys = _moved(renamed.items(), old_specs, new_specs)
    for kind, resource in RESOURCES.items():
        yield _Difference(
            resource,
            _named(kind, old_specs),
            _named(kind, new_specs),
            {_name(old): _name(new) for old, new in moved_keys.items() if old.startswith(f"{kind}/")},
        )
    old_pairs, new_pairs = _pairs(old_specs), _pairs(new_specs)
    moved = _moved_pairs(old_pairs, new_pairs, moved_keys, renamed)
    yield _Difference(
        SCHEDULE,
        {name_of(pair): _entry(pair, date) for pair, date in old_pairs.items()},
        {name_of(pair): _entry(pair, date) for pair, date in new_pairs.items()},
        {name_of(old): name_of(new) for old, new in moved.items()},
    )


def _moved_pairs(
    old: Mapping[Pair, str], new: Mapping[Pair, str], keys: Mapping[str, str], renamed: Mapping[str, str]
) -> dict[Pair, Pair]:
    """Entries that have another name: by themselves, or with their release."""
    alone = [
        (_pair(source), _pair(target)) for source, target in renamed.items() if source.startswith(_ENTRY)
    ]
    names = {_name(source): _name(target) for source, target in keys.items()}
    taken_along = [(pair, (names[pair[0]], pair[1])) for pair in old if pair[0] in names]
    return _moved([*alone, *taken_along], old, new)


def _moved(renamed: Iterable[tuple[T, T]], old: Collection[T], new: Collection[T]) -> dict[T, T]:
    """What has another name indeed, whatever was said before of either name; the first that is said counts.

    The old name is gone, or another one's now; the new one was not there, or has moved on.
    """
    possible = [(source, target) for source, target in renamed if source in old and target in new]
    while True:
        found: dict[T, T] = {}
        reached: set[T] = set()
        for source, target in possible:
            if source not in found and target not in reached:
                found[source] = target
                reached.add(target)
        wrong = {
            (source, target)
            for source, target in found.items()
            if (source in new and source not in reached) or (target in old and target not in found)
        }
        if not wrong:
            return found
        possible = [each for each in possible if each not in wrong]


def _settle(
    write: Write, found: _Difference, turns: Mapping[tuple[str, str], int]
) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The numbers of the objects by their names before, and by their names now."""
    sources = {new: old for old, new in found.moved.items()}
    kept = {
        name for name in found.new if name in found.old and name not in found.moved and name not in sources
    }
    gone = [name for name in found.old if name not in kept and name not in found.moved]
    new = [name for name in found.new if name not in kept and name not in sources]
    known = products.of(write.connection, found.resource, found.old)
    new += [name for name in kept if name not in known]
    new.sort(key=lambda name: turns.get((found.resource, name), len(turns)))
    given = products.settle(write.connection, found.resource, gone, found.moved, new)
    return known, known | given


def _changes(
    found: _Difference, before: Mapping[str, int], now: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """One for each object that is not what it was. An entry whose release has a new name is what it was."""
    sources = {new: old for old, new in found.moved.items()}
    for name, value in found.new.items():
        source = sources.get(name, name if name not in found.moved else None)
        old = found.old.get(source) if source is not None else None
        if old != value and not _follows(found.resource, old, value):
            yield _change(found.resource, now[name], old, value)
    for name, old in found.old.items():
        if name in before and name not in found.moved and (name not in found.new or name in sources):
            yield _change(found.resource, before[name], old, None)


def _follows(resource: str, old: Any, new: Any) -> bool:
    """Has an entry only been taken along by its release?"""
    return resource == SCHEDULE and old is not None and {**old, "release": ""} == {**new, "release": ""}


def _change(resource: str, number: int, old: Any, new: Any) -> dict[str, Any]:
    return {
        "resource": resource,
        "resource_id": str(number),
        "old_value": _NOTHING if old is None else json.dumps(old, ensure_ascii=False, sort_keys=True),
        "new_value": _NOTHING if new is None else json.dumps(new, ensure_ascii=False, sort_keys=True),
    }


def _keep(write: Write, changes: list[dict[str, Any]], told: Sequence[Told]) -> None:
    newest = told[-1] if told else None
    asked = newest.at if newest is not None and newest.at is not None else write.now
    changeset = Changeset(0, _author(newest), _comment(told), changes, min(asked, write.now), write.now)
    products.add(write.connection, changeset, {change["resource"] for change in changes})


def _author(told: Told | None) -> str | None:
    """The name of a subject, else as Git has it."""
    if told is None:
        return None
    return told.subject.partition("/")[2] if told.subject is not None else told.name or None


def _comment(told: Sequence[Told]) -> str | None:
    """What the caller of an API said; of pushed commits, which they are."""
    if len(told) == 1 and told[0].at is not None:
        return told[0].comment
    lines = [each.comment or f"{each.commit} {each.title}" for each in told[-_MOST_TITLES:]]
    return "\n".join(lines) or None


def _renamed(told: Iterable[Told]) -> dict[str, str]:
    """Old → new over all commits: what was renamed twice has its last name."""
    found: dict[str, str] = {}
    for commit in told:
        step = dict(commit.renamed)
        followed = {old: step.get(new, new) for old, new in found.items()}
        reached = set(found.values())
        found = followed | {old: new for old, new in step.items() if old not in reached}
    return {old: new for old, new in found.items() if old != new}


def _spec(resource: Resource | None) -> Mapping[str, Any] | None:
    return None if resource is None else resource.spec


def _named(kind: str, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        _name(key): body_of(kind, _name(key), spec)
        for key, spec in specs.items()
        if key.startswith(f"{kind}/")
    }


def _pairs(specs: Mapping[str, Mapping[str, Any]]) -> dict[Pair, str]:
    return {
        (_name(key), sla): date
        for key, spec in specs.items()
        if key.startswith("ProductRelease/")
        for sla, date in spec["schedule"].items()
    }


def _entry(pair: Pair, date: str) -> dict[str, str]:
    return {"release": pair[0], "sla": pair[1], "date": date}


def _pair(name: str) -> Pair:
    """`schedule RELEASE<tab>SLA` as a trailer names it."""
    release, _, sla = name.removeprefix(_ENTRY).partition("\t")
    return release, sla


def _name(key: str) -> str:
    return key.partition("/")[2]
