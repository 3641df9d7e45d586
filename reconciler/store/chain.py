"""The end of every write transaction: version and hash chain (design 15, security: a log that cannot be rewritten).

Each event's hash covers the one before, so that a changed, removed or inserted record is found by `verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    bindparam,
    cast,
    func,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import DatabaseError

from reconciler.model.event import Actor, Event, Recorded
from reconciler.store.prepared import Prepared
from reconciler.store.tables import Instant, events, meta

GENESIS = "0" * 64
_MAX = select(func.max(events.c.seq).label("last"))
_VERSION = Prepared(select(meta.c.version))
_HEAD = Prepared(select(meta.c.version, meta.c.chain_head, _MAX.scalar_subquery().label("last")))
_LOCKED_HEAD = Prepared(select(meta.c.version, meta.c.chain_head).with_for_update())
_LAST = Prepared(_MAX)
_ADVANCE = Prepared(update(meta).values(version=bindparam("new_version"), chain_head=bindparam("head")))
_APPEND = Prepared(insert(events))


def lock(connection: Connection) -> tuple[int, str, int]:
    """Take the write lock of the whole store; gives (version, chain head, last event number).

    On SQLite the transaction has it from its beginning.
    """
    if connection.dialect.name == "sqlite":
        (row,) = _HEAD.all(connection)
        return row.version, row.chain_head, row.last or 0
    (row,) = _LOCKED_HEAD.all(connection)
    (last,) = _LAST.all(
        connection
    )  # by itself: a statement that waits for a lock looks at events as they were before
    return row.version, row.chain_head, last.last or 0


def version(connection: Connection) -> int:
    """The version of the last commit."""
    (row,) = _VERSION.all(connection)
    return int(row.version)


def append(connection: Connection, event: Event, actor: Actor, at: datetime, head: str, seq: int) -> Recorded:
    """Write the event as the chain's next link."""
    body = msgspec.json.encode(dict(event.body), order="sorted").decode()
    mark = link(head, seq, at, actor, event.kind, event.key, event.revision, body)
    _APPEND.run(
        connection,
        seq=seq,
        at=at,
        actor=actor.subject,
        token=actor.token,
        address=actor.address,
        kind=event.kind,
        key=event.key,
        revision=event.revision,
        body=body,
        hash=mark,
    )
    return Recorded(seq, at, actor, event, mark)


def advance(connection: Connection, version: int, head: str) -> None:
    """The last statement of a transaction."""
    _ADVANCE.run(connection, new_version=version, head=head)


def link(  # noqa: PLR0913  - the columns of one record
    head: str,
    seq: int,
    at: datetime,
    actor: Actor,
    kind: str,
    key: str | None,
    revision: str | None,
    body: str,
) -> str:
    """The hash of one record over the one before."""
    micros = Instant().process_bind_param(at, None)
    return _mark(head, seq, micros, actor.subject, actor.token, actor.address, kind, key, revision, body)


def _mark(head: str, *columns: Any) -> str:
    return hashlib.sha256(msgspec.json.encode([head, *columns])).hexdigest()


def stored(connection: Connection) -> Iterator[Sequence[Any]]:
    """All records in order, as they are stored: nothing of them is trusted to be what it should be."""
    plain = [events.c.seq, type_coerce(events.c.at, BigInteger)]
    texts: list[Any] = [column for column in events.c if column.name not in ("seq", "at")]
    if connection.dialect.name == "sqlite":  # which takes any bytes for text
        texts = [cast(column, LargeBinary) for column in texts]
    yield from connection.execute(select(*plain, *texts).order_by(events.c.seq))


def verify(rows: Iterable[Sequence[Any]], head: str) -> tuple[int, str | None]:
    """A whole log in order: how many records are sound, and the first fault in words. None: it ends in `head`."""
    last, sound = GENESIS, 0
    records = iter(rows)
    while True:
        try:
            row = next(records, None)
        except DatabaseError:  # the file itself is damaged
            return sound, f"event {sound + 1} cannot be read"
        if row is None:
            break
        if row[0] != sound + 1:
            return sound, f"event {sound + 1} is missing"
        try:
            *columns, found = (each.decode() if isinstance(each, bytes) else each for each in row)
        except UnicodeDecodeError:
            return sound, f"event {sound + 1} was changed: it holds no text"
        last = _mark(last, *columns)
        if last != found:
            return sound, f"event {sound + 1} was changed, or the one before it"
        sound += 1
    if last == head:
        return sound, None
    return (
        sound,
        f"the log does not end as it did: after event {sound} some were cut off, or that one was changed",
    )
