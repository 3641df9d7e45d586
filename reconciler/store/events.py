"""Reading the event log; it is written by `reconciler.store.chain` only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Text, case, cast, func, literal, select

from reconciler.model.event import Actor, Event, Recorded
from reconciler.store import chain
from reconciler.store.tables import events, meta

APPLIED = "revision-applied"
"""The kind of the events that hold plans."""

_LONGEST = 20_000


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
    """Events before a number, or all, newest first; of a body beyond 20,000 characters only `omitted`, its length."""
    long = func.length(events.c.body) > _LONGEST
    told = literal('{"omitted":').concat(cast(func.length(events.c.body), Text)).concat("}")
    columns = [column for column in events.c if column is not events.c.body]
    query = select(*columns, case((long, told), else_=events.c.body).label("body"))
    query = query.order_by(events.c.seq.desc()).limit(limit)
    if seq is not None:
        query = query.where(events.c.seq < seq)
    if key is not None:
        query = query.where(events.c.key == key)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    return [_recorded(row) for row in connection.execute(query)]


class Brief(msgspec.Struct, frozen=True):
    """An action of a plan that was applied; `changes` are JSON that was not looked into."""

    action: str
    key: str
    location: str
    changes: msgspec.Raw

    def to_dict(self) -> dict[str, Any]:
        """As plans show it."""
        changes = msgspec.json.decode(self.changes)
        return {"action": self.action, "key": self.key, "location": self.location, "changes": changes}


class _Applied(msgspec.Struct):
    actions: list[Brief] = []
    errors: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Applied:
    """A revision that was applied, with what it did."""

    seq: int
    at: datetime
    revision: str
    actions: list[Brief]
    errors: list[dict[str, Any]]


def applied(
    connection: Connection, seq: int | None, limit: int, revision: str | None = None
) -> list[Applied]:
    """Revisions that were applied before an event's number, or all; newest first. Plans may be long."""
    query = select(events.c.seq, events.c.at, events.c.revision, events.c.body)
    query = query.where(events.c.kind == APPLIED).order_by(events.c.seq.desc()).limit(limit)
    if seq is not None:
        query = query.where(events.c.seq < seq)
    if revision is not None:
        query = query.where(events.c.revision == revision)
    return [
        Applied(row.seq, row.at, row.revision or "", body.actions, body.errors)
        for row in connection.execute(query)
        for body in [msgspec.json.decode(row.body, type=_Applied)]
    ]


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
