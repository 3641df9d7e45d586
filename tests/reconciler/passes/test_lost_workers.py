"""When a worker is given up: by the clock of who looks, whatever becomes of the database's (design 7.5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.execution.presence import Sights
from reconciler.passes import workers as passes
from reconciler.store.workers import GRACE, Worker

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
