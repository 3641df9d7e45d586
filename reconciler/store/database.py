"""The database: engine, transactions, and the version and event that close each of them (design 15).

`Database.write` runs one function in one transaction; everything that changes state goes through it, so that a kill
at any point leaves the state before or after, never between. The functions of this package take a plain SQLAlchemy
`Connection` and are called inside it. It knows no table but `meta` and `events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection as Connection  # the doors and passes name it without knowing SQL
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from reconciler.errors import Transient
from reconciler.model.event import SYSTEM, Actor, Event, Recorded
from reconciler.store import chain

T = TypeVar("T")
_json = msgspec.json


class Write:
    """One transaction being written: its connection, its time, and the event that will record it."""

    def __init__(self, connection: Connection, version: int, now: datetime) -> None:
        self.connection = connection
        self.version = version
        self.now = now
        self.actor = SYSTEM
        self.event: Event | None = None

    def record(
        self, kind: str, key: str | None, body: dict[str, Any], *, revision: str | None = None
    ) -> None:
        """The event of this transaction; there is at most one."""
        self.event = Event(kind, key, body, revision)


class Database:
    """One engine. Writes are one at a time within the process; reads run beside them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = asyncio.Lock()
        self._listeners: list[Callable[[int, Recorded | None], None]] = []
        self.version = 0

    @property
    def sqlite(self) -> bool:
        """SQLite, as against PostgreSQL."""
        return self._engine.dialect.name == "sqlite"

    def subscribe(self, listener: Callable[[int, Recorded | None], None]) -> None:
        """Call `listener(version, event)` on the event loop after each commit."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[int, Recorded | None], None]) -> None:
        """No longer call it."""
        self._listeners.remove(listener)

    async def write(self, work: Callable[[Write], T], actor: Actor = SYSTEM) -> T:
        """Run `work` in one transaction, then advance the version and append its event to the chain."""
        async with self._writing:
            try:
                async with self._engine.begin() as connection:
                    result, version, recorded = await connection.run_sync(_transaction, work, actor)
            except OperationalError as error:
                raise _unavailable(error) from error
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise _unavailable(error) from error
                raise
            self.version = version
        for listener in tuple(self._listeners):
            listener(version, recorded)
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` in one read transaction."""
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(query)
        except OperationalError as error:
            raise _unavailable(error) from error

    async def load_version(self) -> int:
        """Read the version of the last commit; once, at start."""
        self.version = await self.read(chain.version)
        return self.version

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()


def _transaction(
    connection: Connection, work: Callable[[Write], T], actor: Actor
) -> tuple[T, int, Recorded | None]:
    now = datetime.now(UTC)
    version, head, seq = chain.lock(connection)
    write = Write(connection, version + 1, now)
    write.actor = actor
    result = work(write)
    recorded = None
    if write.event is not None:
        recorded = chain.append(connection, write.event, write.actor, now, head, seq + 1)
    chain.advance(connection, write.version, recorded.hash if recorded else head)
    return result, write.version, recorded


def _unavailable(error: DBAPIError) -> Transient:
    text = str(error.orig)
    if "locked" in text:
        return Transient("DatabaseLocked", "another process holds the database; trying again")
    if "full" in text or "disk I/O" in text:
        return Transient("DatabaseUnavailable", f"the database cannot be written: {text}")
    return Transient("DatabaseUnavailable", f"the database does not answer: {text}")


def connect(url: str) -> Database:
    """An engine for the URL, with the pragmas that SQLite needs."""
    options: dict[str, Any] = {"json_serializer": _dumps, "json_deserializer": _json.decode}
    if url.startswith("sqlite"):
        engine = create_async_engine(url, pool_size=5, max_overflow=5, connect_args={"timeout": 5}, **options)
        event.listen(engine.sync_engine, "connect", _pragmas)
        event.listen(engine.sync_engine, "begin", _begin)
    else:
        engine = create_async_engine(url, pool_size=5, max_overflow=10, pool_pre_ping=True, **options)
    return Database(engine)


def _dumps(value: Any) -> str:
    return _json.encode(value).decode()


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin ourselves: the driver's own implicit BEGIN is too late
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=5000",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
