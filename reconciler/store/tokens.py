"""Rows of `tokens`: only hashes; each has a subject, a level and a scope, an expiry and its last use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from reconciler.model.rights import LEVELS, Level, Scope
from reconciler.store.rows import new_id
from reconciler.store.tables import tokens


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token before it is stored. `expires` None: only the administrator's of the first start."""

    subject: str
    name: str
    level: Level
    scope: Scope
    created_at: datetime
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """A credential without its secret: its subject's rights, up to a level and inside of a scope."""

    id: str
    subject: str
    name: str
    level: Level
    scope: Scope
    created_at: datetime
    expires: datetime | None
    last_used: datetime | None
    revoked_at: datetime | None

    def valid(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires is None or self.expires > now)

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API: never the secret."""
        return {
            "id": self.id,
            "subject": self.subject,
            "name": self.name,
            "level": self.level.word,
            "project": self.scope.project,
            "environment": self.scope.environment,
            "created_at": self.created_at.isoformat(),
            "expires": self.expires.isoformat() if self.expires else None,
            "last_used": self.last_used.isoformat() if self.last_used else None,
            "revoked_at": self.revoked_at.isoformat() if self.revoked_at else None,
        }


def add(connection: Connection, mark: str, token: NewToken) -> Token:
    """Store a token under the hash of its secret."""
    connection.execute(
        insert(tokens).values(
            id=new_id(),
            hash=mark,
            subject=token.subject,
            name=token.name,
            level=token.level.word,
            project=token.scope.project,
            environment=token.scope.environment,
            created_at=token.created_at,
            expires=token.expires,
        )
    )
    return find(connection, mark)  # type: ignore[return-value]


def find(connection: Connection, mark: str) -> Token | None:
    """The token with this hash."""
    row = connection.execute(select(tokens).where(tokens.c.hash == mark)).one_or_none()
    return None if row is None else _token(row)


def load(connection: Connection, token: str) -> Token | None:
    """The token with this id."""
    row = connection.execute(select(tokens).where(tokens.c.id == token)).one_or_none()
    return None if row is None else _token(row)


def list_all(connection: Connection, subjects: Sequence[str] | None = None) -> list[Token]:
    """All tokens, or those of some subjects; newest first."""
    query = select(tokens).order_by(tokens.c.created_at.desc())
    if subjects is not None:
        query = query.where(tokens.c.subject.in_(subjects))
    return [_token(row) for row in connection.execute(query)]


def used(connection: Connection, ids: dict[str, datetime]) -> None:
    """Note last uses, in bulk."""
    for token, at in ids.items():
        connection.execute(update(tokens).where(tokens.c.id == token).values(last_used=at))


def revoke(connection: Connection, token: str, now: datetime) -> bool:
    """Revoke; False if there is no such token that still counts."""
    changed = connection.execute(
        update(tokens).where(tokens.c.id == token, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    )
    return changed.rowcount == 1


def revoke_within(connection: Connection, project: str, environment: str | None, now: datetime) -> int:
    """Revoke all that are good inside of a project or environment only; how many."""
    where = [tokens.c.project == project, tokens.c.revoked_at.is_(None)]
    if environment is not None:
        where.append(tokens.c.environment == environment)
    return connection.execute(update(tokens).where(*where).values(revoked_at=now)).rowcount


def forget(connection: Connection, before: datetime) -> int:
    """Drop those that were of no use any more before a moment; how many. The event log goes on telling of them."""
    over = or_(tokens.c.expires < before, tokens.c.revoked_at < before)
    return connection.execute(delete(tokens).where(over)).rowcount


def has_administrator(connection: Connection, name: str, subject: str) -> bool:
    """Is there a built-in administrator's token that holds?"""
    query = select(tokens.c.id).where(
        tokens.c.name == name, tokens.c.subject == subject, tokens.c.revoked_at.is_(None)
    )
    return connection.execute(query.limit(1)).first() is not None


def replace_administrator(connection: Connection, mark: str, token: NewToken) -> None:
    """Make this the one built-in administrator's token."""
    connection.execute(
        update(tokens)
        .where(tokens.c.name == token.name, tokens.c.subject == token.subject, tokens.c.hash != mark)
        .values(revoked_at=token.created_at)
    )
    if find(connection, mark) is None:
        add(connection, mark, token)
    else:
        connection.execute(update(tokens).where(tokens.c.hash == mark).values(revoked_at=None))


def _token(row: Row[Any]) -> Token:
    return Token(
        row.id,
        row.subject,
        row.name,
        LEVELS[row.level],
        Scope(row.project, row.environment),
        row.created_at,
        row.expires,
        row.last_used,
        row.revoked_at,
    )
