"""The fingerprint of the server's key in `meta`: which key file belongs to this store (design 7.5)."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from reconciler.store.tables import meta


def load(connection: Connection) -> str | None:
    """The fingerprint; None before the first start."""
    found: str | None = connection.execute(select(meta.c.key_fingerprint)).scalar_one()
    return found


def save(connection: Connection, fingerprint: str, before: str | None) -> None:
    """Store it, if it is what it was `before` still."""
    unchanged = meta.c.key_fingerprint.is_not_distinct_from(before)
    connection.execute(update(meta).where(unchanged).values(key_fingerprint=fingerprint))
