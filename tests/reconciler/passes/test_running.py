"""From a commit to a finished job inside one process, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.access import EVERYTHING, ROOT, Caller
from reconciler.apply.builds import set_status
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.errors import Conflict, Stalled
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import State
from reconciler.model.status import Health, Sync
from reconciler.model.timer import Timer
from reconciler.queries import jobs as job_queries
from reconciler.queries import schedules, why
from reconciler.store import jobs, resources, timers
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

ALICE = Caller("User/alice", EVERYTHING)
KEY = "Build/shop/_/work"

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


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
        kept, path = await job_queries.attachment(running.installation, ROOT, 1, "dist/a.txt", None, None)
        assert (kept.size, path.read_text()) == (12, "hello world\n")
        await running.loop.idle()
        build_now = running.installation.snapshot.current.resources[KEY]
        assert (build_now.sync, build_now.health) == (Sync.SYNCED, Health.HEALTHY)
        running.loop.wake("resync")
        await running.loop.idle()
        assert (
            len(
                (
                    await job_queries.page(
                        running.installation, ROOT, key=None, state=None, limit=9, after=None
                    )
                )["items"]
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
        await commands.trigger(running.installation, ALICE, KEY, {}, None, None)
        job = await finished(running)
        flaky, slow = job.tasks
        assert [(t.state, t.scripts[0].exit_status) for t in flaky.trials] == [(State.FAILED, 3)] * 3
        assert (slow.state, slow.reason) == (State.DEFECTIVE, "timeout")
        assert job.state is State.DEFECTIVE
        answer = await why.why(running.installation, ROOT, KEY)
        assert answer["causes"][0]["reason"] == "LastJobFailed"

    live(tmp_path, new_database, specs, work)


def test_a_jobs_own_time_limit_ends_it(tmp_path: Path, new_database: NewDatabase) -> None:
    """`timeout_seconds` of the Build: what runs is stopped, what waits never starts."""
    specs = build(
        "timeout_seconds: 10\ntasks:\n  - {name: a, run: sleep 600}\n  - {name: b, needs: [a], run: echo no}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, KEY, {}, None, None)
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
            await commands.trigger(installation, ALICE, KEY, {}, None, None)

        async def told() -> bool:
            causes = (await why.why(installation, ROOT, KEY))["causes"]
            return [cause["reason"] for cause in causes] == ["Concurrency"]

        await eventually(told)
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
        made = await commands.trigger(installation, ALICE, KEY, {"how": "long"}, None, None)
        with pytest.raises(Conflict):
            await commands.retry(installation, ALICE, made["number"])

        async def shown() -> bool:
            return await text_of(running) == "long\n"

        await eventually(shown)
        await commands.cancel(installation, ALICE, 1)
        job = await finished(running)
        assert (job.state, job.reason, job.actor) == (State.ABORTED, "cancelled", "User/alice")
        again = await commands.retry(installation, ALICE, 1)
        await commands.cancel(installation, ALICE, again["number"])
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
        items = (await schedules.upcoming(installation, ROOT))["items"]
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
            await commands.trigger(installation, ALICE, KEY, {}, None, None)

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


def test_a_script_that_is_not_there_ends_the_job(tmp_path: Path, new_database: NewDatabase) -> None:
    """`script-missing`, and the next job of the Build is not held up."""
    specs = build(f"repo: '{tmp_path / 'specs'}'\ntasks: [{{name: t, script: ci/nope.sh}}]\n")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        for number in (1, 2):
            await commands.trigger(running.installation, ALICE, KEY, {}, None, None)
            job = await finished(running, number)
            assert (job.state, job.reason) == (State.FAILED, "script-missing")
            assert "ci/nope.sh" in (job.tasks[0].trials[0].error or "")

    live(tmp_path, new_database, specs, work)


def test_a_new_job_replaces_those_that_have_not_begun(tmp_path: Path, new_database: NewDatabase) -> None:
    """`replace`: what runs goes on, what waits gives way to the newest."""
    specs = build("concurrency: replace\ntasks: [{name: t, run: sleep 2}]\n")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        installation = running.installation

        async def executing() -> bool:
            job = await installation.database.read(lambda c: jobs.load(c, 1))
            return job is not None and job.state is State.EXECUTING

        await commands.trigger(installation, ALICE, KEY, {}, None, None)
        await eventually(executing)
        for _ in range(2):
            await commands.trigger(installation, ALICE, KEY, {}, None, None)
        ends = [await finished(running, number) for number in (1, 2, 3)]
        assert [(job.state, job.reason) for job in ends] == [
            (State.PASSED, None),
            (State.ABORTED, "superseded"),
            (State.PASSED, None),
        ]

    live(tmp_path, new_database, specs, work)


def test_a_pass_leaves_the_conditions_of_a_newer_commit_alone(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """A status that was worked out before the commit changes health only."""
    specs = build("tasks: [{name: t, run: 'true'}]\n")

    async def work(running: Daemon, repo: SpecRepository) -> None:
        installation = running.installation
        repo.commit({"work.yaml": specs.replace("tasks", "taks")})
        await installation.run_now("source")
        await set_status(installation, KEY, Sync.SYNCED, Health.HEALTHY, None)
        now = installation.snapshot.current.resources[KEY]
        assert now.invalid
        assert (now.sync, now.health) == (Sync.OUT_OF_SYNC, Health.HEALTHY)
        stored = await installation.database.read(resources.load_all)
        assert stored[KEY].conditions == now.conditions

    live(tmp_path, new_database, specs, work)


def test_a_new_specification_has_no_health_yet(tmp_path: Path, new_database: NewDatabase) -> None:
    """Design 14.10: the newest job of the specification in force; an old one's failure is not the new one's."""
    specs = build("tasks: [{name: t, run: 'false'}]\n")

    async def work(running: Daemon, repo: SpecRepository) -> None:
        installation = running.installation

        def health() -> Health:
            return installation.snapshot.current.resources[KEY].health

        await commands.trigger(installation, ALICE, KEY, {}, None, None)
        await finished(running)
        await eventually(lambda: health() is Health.DEGRADED)
        repo.commit({"work.yaml": specs.replace("false", "true")})
        await installation.run_now("source")
        await running.loop.idle()
        assert health() is Health.UNKNOWN
        repo.commit({"work.yaml": specs})
        await installation.run_now("source")
        await running.loop.idle()
        assert health() is Health.DEGRADED, "the work is that of job 1 again"

    live(tmp_path, new_database, specs, work)


def test_due_times_go_with_their_trigger(tmp_path: Path, new_database: NewDatabase) -> None:
    """A trigger that is taken out, or a Build that is switched off, is owed nothing when it comes back."""
    scheduled = "triggers: [{type: schedule, cron: '0 3 * * *', timezone: UTC}]\n"
    tasks = "tasks: [{name: t, run: 'true'}]\n"

    async def work(running: Daemon, repo: SpecRepository) -> None:
        installation = running.installation
        await running.loop.idle()
        for off in (build(tasks), build("disabled: true\n" + scheduled + tasks)):
            repo.commit({"work.yaml": off})
            await installation.run_now("source")
            await running.loop.idle()
            assert await installation.database.read(timers.summary) == (0, None)
            repo.commit({"work.yaml": build(scheduled + tasks)})
            await installation.run_now("source")
            await running.loop.idle()
            assert (await installation.database.read(timers.summary))[0] == 1

    live(tmp_path, new_database, build(scheduled + tasks), work)


def test_a_second_daemon_on_the_same_sqlite_refuses(tmp_path: Path) -> None:
    """It would take up the first one's trials as its own; on PostgreSQL it follows (`tests/daemons`)."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    url = f"sqlite:///{tmp_path / 'shared.db'}"

    async def run() -> None:
        async with daemon(settings_for(repo, tmp_path / "one", database=url)):
            with pytest.raises(Stalled, match="another daemon"):
                async with daemon(
                    settings_for(
                        repo, tmp_path / "two", database=url, key_file=tmp_path / "one" / "server.key"
                    )
                ):
                    raise AssertionError("it started")
        async with daemon(
            settings_for(repo, tmp_path / "two", database=url, key_file=tmp_path / "one" / "server.key")
        ) as running:
            assert "Project/shop" in running.installation.snapshot.current.resources

    asyncio.run(run())


