"""The health of an Executor is its last contact: who serves it, and whether anything can start there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.access import ROOT
from reconciler.apply import dispatch
from reconciler.commands.triggers import Order, trigger
from reconciler.daemon import Daemon
from reconciler.execution import disk, presence
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.model.resource import Resource
from reconciler.model.status import Health
from reconciler.passes import executors
from reconciler.store import jobs, workers
from reconciler.worker import WorkerProcess
from tests import databases
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Executor/linux"
EXECUTOR = "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: linux}\nspec: {max_load: %s}\n"
BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: work, project: shop}
spec: {concurrency: allow, tasks: [{name: t, run: "true"}]}
"""


@pytest.fixture
def repo(tmp_path: Path) -> SpecRepository:
    made = SpecRepository(tmp_path / "specs")
    made.commit({"project.yaml": PROJECT, "linux.yaml": EXECUTOR % 2})
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told soon."""
    monkeypatch.setattr(executors, "_PATIENCE", timedelta(seconds=0.2))


def found(running: Daemon) -> Resource:
    return running.installation.snapshot.current.resources[KEY]


def told(running: Daemon) -> dict[str, str]:
    return {each.reason: each.message for each in found(running).conditions if each.type == "Unserved"}


async def has(running: Daemon, health: Health) -> None:
    await eventually(lambda: found(running).health is health, 30)


@pytest.mark.usefixtures("impatient")
def test_one_that_nobody_serves_is_degraded(tmp_path: Path, repo: SpecRepository) -> None:
    """Until a worker comes, and again when it has left; a new specification says nothing of that."""
    url = databases.new_postgresql()
    of_worker = settings_for("", tmp_path / "worker", database=url, executors=("linux", "linx"))

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running:
            await has(running, Health.DEGRADED)
            assert "steersman worker --executor linux" in told(running)["NoWorker"]
            async with WorkerProcess(of_worker) as worker:
                await has(running, Health.HEALTHY)
                assert told(running) == {}
                await worker.drain()
                await has(running, Health.DEGRADED)
            since = [each.since for each in found(running).conditions]
            repo.commit({"linux.yaml": EXECUTOR % 3})
            await running.installation.run_now("source")
            assert found(running).generation == 2
            assert found(running).health is Health.DEGRADED
            assert [each.since for each in found(running).conditions] == since

    asyncio.run(asyncio.wait_for(work(), 90))


def _silent(worker: WorkerProcess | Daemon) -> None:
    """Nothing is heard of it any more."""
    for task in worker._tasks:
        if task.get_name() == "presence":
            task.cancel()


@pytest.mark.usefixtures("impatient")
def test_one_whose_worker_fell_silent_is_degraded(tmp_path: Path, repo: SpecRepository) -> None:
    """Long before the worker is given up, and it stays so when it is."""
    url = databases.new_postgresql()
    of_worker = settings_for("", tmp_path / "worker", database=url, executors=("linux",))

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running:
            await has(running, Health.DEGRADED)
            async with WorkerProcess(of_worker) as worker:
                await has(running, Health.HEALTHY)
                _silent(worker)
                await has(running, Health.DEGRADED)
                assert list(told(running)) == ["WorkerAway"]
                crew = running.installation
                await eventually(lambda: any(each.lost_at is not None for each in crew.crew), 30)
                assert found(running).health is Health.DEGRADED

    asyncio.run(asyncio.wait_for(work(), 90))


def test_what_is_chosen_for_one_that_has_just_left_waits(
    tmp_path: Path, repo: SpecRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim is refused, once, and not again and again until the next heart-beat."""
    repo.commit({"work.yaml": BUILD})
    url = databases.new_postgresql()
    of_worker = settings_for("", tmp_path / "worker", database=url, executors=("linux",))
    refused: list[Collection[str]] = []
    are_lost = dispatch._are_lost

    def count(installation: Installation, some: Collection[str]) -> None:
        refused.extend([some] if some else [])
        are_lost(installation, some)

    monkeypatch.setattr(dispatch, "_are_lost", count)

    async def left(running: Daemon, worker: WorkerProcess) -> None:
        """It is shown as there, and is not."""
        installation, me = running.installation, worker._presence._me
        await installation.database.aside(lambda c: workers.register(c, me))
        await eventually(lambda: any(each.id == me.id and each.age < 3 for each in installation.crew))
        await installation.database.aside(lambda c: workers.leave(c, me.id))
        await trigger(installation, ROOT, "Build/shop/_/work", Order())
        before = installation.database.version
        await asyncio.sleep(0.5)
        assert installation.database.version < before + 20

    async def work() -> None:
        async with (
            daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running,
            WorkerProcess(of_worker) as worker,
        ):
            _silent(worker)
            for _ in range(10):  # a heart-beat may have come just then
                await left(running, worker)
                if refused:
                    break
            assert len(refused) == 1
            found = await running.installation.database.read(jobs.live)
            assert {job.state for job in found} == {State.PENDING}

    asyncio.run(asyncio.wait_for(work(), 90))


