"""Who holds a database: locks that end with the process, on SQLite a file's, on PostgreSQL advisory ones.

On SQLite there is one daemon. On PostgreSQL all daemons share one lock, so that nobody migrates or moves the database
under them, and one of them has another: the lead. Both belong to the connection that writes. Where that is lost, the
daemon writes nothing before it has them again, and the lead only if nobody else had it meanwhile (`leader_epoch`).
"""

from __future__ import annotations

import fcntl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.errors import Stalled, Transient
from reconciler.store.engine import file_of, is_sqlite, open_engine
from reconciler.store.tables import meta

_KEY, _LEAD = 0x57EE25, 0x57EE26  # of the advisory locks; any numbers that nobody else uses
_AGAIN = 0.2
_HELD = "another daemon uses this database; stop it, or give another one"
_LOST = "this daemon no longer leads; another one does, or will"
_IDLE = {"idle_session_timeout": "8s", "tcp_user_timeout": "8s"}
"""The server ends the session of a leader that is stopped or cut off, and with it the lead."""


LEAD_LOST = "LeadLost"
"""The reason of what a daemon may not write that led before."""

_NEXT_EPOCH = update(meta).values(leader_epoch=meta.c.leader_epoch + 1).returning(meta.c.leader_epoch)


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


class Session:
    """What each new connection of a daemon's writer takes: its share of the database and, while it leads, the lead."""

    def __init__(self) -> None:
        self.epoch: int | None = None  # of the lead; None: it does not lead

    def hold(self, connection: Any, _record: Any = None) -> None:
        """Take it on a new connection of the driver, or close that and refuse. `Transient`."""
        connection.autocommit = True
        try:
            if not _try(connection, "pg_try_advisory_lock_shared", _KEY):
                raise Transient("DatabaseHeld", _HELD)
            if self.epoch is not None:
                self._lead_on(connection, self.epoch)
        except Transient:
            connection.close()
            raise
        except Exception as error:
            connection.close()
            raise Transient("DatabaseUnavailable", f"the database does not answer: {error}") from error
        connection.autocommit = False

    def lead(self, connection: Connection) -> bool:
        """Take the lead in this transaction of the writer's, if nobody has it; another epoch begins with it."""
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LEAD}).scalar():
            return False
        for name, value in _IDLE.items():
            connection.execute(
                text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
            )
        self.epoch = connection.execute(_NEXT_EPOCH).scalar_one()
        return True

    def follow(self, connection: Connection) -> None:
        """Give the lead up on the writer's connection."""
        for name in _IDLE:
            connection.execute(text(f"SET {name} TO DEFAULT"))
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LEAD})

    def _lead_on(self, connection: Any, epoch: int) -> None:
        """The connection was lost, and perhaps with it the lead."""
        if not _try(connection, "pg_try_advisory_lock", _LEAD):
            raise Transient(LEAD_LOST, _LOST)
        (now,) = connection.execute("SELECT leader_epoch FROM meta").fetchone()
        if now != epoch:
            raise Transient(LEAD_LOST, _LOST)
        for name, value in _IDLE.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def take_overs(connection: Connection) -> int:
    """How often a daemon has taken the lead."""
    return int(connection.execute(select(meta.c.leader_epoch)).scalar_one())


def _try(connection: Any, function: str, key: int) -> bool:
    (done,) = connection.execute(f"SELECT {function}(%s)", (key,)).fetchone()
    return bool(done)


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


class _Advisory:
    """A lock that is free as soon as `close` returns; that a connection has ended a server notices later."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Let go."""
        with suppress(DBAPIError):  # a connection that is lost holds nothing
            self._connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _KEY})
        self._connection.close()


def _advisory(url: str) -> Held:
    engine = open_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise Stalled("DatabaseUnavailable", f"the database cannot be opened: {error.orig}") from error
    if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar():
        connection.close()
        raise Stalled("DatabaseHeld", _HELD)
    return _Advisory(connection)
