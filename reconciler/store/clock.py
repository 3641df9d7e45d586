"""The database's own clock: what several machines compare must not depend on each one's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, literal_column

from reconciler.store.tables import Instant

_POSTGRESQL = literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", Instant)
_SQLITE = literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", Instant)


def now(connection: Connection) -> Any:
    """An expression for the time now."""
    return _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
