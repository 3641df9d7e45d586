"""Rows of `answers`: what was answered to a request with an idempotency key, sealed, for a day."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from reconciler.store.rows import upsert
from reconciler.store.tables import answers


@dataclass(frozen=True, slots=True)
class Answered:
    """`request` is the digest of what was asked, `sealed` the answer."""

    subject: str
    key: str
    request: str
    sealed: str
    expires: datetime


def find(connection: Connection, subject: str, key: str, now: datetime) -> Answered | None:
    """What was answered to this subject under this key, if that still counts."""
    query = select(answers).where(answers.c.subject == subject, answers.c.key == key, answers.c.expires > now)
    row = connection.execute(query).one_or_none()
    return None if row is None else Answered(*row)


def save(connection: Connection, answer: Answered) -> None:
    """In the place of one that does not count any more."""
    upsert(connection, answers, [asdict(answer)], key=("subject", "key"))


def forget(connection: Connection, now: datetime) -> int:
    """Drop what does not count any more; how many."""
    return connection.execute(delete(answers).where(answers.c.expires <= now)).rowcount
