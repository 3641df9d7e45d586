"""The database: engine, transactions, and the version and events that close each of them (design 15).

`Database.write` runs one function in one transaction; everything that changes state goes through it, so that a kill
at any point leaves the state before or after, never between. The functions of this package take a plain SQLAlchemy
`Connection` and are called inside it, in a thread: one hop a transaction costs less than half of an asynchronous
driver's hop a statement, and nothing blocks the event loop. It knows no table but `meta` and `events`.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec
import structlog
from sqlalchemy import Connection as Connection  # the doors and passes name it without knowing SQL
from sqlalchemy import Engine, event
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from reconciler.errors import Refused, Stalled, Transient
from reconciler.model.event import SYSTEM, Actor, Event, Recorded
from reconciler.store import chain, events, notices, ownership
from reconciler.store.engine import is_sqlite, lively, open_engine
from reconciler.store.notices import Listening, Notice
from reconciler.store.ownership import Session

log = structlog.get_logger(__name__)
T = TypeVar("T")
_READERS = 3
_ASIDE = 2
_PAGE = 500
_TOGETHER = 32
_WRITES = "steersman_writes"
_PATIENCE = 5  # seconds that a write waits for another process
_OWN_TRIES, _OWN_AGAIN = 20, 0.1  # seconds
_SEND_AGAIN = 0.5
_HALTED = 8  # seconds
_RECENT, _SURE = 1.5, 6.0  # seconds since the writer's session was used
_NOWHERE = "\U0010ffff"  # a code point that stands for no character
_LOCK_TIMEOUT, _NO_RIGHT = "55P03", "42501"
_json = msgspec.json


class Write:
    """One transaction being written: its connection, its time, and the events that will record it."""

    def __init__(self, connection: Connection, version: int, now: datetime, actor: Actor = SYSTEM) -> None:
        self.connection = connection
        self.version = version
        self.now = now
        self.actor = actor
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


@dataclass(slots=True, eq=False)
class _Order:
    """Something to be written, and what came of it: a result with its write and records, or an error."""

    work: Callable[[Write], Any]
    actor: Actor
    prompt: bool
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    write: Write | None = None
    records: list[Recorded] = field(default_factory=list)
    error: BaseException | None = None


class Database:
    """One engine. Writes are one at a time within the process, in one thread; reads run beside them in others.

    What waits to be written while another transaction is at it goes into one together: each is a write of its own, with
    its version and its events, but the way to the disk is the same for all.
    """

    def __init__(
        self,
        readers: Engine,
        writer: Engine,
        asides: Engine | None = None,
        session: Session | None = None,
        opened: Iterable[Any] = (),
    ) -> None:
        """`asides`: connections for what is written outside of versions; None: the writer's.

        `session`: what the writer's connection holds on PostgreSQL, where a daemon opens it; `opened`: all connections
        of its driver, as long as they are there.
        """
        self._opened = opened
        self._session = session
        self._alive_at = -math.inf  # when the writer's session last began something that succeeded
        self._engine = readers
        self._apart = asides
        self._immediate = writer.execution_options(**{_WRITES: True})
        self._orders: deque[_Order] = deque()
        self._prompt: deque[_Order] = deque()
        self._ordering = Lock()
        self._writing = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._asides: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._aside = ThreadPoolExecutor(_ASIDE, thread_name_prefix="store-aside")
        self._listeners: list[Callable[[int, Recorded | None], None]] = []
        self._name = secrets.token_hex(8)
        self._hearing: Listening | None = None
        self._told = 0  # all events up to this one were told to the listeners, and beyond it these
        self._told_beyond: set[int] = set()
        self._unsent: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self._closing = False
        self.version = 0
        self.wake: Callable[[str], None] = lambda _: None
        self.missed: Callable[[], None] = lambda: None
        self.refresh: Callable[[], Awaitable[None]] = _nothing

    @property
    def sqlite(self) -> bool:
        """SQLite, as against PostgreSQL."""
        return self._engine.dialect.name == "sqlite"

    def subscribe(self, listener: Callable[[int, Recorded | None], None]) -> None:
        """Call `listener(version, event)` on the event loop after each commit, of others too while we listen."""
        self._listeners.append(listener)

    def announce(self) -> None:
        """Call the listeners without a commit: what is shown has become another."""
        self._call(self.version, None)

    def unsubscribe(self, listener: Callable[[int, Recorded | None], None]) -> None:
        """No longer call it."""
        self._listeners.remove(listener)

    async def write(self, work: Callable[[Write], T], actor: Actor = SYSTEM, *, prompt: bool = False) -> T:
        """Run `work` in one transaction, then advance the version and append its events to the chain.

        It may be run again, when another one that shared its transaction failed. `prompt`: before all that waits and
        not together with it, as something stands idle meanwhile.
        """
        loop = asyncio.get_running_loop()
        order = _Order(work, actor, prompt, loop, loop.create_future())
        with self._ordering:
            (self._prompt if prompt else self._orders).append(order)
            idle, self._writing = not self._writing, True
        if idle:
            self._submit()
        result: T = await order.done
        return result

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` in one read transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def aside(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that makes no version and no event and waits for no other write.

        For what is written often and concerns one process: heart-beats, parts of logs.
        """
        done: Future[T] = Future()
        if self._apart is not None:
            self._aside.submit(_settle, partial(self._write_aside, self._apart, work), done)
        else:
            self._asides.append((partial(self._write_aside, self._immediate, work), done))
            self._writer.submit(self._write_asides)
        return await asyncio.wrap_future(done)

    async def listen(self) -> None:
        """Hear from now on what other processes commit: `version`, listeners, `wake`, and `missed` after a gap.

        `missed`: names may have been woken that nobody told us of. On SQLite there are no others. `Transient`.
        """
        if self.sqlite or self._hearing is not None:
            return
        hearing = Listening(self._engine, self._name, self._hear, self._catch_up)
        connection = await hearing.connect()
        version, self._told = await self.read(lambda c: (chain.version(c), events.last(c)))
        self.version = max(self.version, version)
        self._hearing = hearing
        hearing.start(connection)

    def send(self, wake: Iterable[str]) -> None:
        """Wake names here and, soon, in the other processes, where nothing of a write tells them. On the event loop."""
        names = tuple(wake)
        for name in names:
            self.wake(name)
        if self.sqlite or self._closing:
            return
        self._unsent.update(dict.fromkeys(names))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="notices sent")

    async def load_version(self) -> int:
        """Read the version of the last commit; at start, and to see whether the database answers."""
        self.version = max(self.version, await self.read(chain.version))
        return self.version

    async def own(self) -> None:
        """Take the writer's connection, and with it a daemon's share of the database. `Stalled`."""
        for left in reversed(
            range(_OWN_TRIES)
        ):  # the server may not have seen yet that the one before is dead
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, self._touch)
            except Transient as error:
                if not left:
                    raise Stalled(error.reason, error.message) from error
                await asyncio.sleep(_OWN_AGAIN)
            else:
                return

    @property
    def leads(self) -> bool:
        """Does this process lead, as far as it can know? Who was not answered for long may have lost the lead."""
        if self._session is None:
            return True
        return self._session.epoch is not None and time.monotonic() - self._alive_at < _SURE

    async def lead(self, work: Callable[[Connection], None]) -> bool:
        """Take the lead if nobody has it, with `work` in the same transaction; False: somebody has. `Transient`.

        Who leads already only does `work`.

        Until `follow` all that is written here is refused with `LEAD_LOST` once another one has led.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._lead, work)

    async def follow(self) -> None:
        """Give the lead up: what is written from now on is no leader's."""
        if self._session is not None:
            self._session.epoch = None
            await asyncio.get_running_loop().run_in_executor(self._writer, self._follow, self._session)

    async def ping(self) -> bool:
        """While leading, every two seconds: else the server takes the lead away. False: it is lost. `Transient`."""
        if self._session is None or time.monotonic() - self._alive_at < _RECENT:
            return True
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._ping)
        except Transient as error:
            if error.reason != ownership.LEAD_LOST:
                raise
            return False
        return True

    def hang_up(self) -> None:
        """End all connections, also those that wait for an answer: the other side is gone, and nobody has told us."""
        for connection in list(self._opened):
            with suppress(Exception):  # it may be closing just now
                handle = socket.socket(fileno=os.dup(connection.fileno()))
                with handle:
                    handle.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Finish what is being written and give all connections back."""
        self._closing = True
        if self._hearing is not None:
            await self._hearing.close()
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=1)
            self._sending.cancel()
        await asyncio.to_thread(self._close)

    def _submit(self) -> None:
        """Let the writer go on; RuntimeError once it is closed, and then for everybody who waits."""
        try:
            self._writer.submit(self._write_all)
        except RuntimeError:
            with self._ordering:
                self._writing = False
                left = [*self._prompt, *self._orders]
                self._prompt.clear()
                self._orders.clear()
            for order in left:
                order.done.cancel()
            raise

    def _write_all(self) -> None:
        """In the writer's thread: everything that waits, until nothing does."""
        while orders := self._next():
            self._write_together(orders)
            self._write_asides()
            for loop, some in groupby(orders, attrgetter("loop")):
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._deliver, list(some))

    def _next(self) -> list[_Order]:
        """What is written next; when nothing waits, the writer rests."""
        with self._ordering:
            found = _taken(self._prompt, _TOGETHER) or _taken(self._orders, _TOGETHER)
            self._writing = bool(found)
        return found

    def _more(self, orders: Sequence[_Order]) -> list[_Order]:
        """What came while these were written and may go with them."""
        with self._ordering:
            room = _TOGETHER - len(orders)
            if orders[0].prompt:
                return _taken(self._prompt, room)
            return [] if self._prompt else _taken(self._orders, room)

    def _write_together(self, orders: list[_Order]) -> None:
        """One transaction; where one of them fails, one for each. What comes meanwhile is added to `orders`."""
        try:
            self._write(orders, self._more)
        except Transient as error:
            for order in orders:
                order.error = error
        except BaseException as alone:
            if len(orders) == 1:
                orders[0].error = alone
                return
            for order in orders:
                try:
                    self._write([order])
                except BaseException as error:
                    order.error = error

    def _write(
        self, orders: list[_Order], more: Callable[[Sequence[_Order]], list[_Order]] = lambda _: []
    ) -> None:
        began = time.monotonic()
        with _explained(), self._immediate.begin() as connection:
            version, head, seq = chain.lock(connection)
            for order in orders:  # which grows
                write = Write(connection, version + 1, datetime.now(UTC), order.actor)
                order.result, order.write, order.records = order.work(write), write, []
                for item in write.events:
                    record = chain.append(connection, item, write.actor, write.now, head, seq := seq + 1)
                    head = record.hash
                    order.records.append(record)
                version = write.version
                if order is orders[-1]:
                    orders += more(orders)
            chain.advance(connection, version, head)
            if not self.sqlite:
                notices.send(connection, Notice(self._name, version, seq, _names(orders)))
        self._alive_at = began

    def _deliver(self, orders: Sequence[_Order]) -> None:
        """On the event loop: what was committed is told in its order."""
        for order in orders:
            error = order.error
            if error is None:
                try:
                    self._tell(order)
                except Exception as fault:
                    error = fault
            if order.done.done():
                continue
            if error is not None:
                order.done.set_exception(error)
            else:
                order.done.set_result(order.result)

    def _tell(self, order: _Order) -> None:
        """Everybody who wants to know of a commit."""
        write = order.write
        if write is None:
            raise RuntimeError("it was not written")
        self.version = max(self.version, write.version)
        new = [item for item in order.records if self._is_news(item)]
        for listener in tuple(self._listeners):
            for recorded in new or (None,):
                listener(write.version, recorded)
        for name in write.names:
            self.wake(name)

    def _is_news(self, recorded: Recorded) -> bool:
        """Not told to the listeners yet, which it is now. While we do not listen nothing comes from elsewhere."""
        if self._hearing is None:
            return True
        if recorded.seq <= self._told or recorded.seq in self._told_beyond:
            return False
        self._told_beyond.add(recorded.seq)
        while self._told + 1 in self._told_beyond:
            self._told += 1
            self._told_beyond.discard(self._told)
        return True

    async def _hear(self, heard: Sequence[Notice]) -> None:
        """Others have committed: their events are told, and what they woke is woken."""
        await self.refresh()
        await self._tell_of_others(max(n.version for n in heard), max(n.event for n in heard))
        if any(notice.wake is None for notice in heard):
            self.missed()
        for name in dict.fromkeys(name for notice in heard for name in notice.wake or ()):
            self.wake(name)

    async def _catch_up(self) -> None:
        """We were deaf, and do not know to what."""
        await self.refresh()
        version, last = await self.read(lambda c: (chain.version(c), events.last(c)))
        await self._tell_of_others(version, last)
        self.missed()

    async def _tell_of_others(self, version: int, last: int) -> None:
        """The listeners learn of all events up to `last` that they do not know, else of the version alone."""
        self.version = max(self.version, version)
        told = False
        if not self._listeners:
            self._told = max(self._told, last)
        while self._told < last:
            found = await self.read(lambda c: events.after(c, self._told, _PAGE))
            for recorded in filter(self._is_news, found):
                told = True
                self._call(self.version, recorded)
            if len(found) < _PAGE:
                break
        if not told:
            self._call(self.version, None)

    def _call(self, version: int, recorded: Recorded | None) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(version, recorded)
            except Exception as error:
                log.error("listener-failed", exc_info=error)

    async def _send(self) -> None:
        """What was not sent yet, as often as it takes."""
        while self._unsent:
            names, self._unsent = self._unsent, {}
            notice = Notice(self._name, self.version, 0, tuple(names))
            try:
                await self.aside(partial(notices.send, notice=notice))
            except Transient:
                self._unsent = names | self._unsent
                await asyncio.sleep(_SEND_AGAIN)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with _explained(), self._engine.connect() as connection:
            connection.begin()  # one moment for all that it reads; nothing to commit
            return query(connection)

    def _write_aside(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with _explained(), engine.begin() as connection:
            return work(connection)

    def _write_asides(self) -> None:
        """In the writer's thread: those that have none of their own."""
        while self._asides:
            _settle(*self._asides.popleft())

    def _touch(self) -> None:
        with _explained(), self._immediate.connect():
            pass

    def _lead(self, work: Callable[[Connection], None]) -> bool:
        if self._session is None:
            return True
        began = time.monotonic()
        if self._session.epoch is not None:  # a session that has lost it is not let in
            with _explained(), self._immediate.begin() as connection:
                work(connection)
            return True
        try:
            with _explained(), self._immediate.begin() as connection:
                if not self._session.lead(connection):
                    return False
                work(connection)
        except BaseException:
            self._session.epoch = None
            self._follow(self._session)
            raise
        self._alive_at = began
        return True

    def _follow(self, session: Session) -> None:
        self._alive_at = -math.inf
        with suppress(Transient), _explained(), self._immediate.begin() as connection:
            session.follow(connection)

    def _ping(self) -> None:
        began = time.monotonic()
        with _explained(), self._immediate.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        self._alive_at = began

    def _close(self) -> None:
        self._writer.shutdown()
        self._aside.shutdown()
        self._readers.shutdown()
        self._engine.dispose()
        self._immediate.dispose()
        if self._apart is not None:
            self._apart.dispose()


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
        if getattr(error.orig, "sqlstate", None) == _NO_RIGHT:
            raise Stalled(
                "DatabaseRights",
                f"the role that this process has in the database lacks a right: {error.orig}",
            ) from error
        raise


async def _nothing() -> None:
    """Nobody keeps anything in memory."""


def _settle(work: Callable[[], T], done: Future[T]) -> None:
    """Do it, and tell who waits."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)


def _names(orders: Sequence[_Order]) -> tuple[str, ...]:
    """What these wake, each once."""
    return tuple(dict.fromkeys(name for order in orders if order.write for name in order.write.names))


def _taken(source: deque[_Order], most: int) -> list[_Order]:
    """The first ones, without those that nobody waits for any more."""
    found: list[_Order] = []
    while source and len(found) < most:
        order = source.popleft()
        if not order.done.cancelled():
            found.append(order)
    return found


def _unavailable(error: DBAPIError) -> Transient:
    text = str(error.orig)
    if "locked" in text or getattr(error.orig, "sqlstate", None) == _LOCK_TIMEOUT:
        return Transient("DatabaseLocked", "another process holds the database; trying again")
    if "full" in text or "disk I/O" in text:
        return Transient("DatabaseUnavailable", f"the database cannot be written: {text}")
    return Transient("DatabaseUnavailable", f"the database does not answer: {text}")


def connect(url: str, *, own: bool = False) -> Database:
    """Engines for the URL. On both databases a read sees one moment, and a write waits five seconds for others.

    `own`: on PostgreSQL by a daemon, which may lead (`reconciler.store.ownership`).
    """
    # the writer keeps one connection, and readers take the one last used: what they have read before is still in memory
    options: dict[str, Any] = {
        "json_serializer": _dumps,
        "json_deserializer": _json.decode,
        "max_overflow": 0,
        "pool_use_lifo": True,
    }
    if is_sqlite(url):
        options["connect_args"] = {"timeout": _PATIENCE, "check_same_thread": False}
    else:
        options["pool_pre_ping"] = True
        options["connect_args"] = lively(url)
    readers, writer, asides = (open_engine(url, pool_size=size, **options) for size in (_READERS, 1, _ASIDE))
    for engine in (readers, writer, asides):
        if is_sqlite(url):
            event.listen(engine, "connect", _pragmas)
            event.listen(engine, "begin", _begin)
        else:
            event.listen(engine, "connect", _session)
    if not is_sqlite(url):
        event.listen(readers, "connect", _reader)
        for engine in (writer, asides):
            event.listen(engine, "connect", _writing_session)
        opened: WeakSet[Any] = WeakSet()
        for engine in (readers, writer, asides):
            event.listen(engine, "connect", lambda connection, _: opened.add(connection))
        session = Session() if own else None
        if session is not None:
            event.listen(writer, "connect", session.hold)
        readers = readers.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return Database(readers, writer, asides, session, opened)
    return Database(readers, writer)


def _dumps(value: Any) -> str:
    return _json.encode(value).decode()


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin ourselves: the driver's own implicit BEGIN is too late
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_PATIENCE * 1000}",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _session(connection: Any, _record: Any) -> None:
    """PostgreSQL would wait for ever where another one holds a row."""
    connection.autocommit = True
    connection.execute(f"SET lock_timeout = '{_PATIENCE}s'")
    connection.autocommit = False


def _writing_session(connection: Any, _record: Any) -> None:
    """Who is stopped or cut off in the middle of a transaction holds the others up for so long only."""
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_HALTED}s'")
    connection.autocommit = False


def _reader(connection: Any, _record: Any) -> None:
    """PostgreSQL holds no NUL and refuses to look for one: as on SQLite, who looks for it finds nothing."""
    from psycopg.types.string import StrDumperUnknown

    class Sought(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", _NOWHERE) if "\0" in obj else obj)

    connection.adapters.register_dumper(str, Sought)


def _begin(connection: Connection) -> None:
    """A write takes SQLite's lock at once: one that reads first could not be let in later."""
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
