"""The database: engine, transactions, and the version and events that close each of them (design 15).

`Database.write` runs one function in one transaction; everything that changes state goes through it, so that a kill
at any point leaves the state before or after, never between. The functions of this package take a plain SQLAlchemy
`Connection` and are called inside it, in a thread: one hop a transaction costs less than half of an asynchronous
driver's hop a statement, and nothing blocks the event loop. It knows no table but `meta` and `events`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection as Connection  # the doors and passes name it without knowing SQL
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from reconciler.errors import Refused, Transient
from reconciler.model.event import SYSTEM, Actor, Event, Recorded
from reconciler.store import chain

T = TypeVar("T")
_READERS = 3
_WRITES = "steersman_writes"
_json = msgspec.json


class Write:
    """One transaction being written: its connection, its time, and the events that will record it."""

    def __init__(self, connection: Connection, version: int, now: datetime) -> None:
        self.connection = connection
        self.version = version
        self.now = now
        self.actor = SYSTEM
        self.events: list[Event] = []
        self.names: list[str] = []

    def record(
        self, kind: str, key: str | None, body: dict[str, Any], *, revision: str | None = None
    ) -> None:
        """One more event of this transaction, in order."""
        self.events.append(Event(kind, key, body, revision))

    def wake(self, name: str) -> None:
        """A name to wake once this is committed."""
        self.names.append(name)


class Database:
    """One engine. Writes are one at a time within the process, in one thread; reads run beside them in others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._immediate = engine.execution_options(**{_WRITES: True})
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._listeners: list[Callable[[int, Recorded | None], None]] = []
        self.version = 0
        self.wake: Callable[[str], None] = lambda _: None

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
        """Run `work` in one transaction, then advance the version and append its events to the chain."""
        loop = asyncio.get_running_loop()
        result, write, records = await loop.run_in_executor(self._writer, self._write, work, actor)
        self.version = max(self.version, write.version)
        for listener in tuple(self._listeners):
            for recorded in records or (None,):
                listener(write.version, recorded)
        for name in write.names:
            self.wake(name)
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` in one read transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def load_version(self) -> int:
        """Read the version of the last commit; at start, and to see whether the database answers."""
        self.version = max(self.version, await self.read(chain.version))
        return self.version

    async def close(self) -> None:
        """Finish what is being written and give all connections back."""
        await asyncio.to_thread(self._close)

    def _write(self, work: Callable[[Write], T], actor: Actor) -> tuple[T, Write, list[Recorded]]:
        with _explained(), self._immediate.begin() as connection:
            return _transaction(connection, work, actor)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with _explained(), self._engine.connect() as connection:
            connection.begin()  # one moment for all that it reads; nothing to commit
            return query(connection)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        self._engine.dispose()


@contextmanager
def _explained() -> Iterator[None]:
    """A database that does not answer is a passing trouble, a value that it cannot hold the caller's."""
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:
        raise Refused(
            "InvalidText", "a value holds a character that cannot be stored, such as NUL"
        ) from error
    except OperationalError as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _transaction(
    connection: Connection, work: Callable[[Write], T], actor: Actor
) -> tuple[T, Write, list[Recorded]]:
    now = datetime.now(UTC)
    version, head, seq = chain.lock(connection)
    write = Write(connection, version + 1, now)
    write.actor = actor
    result = work(write)
    records: list[Recorded] = []
    for item in write.events:
        record = chain.append(connection, item, write.actor, now, head, seq := seq + 1)
        head = record.hash
        records.append(record)
    chain.advance(connection, write.version, head)
    return result, write, records


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
        arguments = {"timeout": 5, "check_same_thread": False}
        engine = create_engine(url, pool_size=_READERS + 1, connect_args=arguments, **options)
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _begin)
    else:
        engine = create_engine(url, pool_size=_READERS + 1, pool_pre_ping=True, **options)
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
    """A write takes SQLite's lock at once: one that reads first could not be let in later."""
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
