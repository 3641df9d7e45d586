"""Contents by their digest that one machine keeps and others read: which there are, and those kept in chunks.

Called by `reconciler.execution.contents`. A row is written before the bytes come and is complete once they are there.
Who keeps a content again renews its row, and only what was not kept for an hour is dropped, both by the database's
clock and under the row's lock: so what somebody has just kept is never dropped by another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, delete, insert, or_, select, type_coerce, update
from sqlalchemy.dialects import postgresql, sqlite

from reconciler.store import clock
from reconciler.store.tables import content_chunks, contents

DATABASE, OBJECTS = "database", "objects"
YOUNG = 3_600
"""Seconds for which nothing is dropped that was kept: the rows that name it may be written in a moment."""
_UNFINISHED = 86_400
_MICROSECONDS = 1_000_000
_LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Content:
    """What is there of one. `place`: in which of the two the bytes lie."""

    digest: str
    size: int
    place: str
    complete: bool


def keep(connection: Connection, digest: str, size: int, place: str) -> bool:
    """It is kept from now on. True: its bytes are there already; False: they are to be brought to `place`."""
    now = clock.now(connection)
    made: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"digest": digest, "size": size, "place": place, "complete": False, "kept_at": now}
    statement = made(contents).values(row)
    statement = statement.on_conflict_do_update(index_elements=["digest"], set_={"kept_at": now})
    return bool(connection.execute(statement.returning(contents.c.complete)).scalar_one())


def complete(connection: Connection, digest: str, place: str) -> bool:
    """All of its bytes are there. False: it was dropped meanwhile."""
    values = {"complete": True, "place": place, "kept_at": clock.now(connection)}
    query = update(contents).where(contents.c.digest == digest).values(values)
    return connection.execute(query).rowcount == 1


def add(connection: Connection, digest: str, first: int, chunks: Sequence[bytes]) -> bool:
    """Some of its chunks, from a position on; those that are there already stay. False: it was dropped meanwhile."""
    values = {"kept_at": clock.now(connection)}
    if connection.execute(update(contents).where(contents.c.digest == digest).values(values)).rowcount != 1:
        return False
    there = select(content_chunks.c.position).where(
        content_chunks.c.digest == digest, content_chunks.c.position.between(first, first + len(chunks))
    )
    known = set(connection.execute(there).scalars())
    rows = [
        {"digest": digest, "position": position, "data": data}
        for position, data in enumerate(chunks, first)
        if position not in known
    ]
    if rows:
        connection.execute(insert(content_chunks), rows)
    return True


def find(connection: Connection, digest: str) -> Content | None:
    """What is there of it."""
    row = connection.execute(_FOUND.where(contents.c.digest == digest)).one_or_none()
    return None if row is None else Content(*row)


def chunk(connection: Connection, digest: str, position: int) -> bytes | None:
    """One of its chunks; None: there is none."""
    there = content_chunks.c.digest == digest, content_chunks.c.position == position
    data = connection.execute(select(content_chunks.c.data).where(*there)).scalar()
    return None if data is None else bytes(data)


def known(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests of which all is there."""
    query = select(contents.c.digest).where(contents.c.digest.in_(digests), contents.c.complete)
    return set(connection.execute(query).scalars())


def aged(connection: Connection, behind: str, most: int) -> list[str]:
    """Digests in their order, behind one of them, of what was not kept for an hour."""
    query = select(contents.c.digest).where(contents.c.digest > behind, _is_aged(connection))
    return list(connection.execute(query.order_by(contents.c.digest).limit(most)).scalars())


def doom(connection: Connection, digests: Sequence[str]) -> None:
    """Before `drop`, in a transaction of its own: those that were not kept for an hour count as not there, so that who
    keeps one again brings it anew, whatever becomes of the next step.
    """
    query = update(contents).where(contents.c.digest.in_(digests), _is_aged(connection))
    connection.execute(query.values(complete=False, kept_at=_LONG_AGO))


def drop(connection: Connection, digests: Sequence[str]) -> list[Content]:
    """Forget those that were not kept for an hour, with their chunks; gives them: their objects are to go as well."""
    query = delete(contents).where(contents.c.digest.in_(digests), _is_aged(connection))
    gone = [Content(*row) for row in connection.execute(query.returning(*_COLUMNS))]
    if gone:
        names = [content.digest for content in gone]
        connection.execute(delete(content_chunks).where(content_chunks.c.digest.in_(names)))
    return gone


_COLUMNS = (contents.c.digest, contents.c.size, contents.c.place, contents.c.complete)
_FOUND = select(*_COLUMNS)


def _is_aged(connection: Connection) -> Any:
    """What never came whole may still be coming, for a day."""
    now = type_coerce(clock.now(connection), BigInteger)
    kept_at = type_coerce(contents.c.kept_at, BigInteger)
    return or_(
        contents.c.complete & (kept_at < now - YOUNG * _MICROSECONDS),
        kept_at < now - _UNFINISHED * _MICROSECONDS,
    )
