"""Builds that start after others, and the queue that follows every change, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import EVERYTHING, ROOT, Caller
from reconciler.apply import builds as apply
from reconciler.commands import jobs as commands
from reconciler.controllers.builds import BuildDecision, MakeJob
from reconciler.daemon import Daemon
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Checkout, Job, State
from reconciler.model.queue import Need, QueuedJob, QueuedTrial
from reconciler.model.timer import Timer
from reconciler.passes import dispatch
from reconciler.queries import jobs as job_queries
from reconciler.queries import why
from reconciler.store import jobs, retention, timers
from tests.conftest import NewDatabase
from tests.running import build, finished, live
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

ALICE = Caller("User/alice", EVERYTHING)
CRM, ERP, REPORT = "Build/shop/_/load-crm", "Build/shop/_/load-erp", "Build/shop/_/report"
LOADS = "\n---\n".join(
    build("tasks: [{name: t, run: 'true'}]\n", name=name) for name in ("load-crm", "load-erp")
)
FOLLOWER = build(
    "triggers: [{type: build, builds: [load-crm, load-erp], inputs: {suite: slow}}]\n"
    "inputs: [{id: suite, default: fast}]\ntasks: [{name: t, run: 'true'}]\n",
    name="report",
)

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


async def run(running: Daemon, key: str) -> Job:
    """A job of this Build, run by hand, once all that follows from it has been looked at."""
    made = await commands.trigger(running.installation, ALICE, key, {}, None, None)
    job = await finished(running, made["number"])
    await running.loop.idle()
    return job


async def of(running: Daemon, key: str = REPORT) -> list[Job]:
    """The jobs of a Build, newest first."""
    return await running.installation.database.read(
        lambda c: jobs.page(c, key=key, state=None, limit=9, after=None)
    )


async def seen(running: Daemon) -> Timer:
    """The follower's trigger, once it was looked at."""

    async def look() -> Timer | None:
        stored = await running.installation.database.read(lambda c: timers.load(c, REPORT))
        return stored.get(0)

    found: Timer = await eventually(look)
    return found


async def reasons(running: Daemon, key: str = REPORT) -> list[tuple[str, str]]:
    answer = await why.why(running.installation, ROOT, key)
    return [(cause["reason"], cause["message"]) for cause in answer["causes"]]


def test_a_build_starts_when_each_that_it_follows_has_passed(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """Once for each set of passes, with the trigger's inputs; `why` says who is still awaited."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await seen(running)
        assert await reasons(running) == [("AwaitsBuilds", f"starts when {CRM} and {ERP} have passed")]
        await run(running, CRM)
        await run(running, CRM)
        assert await reasons(running) == [("AwaitsBuilds", f"starts when {ERP} has passed")]
        assert await of(running) == []
        await run(running, ERP)
        (job,) = await eventually(lambda: of(running))
        assert job.trigger == {"type": "build", "position": 0, "after": {CRM: 2, ERP: 3}}
        assert job.inputs == {"suite": "slow"}
        await finished(running, job.number)
        await run(running, ERP)
        assert len(await of(running)) == 1
        assert await reasons(running) == [("AwaitsBuilds", f"starts when {CRM} has passed")]
        await run(running, CRM)
        await eventually(lambda: _has(running, 2))

    live(tmp_path, new_database, f"{LOADS}\n---\n{FOLLOWER}", work)


async def _has(running: Daemon, count: int) -> bool:
    return len(await of(running)) == count


def test_what_passed_before_the_trigger_was_there_does_not_count(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """A follower that comes later waits for each to pass again; one that is disabled starts nothing."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        await run(running, CRM)
        await run(running, ERP)
        repo.commit({"work.yaml": f"{LOADS}\n---\n{FOLLOWER}"})
        await running.installation.run_now("source")
        await seen(running)
        await run(running, CRM)
        repo.commit({"work.yaml": f"{LOADS}\n---\n{FOLLOWER}  disabled: true\n"})
        await running.installation.run_now("source")
        await running.loop.idle()
        await run(running, ERP)
        repo.commit({"work.yaml": f"{LOADS}\n---\n{FOLLOWER}"})
        await running.installation.run_now("source")
        await running.loop.idle()
        assert await of(running) == []
        await run(running, ERP)
        assert await of(running) == []
        await run(running, CRM)
        await eventually(lambda: _has(running, 1))

    live(tmp_path, new_database, LOADS, work)


def test_a_start_is_made_once_however_often_it_is_decided(tmp_path: Path, new_database: NewDatabase) -> None:
    """The transaction looks again: a decision that was carried out before a kill makes no second job."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        noted = await seen(running)
        assert noted.since is not None
        await run(running, CRM)
        order = MakeJob(
            Checkout(), {"type": "build", "position": 0, "after": {CRM: 1}}, {},
            timer=Timer(0, noted.digest, since=noted.since + 1),
        )  # fmt: skip
        resource = running.installation.snapshot.current.resources[REPORT]
        decision = BuildDecision(jobs=(order,))
        made = [await apply.make_jobs(running.installation, resource, "w", decision) for _ in range(2)]
        assert made == [[2], []]

    live(tmp_path, new_database, f"{LOADS}\n---\n{FOLLOWER}", work)


def test_a_pass_that_nobody_noticed_is_found_after_a_restart(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """The wake-up of a finished job dies with the daemon; the next one looks at every follower."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": f"{LOADS}\n---\n{FOLLOWER}"})
    settings = settings_for(repo, tmp_path / "data", database=new_database())

    async def first() -> None:
        async with daemon(settings) as running:
            await seen(running)
            running.installation.followers = {}  # as if it ended before anybody was woken
            await run(running, CRM)
            await run(running, ERP)
            assert await of(running) == []

    async def second() -> None:
        async with daemon(settings) as running:
            await eventually(lambda: _has(running, 1))
            await running.loop.idle()
            assert len(await of(running)) == 1

    asyncio.run(first())
    asyncio.run(second())


