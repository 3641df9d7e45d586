"""What processes on one PostgreSQL hear of each other; two `Database` objects stand for two processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from reconciler.errors import Transient
from reconciler.model.event import Recorded
from reconciler.store import chain, events, sources
from reconciler.store.database import Database, connect
from reconciler.store.sources import Source
from tests import databases
from tests.conftest import NewDatabase
from tests.reconciler.store.test_database import record
from tests.reconciler.store.test_jobs import with_database
from tests.support import eventually

Two = Callable[[Database, Database], Awaitable[None]]


def with_two(work: Two) -> None:
    """A database of PostgreSQL, opened twice; the second one listens."""
    url = databases.internal(databases.new_postgresql())

    async def run() -> None:
        first, second = connect(url), connect(url)
        try:
            await second.listen()
            await work(first, second)
        finally:
            await first.close()
            await second.close()

    asyncio.run(run())


class Heard:
    """What a process was told."""

    def __init__(self, database: Database) -> None:
        self.woken: list[str] = []
        self.told: list[tuple[int, int | None]] = []
        self.missed = 0
        database.wake = self.woken.append
        database.missed = self._miss
        database.subscribe(self._hear)

    def _hear(self, version: int, recorded: Recorded | None) -> None:
        self.told.append((version, recorded and recorded.seq))

    def _miss(self) -> None:
        self.missed += 1

    @property
    def seqs(self) -> list[int]:
        return [seq for _, seq in self.told if seq is not None]


def test_what_another_process_commits_is_heard() -> None:
    """Its version, its events in order and each once, the names that it woke."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        for number in range(30):
            await first.write(lambda w, n=number: (record(w, n), w.wake(f"job/{n}")))
        await eventually(lambda: len(heard.woken) >= 30 and second.version >= 30)
        assert heard.woken == [f"job/{n}" for n in range(30)]
        assert heard.seqs == list(range(1, 31))
        assert heard.missed == 0

    with_two(work)


def test_own_and_foreign_events_are_told_once_each() -> None:
    """Also where both write at the same time."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        writes = [
            database.write(lambda w, n=n: record(w, n)) for n in range(40) for database in (first, second)
        ]
        await asyncio.gather(*writes)
        await eventually(lambda: len(heard.seqs) >= 80)
        await second.write(lambda w: record(w, 99))
        assert sorted(heard.seqs) == list(range(1, 82))
        assert not second._told_beyond

    with_two(work)


def test_a_write_without_an_event_tells_its_version() -> None:
    """As those of the own process do; nothing is woken by what does not say so."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        await first.write(lambda w: sources.save(w.connection, Source("u", "main", ".")))
        await eventually(lambda: bool(heard.told))
        assert heard.told == [(1, None)]
        assert second.version == 1
        assert heard.woken == []

    with_two(work)


def test_too_many_names_are_told_as_all() -> None:
    """A notice has 8,000 bytes."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        await first.write(lambda w: [w.wake(f"Build/shop/_/{n:060}") for n in range(200)] and record(w, 1))
        await eventually(lambda: heard.missed > 0)
        assert heard.woken == []
        assert heard.seqs == [1]

    with_two(work)


def test_names_are_sent_without_a_write() -> None:
    """They are woken here and there; no version is made."""

    async def work(first: Database, second: Database) -> None:
        here, there = Heard(first), Heard(second)
        first.send(["dispatch", "jobs"])
        first.send(["dispatch"])
        assert here.woken == ["dispatch", "jobs", "dispatch"]
        await eventually(lambda: {"dispatch", "jobs"} <= set(there.woken))
        assert await first.read(chain.version) == 0

    with_two(work)


def test_after_a_gap_everything_is_told() -> None:
    """The server cuts the listener's connection: what was committed meanwhile is told, and that names were missed."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        await first.write(lambda w: record(w, 1))
        await eventually(lambda: heard.seqs == [1])
        cut = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        assert await first.aside(lambda c: c.execute(cut).all()) == [(True,)]
        for number in range(5):
            await first.write(lambda w, n=number: (record(w, n), w.wake("lost")))
        await eventually(lambda: heard.missed > 0 and len(heard.seqs) == 6)
        assert heard.seqs == list(range(1, 7))
        await first.write(lambda w: w.wake("again"))
        await eventually(lambda: heard.woken[-1:] == ["again"])

    with_two(work)


def test_a_server_that_is_restarted_is_heard_again() -> None:
    """As after any gap."""

    async def work(first: Database, second: Database) -> None:
        heard = Heard(second)
        databases.server().kill()
        databases.server().start()
        await eventually(lambda: heard.missed > 0)
        await _persist(first, lambda d: d.write(lambda w: w.wake("again")))
        await eventually(lambda: "again" in heard.woken)

    with_two(work)


async def _persist(database: Database, work: Callable[[Database], Awaitable[None]]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await work(database)
            except Transient:
                await asyncio.sleep(0.1)


def test_a_listener_that_fails_does_not_make_deaf() -> None:
    """The other listeners and the later notices are told."""

    async def work(first: Database, second: Database) -> None:
        def fails(_version: int, _recorded: Recorded | None) -> None:
            raise ValueError("deaf")

        second.subscribe(fails)
        heard = Heard(second)
        await first.write(lambda w: record(w, 1))
        await eventually(lambda: heard.seqs == [1])
        await first.write(lambda w: record(w, 2))
        await eventually(lambda: heard.seqs == [1, 2])

    with_two(work)


def test_a_database_that_does_not_answer_cannot_be_listened_to() -> None:
    """The reason is the one of every other question."""

    async def run() -> None:
        database = connect("postgresql+psycopg://postgres@/none?host=/nowhere")
        with pytest.raises(Transient) as caught:
            await database.listen()
        assert caught.value.reason == "DatabaseUnavailable"
        await database.close()

    asyncio.run(run())


def test_what_is_written_aside_makes_no_version(new_database: NewDatabase) -> None:
    """It is stored, beside a write that is at work on PostgreSQL and between two of them on SQLite."""

    async def work(database: Database) -> None:
        await database.listen()  # on SQLite this is nothing
        await database.aside(lambda c: sources.save(c, Source("u", "main", ".")))
        writes = [asyncio.create_task(database.write(lambda w, n=n: record(w, n))) for n in range(50)]
        await database.aside(lambda c: sources.save(c, Source("u", "other", ".")))
        found = await database.read(sources.load)
        assert found is not None
        assert found.branch == "other"
        await asyncio.gather(*writes)
        assert await database.read(chain.version) == 50
        assert await database.read(events.verify) == (50, None)

    with_database(new_database, work)


def test_what_fails_aside_is_told_and_not_stored(new_database: NewDatabase) -> None:
    """To whoever asked, alone."""

    async def work(database: Database) -> None:
        def fails(connection: object) -> None:
            sources.save(connection, Source("u", "main", "."))  # type: ignore[arg-type]
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await database.aside(fails)
        assert await database.read(sources.load) is None

    with_database(new_database, work)


def test_on_sqlite_nothing_is_sent_or_listened_to(new_database: NewDatabase) -> None:
    """One process has it."""

    async def work(database: Database) -> None:
        await database.listen()
        heard = Heard(database)
        database.send(["a"])
        await database.write(lambda w: w.wake("b"))
        assert heard.woken == ["a", "b"]
        assert (database._hearing is None, database._sending is None) == (database.sqlite, database.sqlite)

    with_database(new_database, work)
