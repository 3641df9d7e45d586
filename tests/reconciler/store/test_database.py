"""Transactions, versions and the chain of events, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from reconciler.errors import Stalled, Transient
from reconciler.model.event import Actor
from reconciler.model.timer import Timer
from reconciler.store import events, migrate, timers
from reconciler.store.database import Database, Write, connect
from tests import databases
from tests.conftest import NewDatabase
from tests.reconciler.store.test_jobs import with_database


def record(write: Write, number: int) -> None:
    write.record("test", f"Build/shop/_/b{number}", {"number": number, "text": "ä\u2028\x00"[:2]})


def test_versions_ascend_and_events_are_chained(new_database: NewDatabase) -> None:
    """One event a transaction, numbered without gaps; the chain is sound."""

    async def work(database: Database) -> None:
        await asyncio.gather(
            *(database.write(lambda w, n=n: record(w, n), Actor("User/a", "t", "::1")) for n in range(20))
        )
        assert database.version == 20
        found = await database.read(lambda c: events.after(c, 0, 100))
        assert [event.seq for event in found] == list(range(1, 21))
        assert found[0].actor == Actor("User/a", "t", "::1")
        assert await database.read(events.verify) == (20, None)
        assert [e.seq for e in await database.read(lambda c: events.after(c, 18, 100))] == [19, 20]

    with_database(new_database, work)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE events SET body = replace(body, '7', '8') WHERE seq = 8", "event 8 was changed"),
        ("UPDATE events SET actor = 'User/mallory' WHERE seq = 3", "event 3 was changed"),
        ("DELETE FROM events WHERE seq = 5", "event 5 is missing"),
        ("DELETE FROM events WHERE seq = 10", "after event 9 some were cut off"),
    ],
)
def test_a_changed_log_is_found(new_database: NewDatabase, statement: str, fault: str) -> None:
    """Any changed or removed record is named."""

    async def work(database: Database) -> None:
        for number in range(10):
            await database.write(lambda w, n=number: record(w, n))
        await database.write(lambda w: w.connection.execute(text(statement)) and None)
        _, found = await database.read(events.verify)
        assert found is not None
        assert fault in found

    with_database(new_database, work)


def test_a_failed_transaction_leaves_nothing(new_database: NewDatabase) -> None:
    """Neither rows nor event nor version."""

    async def work(database: Database) -> None:
        def fail(write: Write) -> None:
            record(write, 1)
            timers.save(write.connection, "Build/shop/_/b", Timer(0, "d", None, None))
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await database.write(fail)
        assert await database.load_version() == 0
        assert await database.read(lambda c: timers.load(c, "Build/shop/_/b")) == {}
        assert await database.read(events.last) == 0

    with_database(new_database, work)


def test_moments_keep_their_microseconds(new_database: NewDatabase) -> None:
    """Also before 1970 and far away."""
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2099, 1, 2, 3, 4, 5, 6, UTC)]

    async def work(database: Database) -> None:
        await database.write(lambda w: timers.save(w.connection, "k", Timer(0, "d", *moments)))
        assert await database.read(lambda c: timers.load(c, "k")) == {0: Timer(0, "d", *moments)}

    with_database(new_database, work)


def test_a_due_time_counts_once(new_database: NewDatabase) -> None:
    """`current` says no to a due time that is stored already, or of another definition."""
    due = datetime(2030, 1, 1, tzinfo=UTC)

    async def work(database: Database) -> None:
        moved = Timer(0, "d", due, due + timedelta(days=1))
        await database.write(lambda w: timers.save(w.connection, "k", Timer(0, "d", None, due)))
        assert await database.read(lambda c: timers.current(c, "k", moved))
        await database.write(lambda w: timers.save(w.connection, "k", moved))
        assert not await database.read(lambda c: timers.current(c, "k", moved))
        assert not await database.read(lambda c: timers.current(c, "k", Timer(0, "other", due, None)))
        assert not await database.read(lambda c: timers.current(c, "none", moved))

    with_database(new_database, work)


@pytest.mark.sqlite("its lock; end_to_end/test_trouble has that of PostgreSQL")
def test_a_locked_sqlite_is_a_passing_trouble(tmp_path: Path) -> None:
    """Another process holds it: a sentence, and then on as before."""
    path = tmp_path / "locked.db"
    path.write_bytes(databases.sqlite_template().read_bytes())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def work() -> None:
        database = connect(f"sqlite:///{path}")
        try:
            with pytest.raises(Transient) as caught:
                await database.write(lambda w: record(w, 1))
            assert caught.value.reason == "DatabaseLocked"
            other.execute("ROLLBACK")
            await database.write(lambda w: record(w, 1))
        finally:
            await database.close()

    try:
        asyncio.run(work())
    finally:
        other.close()


def test_postgres_without_tables_names_the_command() -> None:
    """Design 13.25: PostgreSQL refuses and names `migrate`."""
    with pytest.raises(Stalled, match="steersman migrate"):
        migrate.prepare(databases.internal(databases.server().url("postgres")), may_migrate=False)


def test_a_newer_database_is_refused(new_database: NewDatabase) -> None:
    """An older Steersman does not touch what it does not know."""
    url = new_database()

    async def work() -> None:
        database = connect(url)
        try:
            await database.write(
                lambda w: (
                    w.connection.execute(text("UPDATE alembic_version SET version_num = '9999'")) and None
                )
            )
        finally:
            await database.close()

    asyncio.run(work())
    with pytest.raises(Stalled, match="newer Steersman"):
        migrate.prepare(url, may_migrate=True)


def test_one_of_many_that_fails_harms_no_other(new_database: NewDatabase) -> None:
    """They share a transaction; what one of them did goes, what the others did stays, each once and in order."""

    async def work(database: Database) -> None:
        started, go = Event(), Event()

        def slow(write: Write) -> None:
            record(write, 0)
            started.set()
            assert go.wait(10)

        def failing(write: Write) -> None:
            record(write, 99)
            raise ValueError("no")

        first = asyncio.ensure_future(database.write(slow))
        assert await asyncio.to_thread(started.wait, 10)
        works = [failing if n == 3 else lambda w, n=n: record(w, n) for n in range(1, 7)]
        rest = [asyncio.ensure_future(database.write(item)) for item in works]
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 3 + [ValueError] + [type(None)] * 3
        found = await database.read(lambda c: events.after(c, 0, 100))
        assert [event.event.body["number"] for event in found] == [0, 1, 2, 4, 5, 6]
        assert await database.read(events.verify) == (6, None)
        assert database.version == 6

    with_database(new_database, work)


def test_what_waits_shares_one_commit_and_what_is_prompt_goes_before_it(new_database: NewDatabase) -> None:
    """Twenty that wait are one commit; a prompt one is a commit of its own, ahead of them."""

    async def work(database: Database) -> None:
        commits: list[int] = []
        order: list[str] = []
        started, go = Event(), Event()
        listen(database._immediate, "commit", lambda _connection: commits.append(1))

        def slow(_write: Write) -> None:
            order.append("slow")
            started.set()
            assert go.wait(10)

        first = asyncio.ensure_future(database.write(slow, prompt=True))
        assert await asyncio.to_thread(started.wait, 10)
        rest = [
            asyncio.ensure_future(database.write(lambda _w, n=n: order.append(str(n)))) for n in range(20)
        ]
        prompt = asyncio.ensure_future(database.write(lambda _w: order.append("prompt"), prompt=True))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest, prompt)
        assert order == ["slow", "prompt", *map(str, range(20))]
        assert len(commits) <= 3

    with_database(new_database, work)


def test_listeners_hear_of_every_write_of_a_shared_commit(new_database: NewDatabase) -> None:
    """In the order of the versions, before the writer learns of it."""

    async def work(database: Database) -> None:
        heard: list[tuple[int, int | None]] = []
        database.subscribe(lambda version, event: heard.append((version, event and event.seq)))
        await asyncio.gather(*(database.write(lambda w, n=n: record(w, n)) for n in range(30)))
        assert heard == [(n, n) for n in range(1, 31)]

    with_database(new_database, work)


def test_a_listener_that_fails_holds_nobody_up(new_database: NewDatabase) -> None:
    """Only the write that it heard of tells; all are stored."""

    async def work(database: Database) -> None:
        def listener(version: int, _event: object) -> None:
            if version == 2:
                raise ValueError("deaf")

        database.subscribe(listener)
        writes = [database.write(lambda w, n=n: record(w, n)) for n in range(4)]
        results = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10)
        assert [type(result) for result in results] == [type(None), ValueError, type(None), type(None)]
        assert await database.read(events.verify) == (4, None)

    with_database(new_database, work)


def test_after_the_end_every_write_is_refused(new_database: NewDatabase) -> None:
    """None waits for a writer that is no more."""

    async def work(database: Database) -> None:
        await database.write(lambda w: record(w, 1))
        await database.close()
        for number in range(3):
            with pytest.raises(RuntimeError):
                await asyncio.wait_for(database.write(lambda w, n=number: record(w, n)), 5)

    with_database(new_database, work)


def test_who_looks_for_nul_finds_nothing(new_database: NewDatabase) -> None:
    """Names come from addresses, where anything may stand: no fault on either database."""

    async def work(database: Database) -> None:
        await database.write(lambda w: timers.save(w.connection, "k", Timer(0, "d", None, None)))
        for name in ("\0", "k\0", "\0k"):
            found = await database.read(lambda c, name=name: timers.load(c, name))
            assert found == {}
        assert len(await database.read(lambda c: timers.load(c, "k"))) == 1

    with_database(new_database, work)