def test_the_queue_follows_what_happens_and_what_is_forgotten(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """After jobs have run it is what the store says; one whose row was dropped before it was seen to end falls out."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        for _ in range(3):
            await commands.trigger(installation, ALICE, CRM, {}, None, None)
        await finished(running, 3)
        await running.loop.idle()
        assert installation.queue.jobs == {}
        running_once = QueuedTrial("t", 0, 0, Need(), dispatch.LOCAL)
        installation.queue.update(3, QueuedJob(3, CRM, None, 0, False, False, (running_once,)))
        await installation.database.write(lambda w: retention.forget(w.connection, [3]))
        await installation.run_now("retention")
        await running.loop.idle()
        assert installation.queue.jobs == {}

    live(tmp_path, new_database, LOADS, work)


def test_a_claim_that_fails_frees_the_room_for_others(tmp_path: Path, new_database: NewDatabase) -> None:
    """A trial that is no longer to be had is looked at again, and what waits behind it starts."""
    place = (
        "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: one}\n"
        "spec: {max_load: 1, images: {host: {type: host}}}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        ghost = QueuedTrial("ghost", 0, 0, Need())
        installation.queue.update(99, QueuedJob(99, CRM, None, 9, True, False, (ghost,)))
        assert (await run(running, ERP)).state is State.PASSED
        assert installation.queue.jobs == {}

    live(tmp_path, new_database, f"{LOADS}\n---\n{place}", work)


def test_why_tells_of_needs_retries_locks_and_images(tmp_path: Path, new_database: NewDatabase) -> None:
    """Each task that waits says for what, in `why` and in the job."""
    specs = build(
        "concurrency: allow\ntasks:\n"
        "  - {name: hold, exclusive: [db], run: sleep 600}\n"
        "  - {name: after, needs: [hold], run: 'true'}\n"
        "  - {name: again, max_trials: 2, retry_delay_seconds: 600, run: 'false'}\n"
        "  - {name: boxed, image: absent, run: 'true'}\n",
    )
    key = "Build/shop/_/work"

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        for _ in range(2):
            await commands.trigger(installation, ALICE, key, {}, None, None)

        async def told() -> Any:
            found = {r: text for r, text in await reasons(running, key) if text.startswith("job 2")}
            return found if {"Needs", "RetryDelay", "Locked", "NoExecutor"} == found.keys() else None

        found = await eventually(told)
        assert found["Needs"] == "job 2, task after: waits for hold to end"
        assert found["RetryDelay"].startswith("job 2, task again: try 2 not before 20")
        assert found["Locked"] == "job 2, task hold: lock db held by job 1"
        assert found["NoExecutor"] == "job 2, task boxed: no executor that could run it has the image absent"
        shown = (await job_queries.get(installation, ROOT, 2))["tasks"][0]["trials"][0]
        assert shown["waits_for"] == "lock db held by job 1"
        for number in (1, 2):
            await commands.cancel(installation, ALICE, number)
            await finished(running, number)

    live(tmp_path, new_database, specs, work)