def test_what_waits_for_one_that_is_heard_again_starts(
    tmp_path: Path, repo: SpecRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment at which it was looked for, and also where it was found to have left."""
    repo.commit({"work.yaml": BUILD})
    url = databases.new_postgresql()

    async def claimed(running: Daemon, number: int) -> bool:
        live = await running.installation.database.read(jobs.live_trials)
        return [trial.instance for trial in live if trial.job == number] == ["a1"]

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running:
            installation, sights = running.installation, presence.Sights()
            _silent(running)
            them = workers.Worker(
                "a1", "worker", "build1", ("linux",), installation.keys.recipient, "boot1", "0.1"
            )
            await installation.database.aside(lambda c: workers.register(c, them))

            def heard(age: float, beaten: int) -> None:
                at = installation.now() + timedelta(seconds=beaten)
                running._heard(sights.note([replace(them, age=age, seen_at=at)], presence.clock()))

            heard(5.0, 1)
            now = presence.clock
            monkeypatch.setattr(presence, "clock", lambda: now() + 3)  # between two of our heart-beats
            first = (await trigger(installation, ROOT, "Build/shop/_/work", Order()))["number"]
            await running.loop.idle()
            heard(0.5, 2)
            await eventually(lambda: claimed(running, first))

            dispatch._are_lost(installation, {them.id})
            second = (await trigger(installation, ROOT, "Build/shop/_/work", Order()))["number"]
            await running.loop.idle()
            assert not await claimed(running, second)
            heard(0.5, 3)
            await eventually(lambda: claimed(running, second))

    asyncio.run(asyncio.wait_for(work(), 90))


def test_a_worker_says_which_names_nobody_has_declared(tmp_path: Path, repo: SpecRepository, capsys) -> None:
    """It waits for them: they may come."""
    url = databases.new_postgresql()
    of_worker = settings_for("", tmp_path / "worker", database=url, executors=("linux", "linx"))

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=url)), WorkerProcess(of_worker):
            pass

    asyncio.run(asyncio.wait_for(work(), 90))
    output = capsys.readouterr()
    (line,) = (line for line in (output.out + output.err).splitlines() if "executor-not-declared" in line)
    assert "linx" in line


@pytest.mark.usefixtures("impatient")
def test_one_without_room_on_its_disk_is_degraded(
    tmp_path: Path, repo: SpecRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the words of the daemon that serves it; the next one, which has room, is looked at when it starts."""

    async def full() -> None:
        with monkeypatch.context() as others:  # fill the disk
            others.setattr(disk, "_free", lambda *_: (0, 1))
            async with daemon(settings_for(repo, tmp_path / "data")) as running:
                await has(running, Health.DEGRADED)
                assert list(told(running)) == ["DiskFull"]

    async def room() -> None:
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            await has(running, Health.HEALTHY)
            assert told(running) == {}

    asyncio.run(full())
    asyncio.run(room())


def test_a_short_absence_is_no_news(tmp_path: Path, repo: SpecRepository) -> None:
    """Who is started anew is away for a moment."""
    url = databases.new_postgresql()

    async def work() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running:
            await running.installation.run_now(executors.NAME)
            assert found(running).health is Health.HEALTHY
            assert running.installation.unserved.keys() == {KEY}

    asyncio.run(work())
