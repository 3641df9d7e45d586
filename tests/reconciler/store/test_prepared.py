"""Prepared statements give what SQLAlchemy gives, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from reconciler.store.database import Connection, Database
from reconciler.store.prepared import Prepared
from reconciler.store.tables import attachments, jobs, specifications, timers
from tests.conftest import NewDatabase
from tests.reconciler.store.test_jobs import with_database

_MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
_JOB = {
    "number": 7,
    "id": "j7",
    "key": "Build/shop/_/b",
    "origin": "declared",
    "specification": "s",
    "work_digest": "d",
    "trigger": {"type": "poll", "deep": [1, None, "ä"]},
    "inputs": {},
    "actor": "User/a",
    "state": "pending",
    "held": True,
    "created_at": _MOMENT,
    "version": 3,
}
_SPECIFICATION = Prepared(insert(specifications), ("uuid", "data"))
_INSERT = Prepared(insert(jobs), tuple(_JOB))
_READ = Prepared(select(jobs).where(jobs.c.key == bindparam("of"), jobs.c.state == "pending"))


def _filled(connection: Connection) -> None:
    _SPECIFICATION.run(connection, uuid="s", data={"a": [1]})
    assert _INSERT.run(connection, **_JOB) == 1


def test_values_of_every_type_come_back_as_they_went(new_database: NewDatabase) -> None:
    """JSON, moments, truth and nothing; the same rows as by SQLAlchemy itself."""

    async def work(database: Database) -> None:
        await database.write(lambda w: _filled(w.connection))
        (row,) = await database.read(lambda c: _READ.all(c, of="Build/shop/_/b"))
        assert {name: getattr(row, name) for name in _JOB} == _JOB
        assert (row.started_at, row.reason, row.commit) == (None, None, None)
        plain = await database.read(lambda c: c.execute(select(jobs)).one())
        assert tuple(row) == tuple(plain)
        assert await database.read(lambda c: _READ.one_or_none(c, of="other")) is None

    with_database(new_database, work)


def test_a_part_of_json_is_asked_for(new_database: NewDatabase) -> None:
    """Its path is a parameter of its own."""
    statement = Prepared(select(specifications.c.data["a"].label("a")))

    async def work(database: Database) -> None:
        await database.write(lambda w: _filled(w.connection))
        (row,) = await database.read(statement.all)
        assert row.a == [1]

    with_database(new_database, work)


def test_updates_tell_how_many_and_what_changed(new_database: NewDatabase) -> None:
    """`RETURNING` as well; many at once."""
    move = Prepared(update(jobs).where(jobs.c.number == bindparam("of")).values(version=bindparam("to")))
    add = Prepared(
        update(jobs)
        .where(jobs.c.number == bindparam("of"))
        .values(version=jobs.c.version + 1)
        .returning(jobs.c.version)
    )
    timer = Prepared(insert(timers), ("key", "position", "digest"))

    async def work(database: Database) -> None:
        await database.write(lambda w: _filled(w.connection))
        assert await database.write(lambda w: move.run(w.connection, of=7, to=9)) == 1
        assert await database.write(lambda w: move.run(w.connection, of=8, to=9)) == 0
        assert (await database.write(lambda w: add.one_or_none(w.connection, of=7))).version == 10
        rows = [{"key": "k", "position": n, "digest": "d"} for n in range(3)]
        assert await database.write(lambda w: timer.run_many(w.connection, rows)) == 3

    with_database(new_database, work)


def test_names_that_are_wrong_or_missing_are_refused(new_database: NewDatabase) -> None:
    """A misspelt value must not become NULL."""

    async def work(database: Database) -> None:
        with pytest.raises(KeyError, match="off"):
            await database.read(lambda c: _READ.all(c, off="x"))
        with pytest.raises(KeyError, match="of"):
            await database.read(_READ.all)

    with_database(new_database, work)


def test_errors_of_the_driver_are_those_of_sqlalchemy(new_database: NewDatabase) -> None:
    """And their text shows no value."""

    async def work(database: Database) -> None:
        await database.write(lambda w: _filled(w.connection))
        with pytest.raises(IntegrityError) as caught:
            await database.write(lambda w: _INSERT.run(w.connection, **_JOB))
        assert "User/a" not in str(caught.value).replace(str(caught.value.orig), "")
        assert await database.read(lambda c: len(c.execute(select(attachments)).all())) == 0

    with_database(new_database, work)
