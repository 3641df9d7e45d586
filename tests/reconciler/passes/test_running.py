"""From a commit to a finished job inside one process, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.errors import Conflict
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.event import Actor
from reconciler.model.job import Job, State
from reconciler.model.status import Health, Sync
from reconciler.model.timer import Timer
from reconciler.queries import jobs as job_queries
from reconciler.queries import logs, schedules, why
from reconciler.queries.logs import Selection
from reconciler.store import jobs, timers
from tests.conftest import NewDatabase
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

ALICE = Actor("User/alice")
KEY = "Build/shop/_/work"

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


def build(body: str, *, name: str = "work") -> str:
    head = f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in body.splitlines())


def live(
    tmp_path: Path,
    new_database: NewDatabase,
    specs: str,
    work: Callable[[Daemon, SpecRepository], Awaitable[None]],
) -> None:
    """A daemon on a repository with one file of specs."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": specs})

    async def run() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=new_database())) as running:
            await asyncio.wait_for(work(running, repo), 60)

    asyncio.run(run())


async def finished(running: Daemon, number: int = 1) -> Job:
    """Job NUMBER once it has ended."""

    async def check() -> Job | None:
        job = await running.installation.database.read(lambda c: jobs.load(c, number))
        return job if job is not None and job.state.finished else None

    job: Job = await eventually(check, 40)
    return job


async def text_of(running: Daemon, number: int = 1, **selection: Any) -> str:
    chunks = [chunk async for chunk in logs.read(running.installation, number, Selection(**selection), 0)]
    return b"".join(chunks).decode()


