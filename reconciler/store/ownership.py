"""One daemon a database: a lock that ends with the process, on SQLite a file's, on PostgreSQL an advisory one.

Two daemons with different data directories on one database would each take up the other's trials.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.errors import Stalled

_KEY = 0x57EE25  # of the advisory lock; any number that nobody else uses


class Held(Protocol):
    """A lock that is held until `close`."""

    def close(self) -> None:
        """Let go."""


def take(url: str) -> Held:
    """Hold the database, or refuse with a sentence. Blocking."""
    return _file(url) if url.startswith("sqlite") else _advisory(url)


def _file(url: str) -> Held:
    path = Path(f"{make_url(url).database}.lock")
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise Stalled(
            "DatabaseUnavailable", f"the database cannot be opened: {error.strerror}: {path}"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Stalled(
            "DatabaseHeld", "another daemon uses this database; stop it, or give another one"
        ) from error
    return file


def _advisory(url: str) -> Held:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise Stalled("DatabaseUnavailable", f"the database cannot be opened: {error.orig}") from error
    if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
        connection.close()
        raise Stalled("DatabaseHeld", "another daemon uses this database; stop it, or give another one")
    return connection
