"""Runs of pipelines in the store, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from reconciler.model.follow import Pass
from reconciler.model.job import Checkout
from reconciler.model.pipeline import Run, Status, Step, planned, settings_of
from reconciler.store import approvals, follows, jobs, pipelines
from reconciler.store.approvals import Approval
from reconciler.store.database import Connection, Database, Write, connect
from reconciler.store.jobs import NewJob
from reconciler.store.pipelines import Wanted
from reconciler.store.rows import new_id
from reconciler.store.tables import jobs as job_table
from specs.pipeline import Pipeline
from tests.conftest import NewDatabase

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KEY, OTHER = "Pipeline/shop/release", "Pipeline/docs/publish"
SPEC = Pipeline.model_validate(
    {
        "phases": [
            {"name": "p", "steps": [{"type": "confirmation"}, {"type": "pipeline-trigger", "pipeline": "x"}]}
        ]
    }
).model_dump(mode="json")


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def added(write: Write, key: str = KEY, **more: Any) -> Run:
    """A new run."""
    run = Run(
        id=new_id(),
        key=key,
        number=pipelines.number_of(write.connection, key),
        pipeline=settings_of(SPEC),
        phases=planned(SPEC),
        trigger={"type": "manual"},
        actor="User/alice",
        identity=None,
        created_at=NOW,
        payload={"a": [1, None]},
    )
    run = replace(run, **more)
    pipelines.add(write.connection, run, write.version)
    return run


def ended(run: Run, at: datetime = NOW) -> Run:
    """The same, over."""
    return replace(run, status=Status.FAILED, reason="cancelled", finished_at=at)


def test_a_run_is_kept_whole(new_database: NewDatabase) -> None:
    """With all that became of its steps; numbers count by pipeline."""

    async def work(database: Database) -> None:
        first, second, other = await database.write(lambda w: (added(w), added(w), added(w, OTHER)))
        assert [first.number, second.number, other.number] == [1, 2, 1]
        step = Step(
            SPEC["phases"][0]["steps"][0],
            Status.OK,
            "x",
            "told",
            job=7,
            execution_id="01J",
            run="r",
            version="1.0.0",
            tagged="shop/web-v1",
            releases=("a", "b"),
            adopted=True,
            carried_over=True,
            timed_out=True,
            confirmation={"by": "User/alice"},
            waiting_since=NOW,
            started_at=NOW,
            finished_at=NOW,
        )
        run = replace(
            ended(first.with_step((0, 0), step)), releases=("a",), ending="cancelled", started_at=NOW
        )
        await database.write(lambda w: pipelines.save(w.connection, run, w.version))
        assert await database.read(lambda c: pipelines.load(c, first.id)) == run
        live = await database.read(pipelines.live)
        assert {run.id: run for run in live} == {second.id: second, other.id: other}
        assert await database.read(lambda c: pipelines.live(c, KEY)) == [second]
        assert sorted(await database.read(pipelines.live_keys)) == sorted([KEY, OTHER])
        assert await database.read(lambda c: pipelines.latest(c, KEY)) == second
        assert await database.read(lambda c: pipelines.newest(c, [KEY, OTHER, "x"])) == {
            KEY: second,
            OTHER: other,
        }
        found = await database.read(lambda c: pipelines.load_many(c, [first.id, other.id]))
        assert found == {first.id: run, other.id: other}

    with_database(new_database, work)


def test_pages_of_runs(new_database: NewDatabase) -> None:
    """Newest first, of those that are asked for."""

    async def work(database: Database) -> None:
        runs = [await database.write(lambda w: added(w)) for _ in range(3)]
        other = await database.write(lambda w: added(w, OTHER))
        await database.write(lambda w: pipelines.save(w.connection, ended(runs[0]), w.version))

        async def page(wanted: Wanted) -> list[str]:
            return [run.id for run in await database.read(lambda c: pipelines.page(c, wanted))]

        ids = [run.id for run in runs]
        assert await page(Wanted()) == [other.id, *reversed(ids)]
        assert await page(Wanted(limit=2, before=other.id)) == [ids[2], ids[1]]
        assert await page(Wanted(key=KEY, status=Status.FAILED)) == [ids[0]]
        assert await page(Wanted(projects={"docs"})) == [other.id]
        assert await page(Wanted(projects=set())) == []
        assert await page(Wanted(name="publish")) == [other.id]

    with_database(new_database, work)


def passed(
    write: Write, at: datetime, version: int = 1, trigger: str = "manual", key: str = "Build/shop/dev/web"
) -> int:
    """A job that has passed."""
    new = NewJob(key, {"tasks": []}, "w", Checkout(), {"type": trigger}, {}, "User/alice")
    number = jobs.create(write.connection, new, write.now, write.version)
    values = {"state": "passed", "finished_at": at, "finished_version": version}
    write.connection.execute(update(job_table).where(job_table.c.number == number).values(**values))
    return number


def test_ends_of_executions_start_one_run_each(new_database: NewDatabase) -> None:
    """Only those that ended well, of their own account, from a version on, whatever the clock said."""

    async def work(database: Database) -> None:
        def jobs_of(write: Write) -> list[int]:
            return [
                passed(write, NOW, 10),
                passed(write, NOW - timedelta(hours=1), 11),
                passed(write, NOW - timedelta(hours=2), 12),
                passed(write, NOW, 12, "pipeline"),
                passed(write, NOW, 12, key="Build/shop/dev/other"),
            ]

        _, second, third, _, _ = await database.write(jobs_of)
        found = ["Build/shop/dev/web", "Build/shop/_/web"]

        def ends(connection: Connection) -> list[int]:
            return [number for _, number in pipelines.ends(connection, KEY, found, 11)]

        assert await database.read(ends) == [second, third]
        await database.write(lambda w: added(w, cause=second))
        assert await database.read(ends) == [third]
        assert await database.read(lambda c: pipelines.has_cause(c, KEY, second))
        assert not await database.read(lambda c: pipelines.has_cause(c, OTHER, second))
        assert await database.read(lambda c: pipelines.ends(c, KEY, found, None)) == []

    with_database(new_database, work)


def test_the_last_pass_of_a_build_is_what_ended_last(new_database: NewDatabase) -> None:
    """Whatever its number, and whatever the clock said."""

    async def work(database: Database) -> None:
        def jobs_of(write: Write) -> list[int]:
            return [passed(write, NOW - timedelta(hours=1), 12), passed(write, NOW, 11)]

        slow, quick = await database.write(jobs_of)
        assert slow < quick
        key, none = "Build/shop/dev/web", "Build/shop/dev/none"
        assert await database.read(lambda c: follows.passes(c, [key, none])) == {key: Pass(slow, 12)}

    with_database(new_database, work)


def test_old_runs_are_forgotten_with_their_approvals(new_database: NewDatabase) -> None:
    """Not the newest, none that has not ended, none whose execution could start it again."""

    async def work(database: Database) -> None:
        old = NOW - timedelta(days=91)

        def fill(write: Write) -> list[Run]:
            job = passed(write, old)
            gone, alive, caused, newest = (added(write, cause=cause) for cause in (None, None, job, 999))
            for run in (gone, caused, newest):
                pipelines.save(write.connection, ended(run, old), write.version)
            for run in (gone, newest):
                approval = Approval(f"PipelineRun/{run.id}/p/s", "d", "User/alice", "approve", "", NOW)
                approvals.add(write.connection, approval)
            return [gone, alive, caused, newest]

        gone, alive, caused, newest = await database.write(fill)
        before = NOW - timedelta(days=90)
        assert await database.write(lambda w: pipelines.forget(w.connection, before, 10)) == 1
        assert await database.write(lambda w: pipelines.forget(w.connection, before, 10)) == 0
        left = await database.read(lambda c: pipelines.page(c, Wanted()))
        assert [run.id for run in left] == [newest.id, caused.id, alive.id]
        assert await database.read(lambda c: approvals.of(c, f"PipelineRun/{gone.id}/p/s")) == []
        (kept,) = await database.read(lambda c: approvals.of(c, f"PipelineRun/{newest.id}/p/s", "d"))
        assert (kept.actor, kept.decision, kept.at) == ("User/alice", "approve", NOW)
        assert await database.write(lambda w: pipelines.number_of(w.connection, KEY)) == 5

    with_database(new_database, work)
