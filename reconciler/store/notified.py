"""Rows of `notified`: up to which event each receiver of a Notification has been told, and how that goes.

The key of a row is a Notification's KEY with a receiver; `fingerprint` says how that is declared. A receiver begins at
the end of the log. What waits has no rows: it is the events after `seq`, as `filters` choose them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reconciler.store.database import Write
from reconciler.store.prepared import Prepared
from reconciler.store.tables import notified

_AT = (notified.c.key == bindparam("of"), notified.c.receiver == bindparam("to"))
_ONE = Prepared(select(notified).where(*_AT))


@dataclass(frozen=True, slots=True)
class Cursor:
    """`tries`, `error`, `again_at`, `failing_since`: of the event after `seq`; `delivered`: how many so far.

    `filters`: {upto, events, keys}, the oldest first; the last, without `upto`, is the declared one. `stopped`: it
    wants no more. Of mails, `refused`: {address: why} of the last one, and `put_off`: those that some addresses have
    yet to get, {seq, to: {address: why}, tries, again_at}.
    """

    key: str
    receiver: str
    fingerprint: str
    seq: int
    filters: Sequence[Mapping[str, Any]]
    tries: int = 0
    again_at: datetime | None = None
    error: str | None = None
    failing_since: datetime | None = None
    delivered: int = 0
    delivered_at: datetime | None = None
    stopped: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    put_off: Sequence[Mapping[str, Any]] = ()


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


def begin(write: Write, cursor: Cursor) -> None:
    """A new receiver."""
    row = {
        "key": cursor.key,
        "receiver": cursor.receiver,
        "fingerprint": cursor.fingerprint,
        "seq": cursor.seq,
        "filters": list(cursor.filters),
        "tries": 0,
        "delivered": 0,
        "stopped": False,
        "refused": {},
        "put_off": [],
    }
    write.connection.execute(insert(notified), [row])


def change(write: Write, cursor: Cursor, **changed: Any) -> None:
    """Store what a commit means for a receiver."""
    same = notified.c.key == cursor.key, notified.c.receiver == cursor.receiver
    write.connection.execute(update(notified).where(*same).values(**changed))


def hurry(write: Write, key: str, receivers: Collection[str]) -> None:
    """What failed is tried again at once."""
    of = notified.c.key == key, notified.c.receiver.in_(list(receivers))
    write.connection.execute(update(notified).where(*of).values(again_at=None))


def drop(write: Write, cursor: Cursor) -> None:
    """A receiver that is no more."""
    of = notified.c.key == cursor.key, notified.c.receiver == cursor.receiver
    write.connection.execute(delete(notified).where(*of))


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
        key=row.key,
        receiver=row.receiver,
        fingerprint=row.fingerprint,
        seq=row.seq,
        filters=row.filters,
        tries=row.tries,
        again_at=row.again_at,
        error=row.error,
        failing_since=row.failing_since,
        delivered=row.delivered,
        delivered_at=row.delivered_at,
        stopped=row.stopped,
        refused=row.refused,
        put_off=row.put_off,
    )