@pytest.mark.sqlite(
    "there is one daemon; on PostgreSQL the other one's scripts wait for it: tests/fleet/test_away.py"
)
def test_a_claim_of_another_data_directory_is_lost_and_not_started_again(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """What cannot be seen from here may have run. On PostgreSQL with its lease, without which it is waited for."""
    out = tmp_path / "out"
    out.mkdir()
    repo = SpecRepository(tmp_path / "specs")
    executor = f"apiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: local}}\nspec: {{writable: ['{out}']}}\n"
    once = build(f"tasks: [{{name: t, lost_retries: 0, run: 'echo start >> {out}/x; sleep 600'}}]\n")
    repo.commit({"all.yaml": f"{PROJECT}---\n{executor}---\n{once}"})
    url = new_database()

    async def first() -> None:
        async with daemon(settings_for(repo, tmp_path / "one", database=url, lease_seconds=5.0)) as running:
            await commands.trigger(running.installation, ALICE, KEY, {}, None, None)
            await eventually(lambda: (out / "x").exists())

    async def second() -> None:
        async with daemon(
            settings_for(repo, tmp_path / "two", database=url, key_file=tmp_path / "one" / "server.key")
        ) as running:
            job = await finished(running)
            assert (job.state, job.reason) == (State.DEFECTIVE, "lost")
        assert (out / "x").read_text() == "start\n"

    asyncio.run(first())
    asyncio.run(second())
