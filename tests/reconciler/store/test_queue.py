"""What dispatching reads: what changed since a version amounts to everything, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

from reconciler.apply import jobs as apply
from reconciler.model.job import Checkout, Reason
from reconciler.model.queue import Need, QueuedJob, units
from reconciler.store import jobs, queue
from reconciler.store.database import Database, Write, connect
from reconciler.store.jobs import Ending, NewJob, State
from tests.conftest import NewDatabase

KEY = "Build/shop/_/web"


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def create(write: Write, *tasks: dict[str, Any], key: str = KEY, tag: str | None = None, **more: Any) -> int:
    """A job that has taken its first step."""
    policies = [{"name": f"t{i}"} | task for i, task in enumerate(tasks or ({},))]
    checkout = Checkout("https://example.org/web.git", "c" * 40, "t" * 40, None if tag else "main", tag)
    specification = {"tasks": policies, "concurrency": "queue"} | more
    new = NewJob(key, specification, "w", checkout, {"type": "manual"}, {}, "User/alice")
    return apply.insert(write, new)


async def only(database: Database) -> QueuedJob:
    """The one unfinished job."""
    (found,) = (await database.read(queue.unfinished)).jobs.values()
    assert found is not None
    return found


def test_a_trial_is_read_with_all_that_its_place_depends_on(new_database: NewDatabase) -> None:
    """Of the job and of the task; none of it has to be there."""

    async def work(database: Database) -> None:
        full = {
            "traits": ["linux"], "load": 0.3, "priority": 2, "image": "debian", "exclusive": ["db"],
            "services": [{"name": "pg", "image": "postgres"}, {"name": "own", "run": "./serve"}],
            "dispatch_storm_delay_seconds": 0.5,
        }  # fmt: skip
        await database.write(lambda w: create(w, full, {}, tag="v1", priority=7, concurrency="allow"))
        job = await only(database)
        assert (job.number, job.key, job.ref, job.lane) == (1, KEY, "tag:v1", "shop")
        assert (job.priority, job.beside, job.stopping) == (7, True, False)
        url = "https://example.org/web.git"
        images = ("debian", "postgres")
        first = Need(units(0.3), frozenset({"linux"}), images, url, frozenset({"db"}), 0.5)
        assert [trial.need for trial in job.trials] == [first, Need(url=url)]
        assert [(t.position, t.priority, t.executor) for t in job.trials] == [(0, 2, None), (1, 0, None)]

    with_database(new_database, work)


def test_a_claim_an_abort_and_an_end_are_each_seen_once(new_database: NewDatabase) -> None:
    """Each moves the job's version; what was seen is not read again."""

    async def work(database: Database) -> None:
        await database.write(create)
        seen = await database.read(queue.unfinished)
        trial = (await only(database)).trials[0].id

        def claim(write: Write) -> None:
            jobs.claim(write.connection, trial, "Executor/a", "w")
            jobs.touch(write.connection, 1, write.version)

        def stop(write: Write) -> None:
            job = jobs.load(write.connection, 1)
            assert job is not None
            apply.cancel(write, job, Reason.CANCELLED)

        def end(write: Write) -> None:
            jobs.finish(write.connection, trial, 1, Ending(State.ABORTED, Reason.CANCELLED), write.now)
            apply.advance(write, 1)

        facts = []
        for step in (claim, stop, end):
            await database.write(step)
            since = seen.version
            seen = await database.read(lambda c, since=since: queue.changed(c, since))
            facts.append(
                {n: job and ([t.executor for t in job.trials], job.stopping) for n, job in seen.jobs.items()}
            )
        assert facts == [{1: (["Executor/a"], False)}, {1: (["Executor/a"], True)}, {1: None}]
        assert (await database.read(lambda c: queue.changed(c, seen.version))).jobs == {}

    with_database(new_database, work)


def test_following_every_change_amounts_to_reading_everything(new_database: NewDatabase) -> None:
    """A random history of jobs that are made, claimed, cancelled and end."""

    async def work(database: Database) -> None:
        random = Random(7)
        known: dict[int, QueuedJob] = {}
        version = 0
        for step in range(60):
            await database.write(lambda w: _move(w, random))
            if step % 3 == 0:
                since = version
                changes = await database.read(lambda c, since=since: queue.changed(c, since))
                version = changes.version
                for number, job in changes.jobs.items():
                    known.pop(number, None)
                    known |= {number: job} if job else {}
                assert known == (await database.read(queue.unfinished)).jobs
        assert known

    with_database(new_database, work)


def _move(write: Write, random: Random) -> None:
    """Something that happens to a job."""
    live = jobs.live_trials(write.connection)
    chosen = random.choice(live) if live and random.random() < 0.7 else None
    if chosen is None:
        create(
            write, *({"load": random.choice([0.5, 1]), "max_trials": 2} for _ in range(random.randint(1, 3)))
        )
    elif chosen.state is State.PENDING:
        jobs.claim(write.connection, chosen.id, "Executor/a", "w")
        jobs.touch(write.connection, chosen.job, write.version)
    elif random.random() < 0.2:
        job = jobs.load(write.connection, chosen.job)
        assert job is not None
        apply.cancel(write, job, Reason.CANCELLED)
        apply.advance(write, chosen.job)
    else:
        state = State.FAILED if chosen.state is State.DISPATCHING else State.PASSED
        jobs.finish(write.connection, chosen.id, chosen.epoch, Ending(state, None), write.now)
        jobs.touch(write.connection, chosen.job, write.version)
        apply.advance(write, chosen.job)


def test_when_an_executor_was_given_something_last(new_database: NewDatabase) -> None:
    """Of what runs, and of what has ended since a moment; what waits was given to nobody."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> list[datetime]:
            c, found = write.connection, []
            for executor, minutes, finished in (
                ("a", 1, True),
                ("a", 5, False),
                ("b", 2, True),
                ("c", 9, False),
            ):
                job = jobs.load(c, create(write))
                assert job is not None
                trial = job.tasks[0].trials[0].id
                at = write.now + timedelta(minutes=minutes)
                jobs.claim(c, trial, f"Executor/{executor}", "w")
                jobs.begin(c, trial, 1, f"{trial}/1", at, write.version)
                if finished:
                    jobs.finish(c, trial, 1, Ending(State.PASSED, None), at)
                    assert jobs.move(c, "job", job.id, State.PASSED, None, at, version=1)
                found.append(at)
            create(write)
            return found

        one, five, two, nine = await database.write(fill)
        starts = await database.read(lambda c: queue.last_starts(c, one))
        assert starts == {"Executor/a": five, "Executor/b": two, "Executor/c": nine}
        assert await database.read(lambda c: queue.last_starts(c, nine)) == {
            "Executor/a": five,
            "Executor/c": nine,
        }

    with_database(new_database, work)
