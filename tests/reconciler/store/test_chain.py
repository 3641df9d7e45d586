"""The event log cannot be changed without `verify` naming the record."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.model.event import Actor
from reconciler.store import chain, events
from reconciler.store.database import Database, connect
from reconciler.store.migrate import prepare

TEXTS = ("actor", "token", "address", "kind", "key", "revision", "body", "hash")
END = "the log does not end as it did: after"
SOMEBODY = Actor("User/zoë", "a-token", "127.0.0.1")


pytestmark = pytest.mark.sqlite("a file takes any bytes from outside, which PostgreSQL refuses")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A store with five events."""
    path = tmp_path / "steersman.db"
    prepare(f"sqlite:///{path}", may_migrate=True)

    async def work() -> None:
        database = connect(f"sqlite:///{path}")
        try:
            for number in range(5):
                await database.write(
                    lambda w, n=number: w.record(
                        "told", f"Build/shop/_/b{n}", {"größe": n}, revision="a" * 40
                    ),
                    SOMEBODY,
                )
        finally:
            await database.close()

    asyncio.run(work())
    return path


def verify(path: Path) -> tuple[int, str | None]:
    """As the daemon does it."""

    async def work() -> tuple[int, str | None]:
        database: Database = connect(f"sqlite:///{path}")
        try:
            return await database.read(events.verify)
        finally:
            await database.close()

    return asyncio.run(work())


def test_an_untouched_log_is_sound(log: Path) -> None:
    assert verify(log) == (5, None)


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
def test_a_time_that_was_changed_is_found(log: Path, bit: int) -> None:
    """Whatever it is now, also no time at all."""
    with sqlite3.connect(log) as raw:
        raw.execute("UPDATE events SET at = (at | ?) - (at & ?) WHERE seq = 2", (1 << bit, 1 << bit))
    assert verify(log)[1] == "event 2 was changed, or the one before it"


def test_a_record_that_is_gone_or_put_in_is_found(log: Path) -> None:
    with sqlite3.connect(log) as raw:
        raw.execute("DELETE FROM events WHERE seq = 3")
    assert verify(log)[1] == "event 3 is missing"
    with sqlite3.connect(log) as raw:
        raw.execute("DELETE FROM events WHERE seq > 2")
    assert verify(log)[1] == f"{END} event 2 some were cut off, or that one was changed"
    with sqlite3.connect(log) as raw:
        columns = ", ".join(("at", *TEXTS))
        raw.execute(f"INSERT INTO events (seq, {columns}) SELECT 3, {columns} FROM events WHERE seq = 2")
    assert verify(log)[1] == "event 3 was changed, or the one before it"


def test_a_log_written_anew_from_a_record_on_is_found(log: Path) -> None:
    """Whoever rewrites all hashes after a change still has to reach the head, which is in another table."""
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with sqlite3.connect(log) as raw:
        (before,) = raw.execute("SELECT hash FROM events WHERE seq = 4").fetchone()
        micros = int(moment.timestamp() * 1_000_000)
        mark = chain.link(before, 5, moment, SOMEBODY, "told", None, None, "{}")
        raw.execute(
            "UPDATE events SET at = ?, key = NULL, revision = NULL, body = '{}', hash = ? WHERE seq = 5",
            (micros, mark),
        )
    assert verify(log)[1] == f"{END} event 5 some were cut off, or that one was changed"


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
        _, fault = verify(copy)
        told.add((fault or "sound").split()[0])
        assert fault is None or fault.startswith(("event ", "the log does not end"))
    assert told >= {"event"}
