"""Rows of `timers` and `seen_tags`: due times of schedule triggers, and tags that were there before a Build.

A Repository's manifests are submitted for new heads of branches: those it has seen are kept here as well, by branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, select

from reconciler.model.timer import Timer
from reconciler.store.prepared import Prepared
from reconciler.store.rows import upsert
from reconciler.store.tables import seen_tags, timers

_TIMERS = Prepared(select(timers).where(timers.c.key == bindparam("of")))
_TAGS = Prepared(select(seen_tags.c.tag, seen_tags.c.commit).where(seen_tags.c.key == bindparam("of")))


def load(connection: Connection, key: str) -> dict[int, Timer]:
    """The timers of one resource by position."""
    return {
        row.position: Timer(row.position, row.digest, row.last_due, row.next_due, row.since)
        for row in _TIMERS.all(connection, of=key)
    }


def save(connection: Connection, key: str, timer: Timer) -> None:
    """Store one due time."""
    values = {
        "key": key,
        "position": timer.position,
        "digest": timer.digest,
        "last_due": timer.last_due,
        "next_due": timer.next_due,
        "since": timer.since,
    }
    upsert(connection, timers, [values], ["key", "position"])


def current(connection: Connection, key: str, timer: Timer) -> bool:
    """Is this still ahead of what is stored? Guards against firing twice for the same."""
    row = connection.execute(
        select(timers.c.last_due, timers.c.since, timers.c.digest).where(
            timers.c.key == key, timers.c.position == timer.position
        )
    ).one_or_none()
    if row is None or row.digest != timer.digest:
        return False
    pairs = ((row.last_due, timer.last_due), (row.since, timer.since))
    return all(stored is None or new is None or stored < new for stored, new in pairs)


def trim(connection: Connection, key: str, positions: Sequence[int]) -> None:
    """Drop timers of triggers that are no more."""
    connection.execute(delete(timers).where(timers.c.key == key, timers.c.position.not_in(list(positions))))


def remove(connection: Connection, keys: Sequence[str]) -> None:
    """Drop all timers and tags of removed resources."""
    for table in (timers, seen_tags):
        connection.execute(delete(table).where(table.c.key.in_(list(keys))))


def upcoming(connection: Connection, limit: int = 1000) -> list[tuple[str, Timer]]:
    """Due times in order, soonest first, with their KEY."""
    query = select(timers).where(timers.c.next_due.is_not(None)).order_by(timers.c.next_due).limit(limit)
    return [
        (row.key, Timer(row.position, row.digest, row.last_due, row.next_due, row.since))
        for row in connection.execute(query)
    ]


def summary(connection: Connection) -> tuple[int, datetime | None]:
    """How many schedules there are, and the next due time of all."""
    row = connection.execute(select(func.count(timers.c.next_due), func.min(timers.c.next_due))).one()
    return row[0], row[1]


def load_tags(connection: Connection, key: str) -> dict[str, str]:
    """Tags that were seen before, with the commit they named."""
    return {row.tag: row.commit for row in _TAGS.all(connection, of=key)}


def drop_tags(connection: Connection, key: str, tags: Sequence[str]) -> None:
    """Forget tags that are no more."""
    for tag in tags:
        connection.execute(delete(seen_tags).where(seen_tags.c.key == key, seen_tags.c.tag == tag))


def save_tags(connection: Connection, key: str, tags: Mapping[str, str]) -> None:
    """Note tags as seen."""
    rows = [{"key": key, "tag": tag, "commit": commit} for tag, commit in tags.items()]
    upsert(connection, seen_tags, rows, ["key", "tag"])
