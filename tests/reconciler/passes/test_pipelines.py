"""Passes of pipelines: what is due is made once, whatever was missed; what was lost is found again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from reconciler.access import ROOT
from reconciler.commands import pipelines as commands
from reconciler.daemon import Daemon
from reconciler.errors import Stalled
from reconciler.model.job import Checkout
from reconciler.model.pipeline import Run, Status
from reconciler.model.status import Health, Sync
from reconciler.model.timer import Timer
from reconciler.passes import pipelines as passes
from reconciler.queries import schedules, why
from reconciler.store import jobs, timers
from reconciler.store import pipelines as rows
from reconciler.store.database import Database, Write
from reconciler.store.jobs import NewJob
from reconciler.store.tables import jobs as job_table
from specs.meta import parse_key
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Pipeline/shop/release"


def pipeline(spec: str, name: str = "release") -> str:
    """One document."""
    return (
        f"apiVersion: steersman/v1\nkind: Pipeline\nmetadata: {{name: {name}, project: shop}}\nspec: {spec}\n"
    )


async def runs(running: Daemon, key: str = KEY) -> list[Run]:
    """Runs of a pipeline, newest first."""
    wanted = rows.Wanted(key)
    return await running.installation.database.read(lambda c: rows.page(c, wanted))


async def idle(running: Daemon, *names: str) -> None:
    """Passes of these names, and all that follows."""
    for name in names:
        await running.installation.run_now(name)
    await running.loop.idle()


def test_a_schedule_starts_runs(tmp_path: Path) -> None:
    """Those that were missed once, never twice; disabled none, and none for what was due meanwhile."""
    repo = SpecRepository(tmp_path / "specs")
    spec = "{schedules: [{cron: '0 * * * *'}], phases: []}"
    repo.commit({"p.yaml": PROJECT, "r.yaml": pipeline(spec)})

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            installation = running.installation
            await idle(running, KEY)
            (timer,) = (await installation.database.read(lambda c: timers.load(c, KEY))).values()
            assert timer.next_due is not None
            assert await runs(running) == []
            (shown,) = (await schedules.upcoming(installation, ROOT))["items"]
            assert (shown["key"], shown["cron"], shown["missed"]) == (KEY, "0 * * * *", "once")
            past = Timer(0, timer.digest, None, timer.next_due - timedelta(hours=5))
            await installation.database.write(lambda w: timers.save(w.connection, KEY, past))
            await idle(running, KEY, KEY)
            (run,) = await runs(running)
            assert (run.status, run.trigger["type"], run.identity) == (Status.OK, "schedule", None)
            assert run.trigger["due"] == (timer.next_due - timedelta(hours=1)).isoformat()
            repo.commit({"r.yaml": pipeline(spec.replace("{sch", "{disabled: true, sch"))})
            await idle(running, "source", KEY)
            repo.commit({"r.yaml": pipeline(spec)})
            await idle(running, "source", KEY, KEY)
            assert len(await runs(running)) == 1
            repo.commit({"r.yaml": pipeline("{phases: []}")})
            await idle(running, "source", KEY)
            assert await installation.database.read(lambda c: timers.load(c, KEY)) == {}

    asyncio.run(work())


def test_status_and_cause(tmp_path: Path) -> None:
    """Of the newest run; nothing is unsettled; a wake-up that was lost is made up for."""
    repo = SpecRepository(tmp_path / "specs")
    asks = "{phases: [{name: p, steps: [{type: confirmation}]}]}"
    repo.commit({"p.yaml": PROJECT, "r.yaml": pipeline(asks)})

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            installation = running.installation
            await idle(running, KEY)

            def state() -> tuple[Sync, Health]:
                found = installation.snapshot.current.resources[KEY]
                return found.sync, found.health

            async def causes() -> list[str]:
                found = await why.why(installation, ROOT, KEY)
                return [cause["reason"] for cause in found["causes"]]

            assert state() == (Sync.SYNCED, Health.UNKNOWN)
            assert await causes() == []
            first = await commands.trigger(installation, ROOT, parse_key(KEY))
            second = await commands.trigger(installation, ROOT, parse_key(KEY))
            await idle(running, KEY)
            assert state() == (Sync.SYNCED, Health.PROGRESSING)
            assert await causes() == ["AwaitsConfirmation", "Queued"]
            run = (await runs(running))[1]
            assert run.id == first.id
            await commands.decide(installation, ROOT, run, (0, 0), approved=False, comment="")
            await commands.cancel(installation, ROOT, (await runs(running))[0])
            await idle(running, passes.ALL)
            assert [each.reason for each in await runs(running)] == ["cancelled", "disapproved"]
            assert second.number == 2
            assert state() == (Sync.SYNCED, Health.UNKNOWN)
            await commands.trigger(installation, ROOT, parse_key(KEY))
            run = (await runs(running))[0]
            await commands.decide(installation, ROOT, run, (0, 0), approved=False, comment="")
            await eventually(lambda: state() == (Sync.SYNCED, Health.DEGRADED))
            assert await causes() == ["LastRunFailed"]

    asyncio.run(work())


def test_runs_of_a_pipeline_that_is_gone(tmp_path: Path) -> None:
    """What has begun ends by itself, what has not never begins."""
    repo = SpecRepository(tmp_path / "specs")
    asks = "{phases: [{name: p, steps: [{type: confirmation}]}]}"
    repo.commit({"p.yaml": PROJECT, "r.yaml": pipeline(asks)})

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            installation = running.installation
            for _ in range(2):
                await commands.trigger(installation, ROOT, parse_key(KEY))
            await idle(running, KEY)
            repo.commit({"r.yaml": None})
            await idle(running, "source", KEY)
            second, first = await runs(running)
            assert (second.reason, first.ended) == ("cancelled", False)
            await commands.decide(installation, ROOT, first, (0, 0), approved=True, comment="")
            assert (await runs(running))[1].status is Status.OK

    asyncio.run(work())


def test_a_schedule_alone_is_nobody_to_act_as(tmp_path: Path) -> None:
    """Without a service account its steps fail; they do not when they touch nothing."""
    repo = SpecRepository(tmp_path / "specs")
    step = "{type: pipeline-trigger, pipeline: other}"
    spec = f"{{schedules: [{{cron: '0 * * * *'}}], phases: [{{name: p, steps: [{step}]}}]}}"
    repo.commit({"p.yaml": PROJECT, "r.yaml": pipeline(spec), "o.yaml": pipeline("{}", "other")})

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            installation = running.installation
            await idle(running, KEY)
            (timer,) = (await installation.database.read(lambda c: timers.load(c, KEY))).values()
            assert timer.next_due is not None
            past = Timer(0, timer.digest, None, timer.next_due - timedelta(hours=5))
            await installation.database.write(lambda w: timers.save(w.connection, KEY, past))
            await idle(running, KEY)
            (run,) = await runs(running)
            assert (run.status, run.reason) == (Status.FAILED, "no-identity")
            assert await runs(running, "Pipeline/shop/other") == []

    asyncio.run(work())


def test_what_a_pipelines_own_commit_caused_starts_none(tmp_path: Path) -> None:
    """Of deploys that the reconciler has started, those for commits of people do (10.3)."""
    repo = SpecRepository(tmp_path / "specs")
    step = "{type: deploy, environment: dev, deployment: shop/web, trigger_pipeline_on_deploy: true}"
    spec = f"{{phases: [{{name: p, steps: [{step}]}}]}}"
    inside = (
        "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\nspec: {}\n---\n"
        "apiVersion: steersman/v1\nkind: Deployment\nmetadata: {name: shop/web, project: shop, environment: dev}\n"
        "spec: {reconcile: manual}\n"
    )
    repo.commit({"p.yaml": PROJECT, "r.yaml": pipeline(spec), "d.yaml": inside})
    own = repo.commit({"x.txt": "1"}, "deployment: set version\n\nSteersman-Pipeline-Run: shop/other#1\n")
    person = repo.commit({"x.txt": "2"}, "Bump\n\nReviewed-by: Steersman-Pipeline-Run\n")

    def ended(write: Write, revision: str) -> int:
        new = NewJob(
            "Deployment/shop/dev/shop/web",
            {"tasks": [], "revision": revision},
            "w",
            Checkout(),
            {"type": "reconcile"},
            {},
            "System/steersman",
        )
        number = jobs.create(write.connection, new, write.now, write.version)
        values = {"state": "passed", "finished_at": write.now, "finished_version": write.version}
        write.connection.execute(update(job_table).where(job_table.c.number == number).values(**values))
        return number

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            installation = running.installation
            await idle(running, KEY)
            await installation.database.write(lambda w: ended(w, own))
            await idle(running, KEY)
            before = installation.database.version
            await idle(running, KEY)
            assert installation.database.version == before, "what is nothing new is not stored again"
            second = await installation.database.write(lambda w: ended(w, person))
            await idle(running, KEY, KEY)
            (run,) = await runs(running)
            assert (run.cause, run.trigger["type"], run.status) == (second, "deploy", Status.OK)
            assert run.step((0, 0)).adopted

    asyncio.run(work())


def _dying(patch: pytest.MonkeyPatch, after: int, commits: list[int]) -> None:
    """From now on runs commit so often, and never again. The list grows by each commit."""
    go_on, write = passes._go_on, Database.write
    inside = ContextVar("inside", default=False)

    async def watched(*given: Any) -> Any:
        inside.set(True)
        return await go_on(*given)

    async def counted(database: Database, work: Callable[[Write], Any], *rest: Any, **named: Any) -> Any:
        if not inside.get():
            return await write(database, work, *rest, **named)
        if len(commits) < after:
            result = await write(database, work, *rest, **named)
            commits.append(len(commits) + 1)
            if len(commits) < after:
                return result
        raise Stalled("Killed", "the pass ends here")

    patch.setattr(passes, "_go_on", watched)
    patch.setattr(Database, "write", counted)


def test_a_pass_that_dies_after_a_commit_is_gone_on_with(tmp_path: Path) -> None:
    """Each step starts one run, whichever commit was the last."""
    inner, last = (f"{{type: pipeline-trigger, pipeline: {name}, WAIT}}" for name in ("inner", "last"))
    waits, leaves = "wait_for_pipeline: true", "wait_for_pipeline: false"
    first = ", ".join(inner.replace("WAIT", each) for each in (waits, leaves))
    spec = f"{{phases: [{{name: a, steps: [{first}]}}, {{name: b, steps: [{last.replace('WAIT', waits)}]}}]}}"
    files = {"p.yaml": PROJECT, "r.yaml": pipeline(spec)}
    files |= {f"{name}.yaml": pipeline("{}", name) for name in ("inner", "last")}

    async def begin(folder: Path, repo: SpecRepository, after: int) -> int:
        commits: list[int] = []
        async with daemon(settings_for(repo, folder / "data")) as running:
            await running.loop.idle()
            with pytest.MonkeyPatch.context() as patch:
                _dying(patch, after, commits)
                await commands.trigger(running.installation, ROOT, parse_key(KEY))
                await running.loop.idle()
        return len(commits)

    async def finish(folder: Path, repo: SpecRepository) -> None:
        async with daemon(settings_for(repo, folder / "data")) as running:

            async def over() -> bool:
                return (await runs(running))[0].ended

            await eventually(over)
            (run,) = await runs(running)
            assert (run.status, run.reason) == (Status.OK, "")
            counts = [len(await runs(running, f"Pipeline/shop/{name}")) for name in ("inner", "last")]
            assert counts == [2, 1]

    for number in count(1):
        folder = tmp_path / str(number)
        repo = SpecRepository(folder / "specs")
        repo.commit(files)
        commits = asyncio.run(begin(folder, repo, number))
        asyncio.run(finish(folder, repo))
        if commits < number:
            break
    assert number > 5
