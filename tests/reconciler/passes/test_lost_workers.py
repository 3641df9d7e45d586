"""When a worker is given up: by the clock of who looks, whatever becomes of the database's (design 7.5)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.access import ROOT
from reconciler.commands.triggers import Order, trigger
from reconciler.execution.presence import Sights
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import State
from reconciler.passes import workers as passes
from reconciler.store import jobs
from reconciler.store.workers import GRACE, Worker
from reconciler.worker import WorkerProcess
from tests import databases
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

LEASE = 10.0
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
A = Worker("aa", "worker", "build1", ("local",), "age1a", "boot1", "0.1", lease_seconds=LEASE, seen_at=NOON)


@pytest.fixture
def clock(monkeypatch):
    """The machine's, in seconds since its boot."""
    now = [1000.0]
    monkeypatch.setattr(passes, "clock", lambda: now[0])
    return now


def _lost(sights: Sights, clock: list[float], **seen: object) -> bool:
    """Is it, as it is read now?"""
    (found,) = sights.note([replace(A, **seen)], clock[0])  # type: ignore[arg-type]
    return passes.is_lost(found)


def test_its_lease_and_the_grace_are_waited_for(clock) -> None:
    """From the beat on, where the database's clock tells of it in time."""
    sights = Sights()
    assert not _lost(sights, clock, age=1.5)
    clock[0] += LEASE + GRACE - 1.6
    assert not _lost(sights, clock, age=14.9)
    clock[0] += 0.2
    assert _lost(sights, clock, age=15.1)


@pytest.mark.parametrize("jump", (timedelta(hours=1), timedelta(hours=-1)), ids=("ahead", "back"))
def test_the_databases_clock_is_set(clock, jump) -> None:
    """Who goes on beating is there; who is dead is found in the same time as ever."""
    sights = Sights()
    assert not _lost(sights, clock, age=0.5)
    clock[0] += 2
    assert not _lost(sights, clock, age=2.5 + jump.total_seconds())  # set between two beats
    clock[0] += 1
    beaten = NOON + timedelta(seconds=3) + jump
    assert not _lost(sights, clock, seen_at=beaten, age=0.1)
    clock[0] += LEASE + GRACE - 0.2
    assert not _lost(sights, clock, seen_at=beaten, age=14.9)
    clock[0] += 0.2
    assert _lost(sights, clock, seen_at=beaten, age=-3600.0)


def test_who_has_just_begun_to_look_gives_nobody_up(clock) -> None:
    """A lease may have been renewed by a beat that it was not told of: an hour by the database may be a second."""
    sights = Sights()
    assert not _lost(sights, clock, age=3600.0)
    clock[0] += LEASE + GRACE
    assert _lost(sights, clock, age=3615.0)


def test_one_that_was_suspended_reads_before_it_judges(clock) -> None:
    """What it knew is of long ago; what it reads is of now."""
    sights = Sights()
    assert not _lost(sights, clock, age=0.5)
    clock[0] += 3600
    assert not _lost(sights, clock, seen_at=NOON + timedelta(hours=1), age=0.5)


def test_one_without_a_lease_is_never_lost(clock) -> None:
    """Its scripts outlive it, and wait for it."""
    sights = Sights()
    assert not _lost(sights, clock, lease_seconds=None)
    clock[0] += 86_400
    assert not _lost(sights, clock, lease_seconds=None, age=86_400.0)


WORK = """\
apiVersion: steersman/v1
kind: Executor
metadata: {name: linux}
spec: {max_load: 2}
---
apiVersion: steersman/v1
kind: Build
metadata: {name: work, project: shop}
spec: {tasks: [{name: t, run: sleep 4}]}
"""


@pytest.mark.skipif(bubblewrap() is None, reason="bubblewrap is not installed or does not work here")
def test_one_that_came_after_the_last_heart_beat_is_not_given_up(tmp_path: Path) -> None:
    """Who has just taken the lead has read claims of it, and not yet that it is there."""
    url = databases.new_postgresql()
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": WORK})
    of_worker = settings_for("", tmp_path / "worker", database=url, executors=("linux",))

    async def work() -> None:
        async with (
            daemon(settings_for(repo, tmp_path / "data", database=url, executors=())) as running,
            WorkerProcess(of_worker),
        ):
            installation = running.installation
            number = (await trigger(installation, ROOT, "Build/shop/_/work", Order()))["number"]

            async def load() -> jobs.Job:
                found = await installation.database.read(lambda c: jobs.load(c, number))
                assert found is not None
                return found

            async def executes() -> bool:
                return (await load()).state is State.EXECUTING

            async def passed() -> bool:
                return (await load()).state is State.PASSED

            await eventually(executes)
            crew = installation.crew
            assert len(crew) == 2
            installation.crew = tuple(each for each in crew if each.id == installation.runs.instance)
            await passes.run(installation)
            installation.crew = crew
            (trial,) = (await load()).tasks[0].trials
            assert trial.state is State.EXECUTING
            await eventually(passed)
            assert len((await load()).tasks[0].trials) == 1

    asyncio.run(asyncio.wait_for(work(), 90))
