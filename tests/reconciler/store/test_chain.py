"""The event log cannot be changed without `verify` naming the record."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from reconciler.model.event import Actor
from reconciler.store import chain, events
from reconciler.store.database import Database, Write, connect
from reconciler.store.migrate import prepare
from tests.conftest import NewDatabase

TEXTS = ("actor", "token", "address", "kind", "key", "revision", "body", "hash")
END = "the log does not end as it did: after"
SOMEBODY = Actor("User/zoë", "a-token", "127.0.0.1")


def fill(url: str) -> None:
    """Five events."""

    def told(write: Write, number: int) -> None:
        write.record("told", f"Build/shop/_/b{number}", {"größe": number}, revision="a" * 40)

    async def work() -> None:
        database = connect(url)
        try:
            for number in range(5):
                await database.write(lambda w, n=number: told(w, n), SOMEBODY)
        finally:
            await database.close()

    asyncio.run(work())


def verify(url: str) -> tuple[int, str | None]:
    """As the daemon does it."""

    async def work() -> tuple[int, str | None]:
        database: Database = connect(url)
        try:
            return await database.read(events.verify)
        finally:
            await database.close()

    return asyncio.run(work())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An SQLite file with five events."""
    path = tmp_path / "steersman.db"
    prepare(f"sqlite:///{path}", may_migrate=True)
    fill(f"sqlite:///{path}")
    return path


class Tampered:
    """A store with five events, and who changes it behind the daemon's back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: Engine = create_engine(url, poolclass=NullPool)
        fill(url)

    def change(self, statement: str, **values: Any) -> None:
        """One statement."""
        with self._engine.begin() as connection:
            connection.execute(text(statement), values)

    def value(self, query: str) -> Any:
        """The one value that a query finds."""
        with self._engine.connect() as connection:
            return connection.execute(text(query)).scalar_one()

    def fault(self) -> str | None:
        """What the daemon says of it."""
        return verify(self._url)[1]


@pytest.fixture
def store(new_database: NewDatabase) -> Tampered:
    """On either database."""
    return Tampered(new_database())


def test_an_untouched_log_is_sound(store: Tampered) -> None:
    assert store.fault() is None


@pytest.mark.parametrize("column", TEXTS)
def test_any_character_that_is_changed_names_the_record(store: Tampered, column: str) -> None:
    """At the begin, at the end, and one that was put in."""
    value = store.value(f"SELECT {column} FROM events WHERE seq = 3")
    for other in ("~" + value[1:], value[:-1] + "~", value + " "):
        store.change(f"UPDATE events SET {column} = :other WHERE seq = 3", other=other)
        assert (store.fault() or "").startswith("event 3 was changed"), other
    store.change(f"UPDATE events SET {column} = :value WHERE seq = 3", value=value)
    assert store.fault() is None


@pytest.mark.sqlite("a file takes any bytes from outside; PostgreSQL refuses what is no text")
@pytest.mark.parametrize("column", TEXTS)
@pytest.mark.parametrize("seq", [1, 3, 5])
def test_any_byte_that_is_flipped_names_the_record(log: Path, column: str, seq: int) -> None:
    """Also where what is left is no text."""
    with sqlite3.connect(log) as raw:
        query = f"SELECT CAST({column} AS BLOB) FROM events WHERE seq = ?"
        (value,) = raw.execute(query, (seq,)).fetchone()
        change = f"UPDATE events SET {column} = CAST(? AS TEXT) WHERE seq = ?"
    connection = sqlite3.connect(log, isolation_level=None)
    database = connect(f"sqlite:///{log}")

    async def work() -> None:
        for position in range(len(value)):
            flipped = bytearray(value)
            flipped[position] ^= 1 << position % 8
            connection.execute(change, (bytes(flipped), seq))
            count, fault = await database.read(events.verify)
            assert count == seq - 1
            assert fault is not None, f"byte {position}"
            assert fault.startswith(f"event {seq} was changed"), f"byte {position}"
        connection.execute(change, (value, seq))
        assert await database.read(events.verify) == (5, None)
        await database.close()

    asyncio.run(work())
    connection.close()


@pytest.mark.parametrize("bit", range(63))
def test_a_time_that_was_changed_is_found(store: Tampered, bit: int) -> None:
    """Whatever it is now, also no time at all."""
    store.change("UPDATE events SET at = (at | :bit) - (at & :bit) WHERE seq = 2", bit=1 << bit)
    assert store.fault() == "event 2 was changed, or the one before it"


def test_a_record_that_is_gone_or_put_in_is_found(store: Tampered) -> None:
    store.change("DELETE FROM events WHERE seq = 3")
    assert store.fault() == "event 3 is missing"
    store.change("DELETE FROM events WHERE seq > 2")
    assert store.fault() == f"{END} event 2 some were cut off, or that one was changed"
    columns = ", ".join(("at", *TEXTS))
    store.change(f"INSERT INTO events (seq, {columns}) SELECT 3, {columns} FROM events WHERE seq = 2")
    assert store.fault() == "event 3 was changed, or the one before it"


def test_a_log_written_anew_from_a_record_on_is_found(store: Tampered) -> None:
    """Whoever rewrites all hashes after a change still has to reach the head, which is in another table."""
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    before = store.value("SELECT hash FROM events WHERE seq = 4")
    store.change(
        "UPDATE events SET at = :at, key = NULL, revision = NULL, body = '{}', hash = :hash WHERE seq = 5",
        at=int(moment.timestamp() * 1_000_000),
        hash=chain.link(before, 5, moment, SOMEBODY, "told", None, None, "{}"),
    )
    assert store.fault() == f"{END} event 5 some were cut off, or that one was changed"


@pytest.mark.sqlite("the pages of its file")
def test_a_file_that_is_damaged_is_told(log: Path) -> None:
    """Whatever bit of the pages that hold the log: an answer in words, and the record at which it stops."""
    with sqlite3.connect(log) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.execute("PRAGMA journal_mode = DELETE")
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    whole = log.read_bytes()
    start = (page - 1) * size
    told = set()
    for place in [*range(12), *range(size - 2500, size, 7)]:
        damaged = bytearray(whole)
        damaged[start + place] ^= 1 << place % 8
        copy = log.with_name("copy.db")
        copy.write_bytes(damaged)
        _, fault = verify(f"sqlite:///{copy}")
        told.add((fault or "sound").split()[0])
        assert fault is None or fault.startswith(("event ", "the log does not end"))
    assert told >= {"event"}
