"""The health of an Executor is its last contact: who serves it, and whether anything can start there."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.daemon import Daemon
from reconciler.model.resource import Resource
from reconciler.model.status import Health
from reconciler.passes import executors
from reconciler.worker import WorkerProcess
from tests import databases
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Executor/linux"
EXECUTOR = "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: linux}\nspec: {max_load: %s}\n"


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
def test_one_without_room_on_its_disk_is_degraded(tmp_path: Path, repo: SpecRepository) -> None:
    """By the words of the daemon that serves it; also at the next start, until it is looked at."""

    async def full() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", disk_reserve_bytes=1 << 60)) as running:
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
