"""States of deployments: locked, summed up, held by one job at a time; on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pyrage.x25519 import Identity
from sqlalchemy import select

from reconciler.model.event import Actor
from reconciler.model.job import Checkout, State
from reconciler.sealing import Keys, SealingError
from reconciler.store import deployments, jobs, tables
from reconciler.store.database import Database, Write, connect
from reconciler.store.deployments import Place
from reconciler.store.jobs import NewJob
from tests.conftest import NewDatabase

KEYS = Keys((Identity.generate(),))
WEB = Place("shop", "prod", "shop/web")
ALICE = Actor("User/alice")
PASSWORD = "correct-horse"


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def state_of(code: str, **more: Any) -> dict[str, Any]:
    """A state with a deploy stage."""
    stage = {"version": "1.4.12", "provides": ["http"], "inputs": {"password": PASSWORD}}
    stage |= {"status": {"status": code, "updated_at": "2030-01-02T03:04:05.123456789Z", "data": "why"}}
    return {"name": "shop/web", "release": "shop/web", "inputs": {"a": 1}, "stages": {"deploy": stage | more}}


def job(write: Write, state: State = State.PENDING) -> int:
    """A job in this state."""
    new = NewJob(
        "Deployment/shop/prod/shop/web",
        {"tasks": [{"name": "deploy"}]},
        "w",
        Checkout(),
        {"type": "manual"},
        {},
        "User/alice",
    )
    number = jobs.create(write.connection, new, write.now, write.version)
    if state is not State.PENDING:
        ended = {"state": state.value, "finished_at": write.now if state.finished else None}
        write.connection.execute(tables.jobs.update().where(tables.jobs.c.number == number).values(**ended))
    return number


def test_a_state_is_kept_whole_and_locked(new_database: NewDatabase) -> None:
    """Nothing of it that may be a secret is readable in the database."""

    async def work(database: Database) -> None:
        state = state_of("ok")
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state), ALICE)
        row = await database.read(lambda c: deployments.load(c, KEYS, WEB))
        assert row is not None
        assert row.state == state
        assert (row.place, row.release, row.provides) == (WEB, "shop/web", ("http",))
        assert (row.holder, row.deployed, row.tried, row.again_at) == (None, None, 0, None)
        assert row.updated_by == "User/alice"
        assert row.version == database.version
        stored = await database.read(lambda c: c.execute(select(tables.deployments)).one())
        assert PASSWORD.encode() not in stored.sealed
        assert PASSWORD not in str(stored.summary)
        assert "why" not in str(stored.summary)

    with_database(new_database, work)


def test_saving_again_replaces_the_state_and_keeps_the_columns(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        again = datetime(2030, 1, 1, tzinfo=UTC)
        first = {"tried": 2, "again_at": again, "deployed": {"version": "1.4.11"}}
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("failure"), **first))
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("ok")))
        row = await database.read(lambda c: deployments.load(c, KEYS, WEB))
        assert row is not None
        assert row.state == state_of("ok")
        assert (row.tried, row.again_at, row.deployed) == (2, again, {"version": "1.4.11"})
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("ok"), tried=0, again_at=None))
        row = await database.read(lambda c: deployments.load(c, KEYS, WEB))
        assert row is not None
        assert (row.tried, row.again_at, row.deployed) == (0, None, {"version": "1.4.11"})

    with_database(new_database, work)


def test_plain_columns_are_noted_only_where_a_row_is(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        assert not await database.write(lambda w: deployments.note(w, WEB, tried=1))
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("ok")))
        assert await database.write(lambda w: deployments.note(w, WEB, tried=1))
        with pytest.raises(TypeError, match="no such columns: sealed"):
            await database.write(lambda w: deployments.note(w, WEB, sealed=b""))

    with_database(new_database, work)


def test_of_an_environment_all_are_opened_and_of_a_project_none(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        places = [WEB, Place("shop", "prod", "db"), Place("shop", "dev", "db"), Place("blog", "prod", "db")]
        for place in places:
            state = state_of("ok") | {"name": place.name}
            await database.write(lambda w, p=place, s=state: deployments.save(w, KEYS, p, s))
        found = await database.read(lambda c: deployments.of_environment(c, KEYS, "shop", "prod"))
        assert list(found) == ["db", "shop/web"]
        assert found["db"].state["stages"]["deploy"]["inputs"] == {"password": PASSWORD}
        every = await database.read(deployments.summaries)
        assert set(every) == set(places)
        shop = await database.read(lambda c: deployments.summaries(c, "shop"))
        assert set(shop) == set(places[:3])
        assert set(await database.read(lambda c: deployments.summaries(c, "shop", "dev"))) == {places[2]}
        stage = shop[WEB].state["stages"]["deploy"]
        assert stage.keys() == {"version", "status"}
        assert stage["status"]["updated_at"].endswith(".123456789Z")
        assert shop[WEB].provides == ("http",)

    with_database(new_database, work)


def test_what_is_destroyed_provides_nothing(new_database: NewDatabase) -> None:
    """Though its state still says so (9.2)."""

    async def work(database: Database) -> None:
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("empty")))
        row = await database.read(lambda c: deployments.load(c, KEYS, WEB))
        assert row is not None
        assert row.provides == ()
        assert row.state["stages"]["deploy"]["provides"] == ["http"]

    with_database(new_database, work)


def test_one_unfinished_job_holds_a_deployment(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        first, second = await database.write(lambda w: (job(w), job(w)))
        assert await database.write(lambda w: deployments.hold(w, WEB, first))
        assert await database.write(lambda w: deployments.hold(w, WEB, first))
        assert not await database.write(lambda w: deployments.hold(w, WEB, second))
        assert await database.read(lambda c: deployments.busy_with(c, WEB)) == first
        row = await database.read(lambda c: deployments.load(c, KEYS, WEB))
        assert row is not None
        assert (row.holder, row.state) == (
            first,
            {"name": "shop/web", "release": "shop/web", "inputs": {}, "stages": {}},
        )
        await database.write(lambda w: deployments.release_hold(w, WEB, second))
        assert await database.read(lambda c: deployments.busy_with(c, WEB)) == first
        await database.write(lambda w: deployments.release_hold(w, WEB, first))
        assert await database.read(lambda c: deployments.busy_with(c, WEB)) is None
        assert await database.write(lambda w: deployments.hold(w, WEB, second))

    with_database(new_database, work)


def test_a_finished_job_holds_nothing(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        done, next_ = await database.write(lambda w: (job(w, State.FAILED), job(w)))
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("failure"), holder=done))
        assert await database.read(lambda c: deployments.busy_with(c, WEB)) is None
        assert await database.write(lambda w: deployments.hold(w, WEB, next_))

    with_database(new_database, work)


def test_deployments_are_forgotten_one_by_one(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        places = [WEB, Place("shop", "prod", "db"), Place("shop", "dev", "db"), Place("blog", "prod", "db")]
        for place in places:
            await database.write(lambda w, p=place: deployments.save(w, KEYS, p, state_of("ok")))
        assert await database.write(lambda w: deployments.drop(w, WEB))
        assert not await database.write(lambda w: deployments.drop(w, WEB))
        assert set(await database.read(deployments.summaries)) == set(places[1:])

    with_database(new_database, work)


def test_states_outlive_the_key_that_they_were_locked_with(new_database: NewDatabase) -> None:
    """After they were locked anew, the older identity may be taken away."""

    async def work(database: Database) -> None:
        held = Place("shop", "prod", "held")
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("ok")))
        await database.write(lambda w: deployments.hold(w, held, job(w)))
        both = Keys((Identity.generate(), *KEYS.identities))
        assert await database.write(lambda w: deployments.lock_anew(w, both)) == (1, {})
        assert await database.write(lambda w: deployments.lock_anew(w, both)) == (0, {})
        other = Keys((Identity.generate(),))
        changed, failed = await database.write(lambda w: deployments.lock_anew(w, other))
        assert changed == 0
        assert failed.keys() == {WEB.key}
        row = await database.read(lambda c: deployments.load(c, Keys(both.identities[:1]), WEB))
        assert row is not None
        assert row.state == state_of("ok")
        with pytest.raises(SealingError, match=r"^shop/prod/shop/web was stored with a key that is not in"):
            await database.read(lambda c: deployments.load(c, KEYS, WEB))

    with_database(new_database, work)


def test_a_state_that_was_copied_to_another_row_does_not_open(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await database.write(lambda w: deployments.save(w, KEYS, WEB, state_of("ok")))
        elsewhere = tables.deployments.update().values(name="shop/other")
        await database.write(lambda w: w.connection.execute(elsewhere))
        with pytest.raises(SealingError, match="belongs to something else"):
            await database.read(lambda c: deployments.load(c, KEYS, Place("shop", "prod", "shop/other")))

    with_database(new_database, work)
