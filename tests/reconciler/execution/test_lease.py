"""A script ends with the lease of its worker, though that is dead or stands still, and by nobody's hand but its own
supervisor's."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from reconciler.execution import lease, supervisor
from reconciler.execution.lease import Lease, Term
from reconciler.execution.supervisor import Exit, Lost, NotStarted, Supervised


@pytest.fixture
def held(tmp_path: Path) -> Lease:
    """A lease of three seconds, just renewed."""
    made = Lease(tmp_path / "lease", 3)
    made.renew(lease.uptime())
    return made


def test_a_script_that_ends_before_is_as_ever(runner, held):
    result, log = runner.run("echo done; exit 3", term=held.term)
    assert (result, log) == (Exit(3), b"done\n")


def test_a_lease_that_is_renewed_ends_nothing(runner, tmp_path):
    held = Lease(tmp_path / "lease", 5)
    held.renew(lease.uptime())
    supervised = runner.start("sleep 8; echo over", term=held.term)

    async def renew() -> Exit | None:
        waiting = asyncio.create_task(supervisor.wait(supervised))
        while not waiting.done():
            held.renew(lease.uptime())
            await asyncio.wait({waiting}, timeout=0.5)
        return waiting.result()

    assert asyncio.run(renew()) == Exit(0)


def test_who_watches_the_lease_has_no_part_in_the_log(runner, tmp_path, until):
    """It has nothing of the script's output, which is drained until nobody has, and it is gone when the script is."""
    long = Lease(tmp_path / "lease", 600)
    long.renew(lease.uptime())
    supervised = runner.start("echo begun; sleep 3", term=long.term)
    watch = _watch(supervised, until)
    opened = [os.readlink(path) for path in Path(f"/proc/{watch.pid}/fd").iterdir()]
    assert [place for place in opened if place.startswith("pipe:")] == []
    assert asyncio.run(supervisor.wait(supervised)) == Exit(0)
    until(lambda: not watch.is_running() or watch.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    "text",
    ["sleep 600", "trap '' TERM HUP INT; while :; do sleep 600; done", "setsid sleep 600 & sleep 600"],
    ids=["plain", "deaf", "in a session of its own"],
)
def test_what_nobody_renews_ends_with_all_it_started(runner, held, text, until):
    supervised = runner.start(text, term=held.term)
    assert asyncio.run(supervisor.wait(supervised)) is None
    assert isinstance(supervisor.attach(supervised.run), Lost)
    mark = supervisor.cookie(supervised.run)
    until(lambda: supervisor.sweep(mark) == [])


def test_nothing_starts_after_the_fence(runner, tmp_path):
    """The worker was stopped between its claim and the start, and has a new lease by now."""
    fence = Term(tmp_path / "lease", int(lease.uptime()) - 1)
    late = Lease(fence.file, 60)
    late.renew(lease.uptime())
    supervised = runner.start("echo ran > ran", term=fence)
    assert asyncio.run(supervisor.wait(supervised)) is None
    assert not list(Path(supervised.run.parent).rglob("ran"))
    assert isinstance(supervisor.attach(supervised.run), NotStarted)


def test_a_lease_that_never_was_ends_it(runner, tmp_path):
    """No file: nobody has ever said that it may run."""
    term = Term(tmp_path / "lease", int(lease.uptime()) + 60)
    supervised = runner.start("sleep 600", term=term)
    assert asyncio.run(supervisor.wait(supervised)) is None


def test_uptime_is_that_of_the_machine():
    before = lease.uptime()
    time.sleep(0.1)
    assert 0.05 < lease.uptime() - before < 30


def test_the_end_is_told_though_who_watches_the_lease_stands_still(runner, tmp_path, until):
    """It has no part in the log, and is ended by a signal that nothing keeps off."""
    long = Lease(tmp_path / "lease", 600)
    long.renew(lease.uptime())
    supervised = runner.start("sleep 3; echo done", term=long.term)
    watch = _watch(supervised, until)
    watch.suspend()
    result = asyncio.run(asyncio.wait_for(supervisor.wait(supervised), 30))
    assert (result, (supervised.run / "raw").read_bytes()) == (Exit(0), b"done\n")
    until(lambda: not watch.is_running() or watch.status() == psutil.STATUS_ZOMBIE)


def _watch(supervised: Supervised, until) -> psutil.Process:
    found: list[psutil.Process] = []
    until(lambda: found.extend(_watching(supervised)) or bool(found))
    return found[0]


def _watching(supervised: Supervised) -> list[psutil.Process]:
    """The process that looks at the lease, between two looks."""
    try:
        return [
            each
            for each in psutil.Process(supervised.pid).children()
            if "supervisor.sh" in " ".join(each.cmdline())
            and [child.name() for child in each.children()] == ["sleep"]
        ]
    except psutil.NoSuchProcess:  # its children come and go
        return []