def test_a_commit_becomes_a_finished_job(tmp_path: Path, new_database: NewDatabase) -> None:
    """Needs in order, logs, attachments, health; one job for one specification."""
    specs = build(
        "triggers: [{type: change}]\nenvironment_variables: {WHO: world}\ntasks:\n"
        "  - {name: make, run: 'mkdir dist; echo hello $WHO > dist/a.txt; echo made', attachments: ['dist/*']}\n"
        "  - {name: check, needs: [make], run: 'echo checked'}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        assert (job.state, job.trigger) == (State.PASSED, {"type": "change"})
        assert [(t.name, t.state) for t in job.tasks] == [("make", State.PASSED), ("check", State.PASSED)]
        assert job.tasks[1].trials[0].started_at >= job.tasks[0].trials[0].finished_at  # type: ignore[operator]
        assert await text_of(running) == "==> make #1 run <==\nmade\n==> check #1 run <==\nchecked\n"
        assert await text_of(running, task="make") == "made\n"
        kept, path = await job_queries.attachment(running.installation, 1, "dist/a.txt", None, None)
        assert (kept.size, path.read_text()) == (12, "hello world\n")
        await running.loop.idle()
        build_now = running.installation.snapshot.current.resources[KEY]
        assert (build_now.sync, build_now.health) == (Sync.SYNCED, Health.HEALTHY)
        running.loop.wake("resync")
        await running.loop.idle()
        assert (
            len(
                (await job_queries.page(running.installation, key=None, state=None, limit=9, after=None))[
                    "items"
                ]
            )
            == 1
        )

    live(tmp_path, new_database, specs, work)


def test_a_changed_specification_makes_one_more_job(tmp_path: Path, new_database: NewDatabase) -> None:
    """A changed policy is no changed work (design 14.4); a changed script is."""
    specs = build("triggers: [{type: change}]\ntasks: [{name: t, run: echo one}]\n")

    async def work(running: Daemon, repo: SpecRepository) -> None:
        await finished(running)
        repo.commit({"work.yaml": specs.replace("triggers:", "timeout_seconds: 60\n  triggers:")})
        await running.installation.run_now("source")
        await running.loop.idle()
        assert (
            len(
                await running.installation.database.read(
                    lambda c: jobs.page(c, key=KEY, state=None, limit=9, after=None)
                )
            )
            == 1
        )
        repo.commit({"work.yaml": specs.replace("one", "two")})
        assert await finished(running, 2)
        assert await text_of(running, 2) == "two\n"

    live(tmp_path, new_database, specs, work)


def test_tries_and_time_limits_are_as_declared(tmp_path: Path, new_database: NewDatabase) -> None:
    """`max_trials` attempts, each kept; a task beyond its time is defective with its whole tree ended."""
    specs = build(
        "tasks:\n  - {name: flaky, max_trials: 3, run: 'echo try; exit 3'}\n"
        "  - {name: slow, timeout_seconds: 1, run: 'sleep 600'}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, KEY, {}, None, None, ALICE)
        job = await finished(running)
        flaky, slow = job.tasks
        assert [(t.state, t.scripts[0].exit_status) for t in flaky.trials] == [(State.FAILED, 3)] * 3
        assert (slow.state, slow.reason) == (State.DEFECTIVE, "timeout")
        assert job.state is State.DEFECTIVE
        answer = await why.why(running.installation, KEY)
        assert answer["causes"][0]["reason"] == "LastJobFailed"

    live(tmp_path, new_database, specs, work)


def test_a_jobs_own_time_limit_ends_it(tmp_path: Path, new_database: NewDatabase) -> None:
    """`timeout_seconds` of the Build: what runs is stopped, what waits never starts."""
    specs = build(
        "timeout_seconds: 10\ntasks:\n  - {name: a, run: sleep 600}\n  - {name: b, needs: [a], run: echo no}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, KEY, {}, None, None, ALICE)
        job = await finished(running)
        assert (job.state, job.reason) == (State.DEFECTIVE, "timeout")
        assert [t.state for t in job.tasks] == [State.ABORTED, State.ABORTED]
        assert job.tasks[1].trials == ()

    live(tmp_path, new_database, specs, work)


def test_jobs_of_one_build_queue_unless_allowed_beside_each_other(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """`queue` waits for the older one, and `why` says so."""
    specs = build("tasks: [{name: t, run: sleep 2}]\n")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        for _ in range(2):
            await commands.trigger(installation, KEY, {}, None, None, ALICE)
        await eventually(lambda: installation.waits)
        causes = (await why.why(installation, KEY))["causes"]
        assert [cause["reason"] for cause in causes] == ["Concurrency"]
        first, second = await finished(running, 1), await finished(running, 2)
        assert first.finished_at <= second.started_at  # type: ignore[operator]

    live(tmp_path, new_database, specs, work)


def test_cancel_and_retry(tmp_path: Path, new_database: NewDatabase) -> None:
    """Cancel ends what runs; a retry is a new job with the same inputs."""
    specs = build(
        "inputs: [{id: how, default: short}]\ntasks: [{name: t, run: 'echo $INPUT_how; sleep 600'}]\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        made = await commands.trigger(installation, KEY, {"how": "long"}, None, None, ALICE)
        with pytest.raises(Conflict):
            await commands.retry(installation, made["number"], ALICE)

        async def shown() -> bool:
            return await text_of(running) == "long\n"

        await eventually(shown)
        await commands.cancel(installation, 1, ALICE)
        job = await finished(running)
        assert (job.state, job.reason, job.actor) == (State.ABORTED, "cancelled", "User/alice")
        again = await commands.retry(installation, 1, ALICE)
        await commands.cancel(installation, again["number"], ALICE)
        second = await finished(running, again["number"])
        assert (second.retry_of, second.inputs, second.id) == (1, {"how": "long"}, again["id"])

    live(tmp_path, new_database, specs, work)


def test_a_due_time_runs_once(tmp_path: Path, new_database: NewDatabase) -> None:
    """A missed firing makes one job at the next look, with its due time; looking again makes none."""
    trigger = "triggers: [{type: schedule, cron: '0 3 * * *', timezone: UTC}]\n"
    specs = build(trigger + "tasks: [{name: t, run: 'echo $STEERSMAN_DUE'}]\n")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation
        await running.loop.idle()
        items = (await schedules.upcoming(installation))["items"]
        assert len(items[0]["next"]) == 5
        timer = (await installation.database.read(lambda c: timers.load(c, KEY)))[0]
        assert timer.next_due is not None
        earlier = timer.next_due - timedelta(days=3)
        moved = Timer(0, timer.digest, None, earlier)
        await installation.database.write(lambda w: timers.save(w.connection, KEY, moved))
        for _ in range(3):
            await installation.run_now(KEY)
        job = await finished(running)
        due = timer.next_due - timedelta(days=1)
        assert await text_of(running) == due.isoformat() + "\n"
        assert job.trigger["due"] == due.isoformat()
        assert (
            len(
                await installation.database.read(
                    lambda c: jobs.page(c, key=None, state=None, limit=9, after=None)
                )
            )
            == 1
        )

    live(tmp_path, new_database, specs, work)


def test_a_removed_build_leaves_no_pending_job(tmp_path: Path, new_database: NewDatabase) -> None:
    """Its running job ends by itself, the pending one is cancelled with its reason."""
    specs = build("tasks: [{name: t, run: sleep 3}]\n")

    async def work(running: Daemon, repo: SpecRepository) -> None:
        installation = running.installation
        for _ in range(2):
            await commands.trigger(installation, KEY, {}, None, None, ALICE)

        async def executing() -> bool:
            job = await installation.database.read(lambda c: jobs.load(c, 1))
            return job is not None and job.state is State.EXECUTING

        await eventually(executing)
        repo.commit({"work.yaml": None})
        await installation.run_now("source")
        first, second = await finished(running, 1), await finished(running, 2)
        assert first.state is State.PASSED
        assert (second.state, second.reason) == (State.ABORTED, "pruned")
        assert KEY not in installation.snapshot.current.resources

    live(tmp_path, new_database, specs, work)
