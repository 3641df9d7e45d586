"""Reading the event log; it is written by `reconciler.store.chain` only."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, Row, func, select

from reconciler.model.event import Actor, Event, Recorded
from reconciler.store import chain
from reconciler.store.tables import events, meta


def after(
    connection: Connection, seq: int, limit: int, key: str | None = None, kind: str | None = None
) -> list[Recorded]:
    """Events after a number, oldest first."""
    query = select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
    if key is not None:
        query = query.where(events.c.key == key)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    return [_recorded(row) for row in connection.execute(query)]


def of_kinds(connection: Connection, seq: int, kinds: Collection[str], limit: int) -> list[Recorded]:
    """Events of some kinds after a number, oldest first."""
    query = select(events).where(events.c.seq > seq, events.c.kind.in_(sorted(kinds)))
    return [_recorded(row) for row in connection.execute(query.order_by(events.c.seq).limit(limit))]


def before(
    connection: Connection, seq: int | None, limit: int, key: str | None = None, kind: str | None = None
) -> list[Recorded]:
    """Events before a number, or all, newest first."""
    query = select(events).order_by(events.c.seq.desc()).limit(limit)
    if seq is not None:
        query = query.where(events.c.seq < seq)
    if key is not None:
        query = query.where(events.c.key == key)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    return [_recorded(row) for row in connection.execute(query)]


def last(connection: Connection) -> int:
    """The number of the newest event, 0 if there is none."""
    return connection.execute(select(func.max(events.c.seq))).scalar() or 0


def verify(connection: Connection) -> tuple[int, str | None]:
    """Check the whole chain: number of events, and the first fault in words."""
    head = connection.execute(select(meta.c.chain_head)).scalar_one()
    return chain.verify(chain.stored(connection), head)


def _recorded(row: Row) -> Recorded:  # type: ignore[type-arg]
    actor = Actor(row.actor, row.token, row.address)
    event = Event(row.kind, row.key, msgspec.json.decode(row.body), row.revision)
    return Recorded(row.seq, row.at, actor, event, row.hash)
