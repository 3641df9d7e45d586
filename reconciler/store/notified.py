"""Rows of `notified`: up to which event each receiver of a Notification has been told, and how that goes.

The key of a row is a Notification's KEY with a receiver; `fingerprint` says where that was. A receiver begins at the
end of the log, and again when it has moved. What waits has no rows: it is the events after `seq`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reconciler.store import events
from reconciler.store.database import Write
from reconciler.store.prepared import Prepared
from reconciler.store.tables import notified

_AT = (notified.c.key == bindparam("of"), notified.c.receiver == bindparam("to"))
_ONE = Prepared(select(notified).where(*_AT))


@dataclass(frozen=True, slots=True)
class Cursor:
    """`tries`, `error`, `again_at`, `failing_since`: of the event after `seq`; `delivered`: how many so far."""

    key: str
    receiver: str
    fingerprint: str
    seq: int
    tries: int = 0
    again_at: datetime | None = None
    error: str | None = None
    failing_since: datetime | None = None
    delivered: int = 0
    delivered_at: datetime | None = None


def load(connection: Connection, key: str, receiver: str) -> Cursor | None:
    """That of one receiver."""
    row = _ONE.one_or_none(connection, of=key, to=receiver)
    return None if row is None else _cursor(row)


def load_all(connection: Connection, keys: Collection[str] | None = None) -> list[Cursor]:
    """Those of some Notifications, or of all."""
    query = select(notified).order_by(notified.c.key, notified.c.receiver)
    if keys is not None:
        query = query.where(notified.c.key.in_(list(keys)))
    return [_cursor(row) for row in connection.execute(query)]


def follow(write: Write, key: str, wanted: Mapping[str, str]) -> None:
    """The receivers of a Notification are these, by fingerprint; what failed is tried again at once."""
    known = {cursor.receiver: cursor for cursor in load_all(write.connection, [key])}
    gone = [receiver for receiver, cursor in known.items() if wanted.get(receiver) != cursor.fingerprint]
    if gone:
        write.connection.execute(delete(notified).where(notified.c.key == key, notified.c.receiver.in_(gone)))
    last = events.last(write.connection)
    fresh = [
        {"key": key, "receiver": receiver, "fingerprint": mark, "seq": last, "tries": 0, "delivered": 0}
        for receiver, mark in wanted.items()
        if receiver in gone or receiver not in known
    ]
    if fresh:
        write.connection.execute(insert(notified), fresh)
    hurry(write, key, wanted)


def hurry(write: Write, key: str, receivers: Collection[str]) -> None:
    """What failed is tried again at once."""
    of = notified.c.key == key, notified.c.receiver.in_(list(receivers))
    write.connection.execute(update(notified).where(*of).values(again_at=None))


def drop(write: Write, keys: Sequence[str]) -> None:
    """Notifications that are no more."""
    write.connection.execute(delete(notified).where(notified.c.key.in_(list(keys))))


def move(write: Write, cursor: Cursor, **changed: Any) -> bool:
    """Store what has become of it; False: meanwhile it was moved by somebody else."""
    same = (
        notified.c.key == cursor.key,
        notified.c.receiver == cursor.receiver,
        notified.c.fingerprint == cursor.fingerprint,
        notified.c.seq == cursor.seq,
    )
    return write.connection.execute(update(notified).where(*same).values(**changed)).rowcount == 1


def _cursor(row: Any) -> Cursor:
    return Cursor(
        row.key,
        row.receiver,
        row.fingerprint,
        row.seq,
        row.tries,
        row.again_at,
        row.error,
        row.failing_since,
        row.delivered,
        row.delivered_at,
    )
