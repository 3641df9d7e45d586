"""One daemon a database: a lock that ends with the process, on SQLite a file's, on PostgreSQL an advisory one.

Two daemons with different data directories on one database would each take up the other's trials. On PostgreSQL the
daemon's lock belongs to the connection that writes: where that is lost, nothing is written until it is had again.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.errors import Stalled, Transient
from reconciler.store.engine import file_of, is_sqlite, open_engine

_KEY = 0x57EE25  # of the advisory lock; any number that nobody else uses
_AGAIN = 0.2
_HELD = "another daemon uses this database; stop it, or give another one"


class Held(Protocol):
    """A lock that is held until `close`."""

    def close(self) -> None:
        """Let go."""


def take(url: str, patience: float = 0) -> Held:
    """Hold the database, or refuse with a sentence after `patience` seconds. Blocking."""
    until = time.monotonic() + patience
    while True:
        try:
            return _file(url) if is_sqlite(url) else _advisory(url)
        except Stalled as error:
            if error.reason != "DatabaseHeld" or time.monotonic() > until:
                raise
        time.sleep(_AGAIN)


def hold(connection: Any, _record: Any = None) -> None:
    """Make PostgreSQL's lock a part of this new connection of the driver."""
    connection.autocommit = True
    cursor = connection.execute("SELECT pg_try_advisory_lock(%s)", (_KEY,))
    (done,) = cursor.fetchone()
    connection.autocommit = False
    if not done:
        connection.close()
        raise Transient("DatabaseHeld", _HELD)


def _file(url: str) -> Held:
    path = Path(f"{file_of(url)}.lock")
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
        raise Stalled("DatabaseHeld", _HELD) from error
    return file


def _advisory(url: str) -> Held:
    engine = open_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise Stalled("DatabaseUnavailable", f"the database cannot be opened: {error.orig}") from error
    if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
        connection.close()
        raise Stalled("DatabaseHeld", _HELD)
    return connection
