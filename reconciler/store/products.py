"""Numbers of products, versions, releases, SLAs and entries of schedules, and changesets (pdc, 2.1, 2.5).

A number belongs to a thing for as long as that is declared, also under another name, and is never given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from reconciler.model.product import RESOURCES, SCHEDULE, Numbers
from reconciler.store.jobs import next_number
from reconciler.store.tables import changesets, numbers

_SPACE = "products/"
_GIVEN = "products-given/"
_TOGETHER = 400


@dataclass(frozen=True, slots=True)
class Changeset:
    """What one commit changed. `changes` are {resource, resource_id, old_value, new_value}."""

    id: int
    author: str | None
    comment: str | None
    changes: Sequence[Mapping[str, Any]]
    requested_on: datetime
    committed_on: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changesets: each part that is empty or None does not matter."""

    authors: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    comment: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def load(connection: Connection) -> Numbers:
    """All numbers, by (resource, name)."""
    found = {}
    for resource in (*RESOURCES.values(), SCHEDULE):
        rows = connection.execute(
            select(numbers.c.name, numbers.c.number).where(numbers.c.space == _SPACE + resource)
        )
        found.update({(resource, name): number for name, number in rows})
    return found


def of(connection: Connection, resource: str, names: Iterable[str]) -> dict[str, int]:
    """The numbers of some of them, by name."""
    wanted = list(names)
    found: dict[str, int] = {}
    for at in range(0, len(wanted), _TOGETHER):
        rows = connection.execute(
            select(numbers.c.name, numbers.c.number).where(
                numbers.c.space == _SPACE + resource, numbers.c.name.in_(wanted[at : at + _TOGETHER])
            )
        )
        found.update((name, number) for name, number in rows)
    return found


def settle(
    connection: Connection, resource: str, gone: Iterable[str], moved: Mapping[str, str], new: Sequence[str]
) -> dict[str, int]:
    """Take away the numbers of what is gone, keep them through a change of name (old → new), and give new ones.

    The numbers of `moved` by their new names, and of `new`.
    """
    kept = of(connection, resource, moved)
    _drop(connection, resource, [*gone, *moved])
    given = {moved[name]: number for name, number in kept.items()}
    added = [*new, *(name for old, name in moved.items() if old not in kept)]
    if added:
        last = _advance(connection, resource, len(added))
        given |= {name: last - len(added) + 1 + at for at, name in enumerate(added)}
    if given:
        space = _SPACE + resource
        rows = [{"space": space, "name": name, "number": number} for name, number in given.items()]
        connection.execute(insert(numbers), rows)
    return given


def add(connection: Connection, changeset: Changeset, resources: Iterable[str]) -> Changeset:
    """Store one more under a number of its own; `resources` are the sorts of what it changes."""
    stored = replace(changeset, id=next_number(connection, "changeset"))
    connection.execute(
        insert(changesets).values(
            id=stored.id,
            author=stored.author,
            comment=stored.comment,
            changes=list(stored.changes),
            resources=f"|{'|'.join(sorted(resources))}|",
            requested_on=stored.requested_on,
            committed_on=stored.committed_on,
        )
    )
    return stored


def find(connection: Connection, id: int) -> Changeset | None:
    """The changeset with this number."""
    row = connection.execute(select(changesets).where(changesets.c.id == id)).one_or_none()
    return None if row is None else _changeset(row)


def count(connection: Connection, wanted: Wanted) -> int:
    """How many there are of these."""
    return int(
        connection.execute(_narrowed(select(func.count()).select_from(changesets), wanted)).scalar_one()
    )


def listed(connection: Connection, wanted: Wanted, limit: int | None, offset: int) -> list[Changeset]:
    """Some of these, newest first."""
    query = _narrowed(select(changesets), wanted).order_by(changesets.c.id.desc())
    if limit is not None:
        query = query.limit(limit).offset(offset)
    return [_changeset(row) for row in connection.execute(query)]


def changed(connection: Connection) -> dict[str, datetime]:
    """When each sort of object was changed last."""
    found = {}
    for resource in (*RESOURCES.values(), SCHEDULE):
        at = connection.execute(
            select(changesets.c.committed_on)
            .where(changesets.c.resources.contains(f"|{resource}|", autoescape=True))
            .order_by(changesets.c.id.desc())
            .limit(1)
        ).scalar()
        if at is not None:
            found[resource] = at
    return found


def _narrowed(query: Select[Any], wanted: Wanted) -> Select[Any]:
    if wanted.authors:
        query = query.where(changesets.c.author.in_(wanted.authors))
    if wanted.resources:
        parts = [changesets.c.resources.contains(f"|{name}|", autoescape=True) for name in wanted.resources]
        query = query.where(or_(*parts))
    if wanted.comment is not None:
        query = query.where(changesets.c.comment.contains(wanted.comment, autoescape=True))
    if wanted.since is not None:
        query = query.where(changesets.c.committed_on >= wanted.since)
    if wanted.until is not None:
        query = query.where(changesets.c.committed_on <= wanted.until)
    return query


def _drop(connection: Connection, resource: str, names: Sequence[str]) -> None:
    for at in range(0, len(names), _TOGETHER):
        some = names[at : at + _TOGETHER]
        connection.execute(
            delete(numbers).where(numbers.c.space == _SPACE + resource, numbers.c.name.in_(some))
        )


def _advance(connection: Connection, resource: str, by: int) -> int:
    """The last of so many new numbers."""
    space = _GIVEN + resource
    row = numbers.c.space == space, numbers.c.name == "last"
    last = connection.execute(
        update(numbers).where(*row).values(number=numbers.c.number + by).returning(numbers.c.number)
    ).scalar()
    if last is None:
        connection.execute(insert(numbers).values(space=space, name="last", number=by))
        return by
    return int(last)


def _changeset(row: Row[Any]) -> Changeset:
    return Changeset(row.id, row.author, row.comment, row.changes, row.requested_on, row.committed_on)
