"""The daemon is killed, restarted, races with itself: every claim runs at most once and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from reconciler.execution import processes, supervisor
from reconciler.execution.supervisor import Exit, Lost, NotStarted, Supervised

ROOT = Path(__file__).parents[3]
DAEMON = """
import pickle, sys, time
from pathlib import Path
from reconciler.execution import supervisor
for run, command in pickle.load(sys.stdin.buffer):
    supervisor.start(run, command)
print("started", flush=True)
time.sleep(60)
"""


def _daemon(work: list[tuple[Path, supervisor.Command]]) -> subprocess.Popen[bytes]:
    """Another process that starts all of this and then waits to be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(work))
    process.stdin.close()
    return process


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def _finish(found: object) -> object:
    return await supervisor.wait(found) if isinstance(found, Supervised) else found


def test_scripts_outlive_a_killed_daemon(runner):
    text = "echo start; i=0; while [ $i -lt 40 ]; do echo $i; sleep 0.05; i=$((i+1)); done; exit 6"
    command = runner.command(text)
    work = [(runner.fresh(), command) for _ in range(20)]
    daemon = _daemon(work)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"started\n"
    time.sleep(0.3)
    _kill(daemon)
    found = [supervisor.attach(run) for run, _ in work]
    assert all(isinstance(one, Supervised) for one in found)

    async def everything() -> list[object]:
        return list(await asyncio.gather(*(_finish(one) for one in found)))

    assert asyncio.run(everything()) == [Exit(6)] * 20
    whole = b"start\n" + b"".join(b"%d\n" % number for number in range(40))
    assert [(run / "raw").read_bytes() for run, _ in work] == [whole] * 20
    assert [supervisor.attach(run) for run, _ in work] == [Exit(6)] * 20


def test_a_daemon_killed_at_any_moment_never_lets_a_claim_run_twice(bare):
    rolls = random.Random(7)
    for turn in range(12):
        marks = [bare.base / f"mark-{turn}-{number}" for number in range(10)]
        work = [(bare.fresh(), bare.command(f"echo ran >> {mark}")) for mark in marks]
        daemon = _daemon(work)
        time.sleep(0.12 + rolls.random() * 0.15)
        _kill(daemon)
        for (run, command), mark in zip(work, marks, strict=True):
            found = asyncio.run(_finish(supervisor.attach(run)))
            if isinstance(found, NotStarted):
                assert not mark.exists()
                again = bare.fresh()
                assert asyncio.run(supervisor.wait(supervisor.start(again, command))) == Exit(0)
            else:
                assert found == Exit(0)
            assert mark.read_text() == "ran\n"


def test_an_adopted_script_can_be_stopped(runner, until):
    work = [(runner.fresh(), runner.command("echo ready; sleep 60"))]
    daemon = _daemon(work)
    run = work[0][0]
    until(lambda: (run / "raw").exists() and (run / "raw").read_bytes() == b"ready\n")
    _kill(daemon)
    found = supervisor.attach(run)
    assert isinstance(found, Supervised)
    asyncio.run(supervisor.stop(found, grace=10))
    assert supervisor.attach(run) == Exit(143)


def test_stragglers_of_a_script_that_ended_without_a_daemon_are_ended(bare, until):
    work = [(bare.fresh(), bare.command("setsid sleep 300 & echo done"))]
    daemon = _daemon(work)
    run = work[0][0]
    until(lambda: (run / "code").exists())
    _kill(daemon)
    found = supervisor.attach(run)
    assert isinstance(found, Supervised)
    assert asyncio.run(supervisor.wait(found)) == Exit(0)
    assert supervisor.sweep(supervisor.cookie(run)) == []


def test_gone_without_a_status_is_lost(runner, until):
    supervised = runner.start("echo ready; setsid sleep 300 & sleep 300")
    until(lambda: (supervised.run / "raw").exists() and (supervised.run / "raw").read_bytes() == b"ready\n")
    os.kill(supervised.pid, signal.SIGKILL)
    assert asyncio.run(supervisor.wait(supervised)) is None
    assert supervisor.attach(supervised.run) == Lost()
    assert supervisor.sweep(supervisor.cookie(supervised.run)) == []


def test_everything_killed_is_lost(runner, until):
    supervised = runner.start("echo ready; sleep 300")
    until(lambda: (supervised.run / "raw").exists() and (supervised.run / "raw").read_bytes() == b"ready\n")
    for pid in supervisor.sweep(supervisor.cookie(supervised.run)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert asyncio.run(supervisor.wait(supervised)) is None
    assert supervisor.attach(supervised.run) == Lost()


def test_a_reused_pid_is_not_taken_for_the_script(bare):
    supervised = bare.start(":")
    assert asyncio.run(supervisor.wait(supervised)) == Exit(0)
    (supervised.run / "exit").unlink()
    words = (supervised.run / "start").read_text().split()
    own = processes.look(os.getpid())
    assert own is not None
    for pid, started, boot in [
        (os.getpid(), own.started + 1, words[2]),
        (os.getpid(), own.started, "another-boot"),
    ]:
        (supervised.run / "start").write_text(f"{pid} {started} {boot} bare end 512\n")
        assert supervisor.attach(supervised.run) == Lost()


def test_a_half_written_start_is_lost_and_an_empty_exit_is_none(bare):
    run = bare.fresh()
    run.mkdir(parents=True)
    (run / "start").write_text("")
    assert supervisor.attach(run) == Lost()
    (run / "exit").write_text("")
    assert supervisor.attach(run) == Lost()


def test_a_claim_without_a_start_is_void_for_ever(runner):
    run = runner.fresh()
    assert supervisor.attach(run) == NotStarted()
    mark = runner.workspace / "mark"
    supervised = supervisor.start(run, runner.command("touch mark"))
    assert asyncio.run(supervisor.wait(supervised)) is None
    assert not mark.exists()
    assert supervisor.attach(run) == NotStarted()


def test_a_claim_of_an_earlier_boot_is_lost_when_its_start_is_missing(bare):
    assert supervisor.attach(bare.fresh(), claimed_boot="an-earlier-boot") == Lost()
    assert supervisor.attach(bare.fresh(), claimed_boot=processes.boot_id()) == NotStarted()


def test_starting_a_claim_twice_runs_it_once(runner):
    run = runner.fresh()
    command = runner.command("echo once >> mark; sleep 0.3; exit 9")

    async def both() -> list[Exit | None]:
        started = [supervisor.start(run, command) for _ in range(3)]
        return list(await asyncio.gather(*(supervisor.wait(one) for one in started)))

    assert asyncio.run(both()) == [Exit(9)] * 3
    assert (runner.workspace / "mark").read_text() == "once\n"


def test_start_and_attach_racing_agree_who_has_the_claim(bare):
    rolls = random.Random(3)
    outcomes = set()
    for number in range(150):
        mark = bare.base / f"mark{number}"
        run = bare.fresh()
        command = bare.command(f"echo ran > {mark}")
        found: list[object] = []
        delay = rolls.random() * 0.006

        def ask(run: Path = run, delay: float = delay, found: list[object] = found) -> None:
            time.sleep(delay)
            found.append(supervisor.attach(run))

        thread = threading.Thread(target=ask)
        thread.start()
        result = asyncio.run(supervisor.wait(supervisor.start(run, command)))
        thread.join()
        voided = isinstance(found[0], NotStarted)
        outcomes.add(voided)
        assert voided == (not mark.exists())
        assert result == (None if voided else Exit(0))
    assert outcomes == {True, False}


def test_waiting_may_be_given_up_and_taken_up_again(runner):
    async def twice(supervised: Supervised) -> Exit | None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await supervisor.wait(supervised)
        return await supervisor.wait(supervised)

    assert asyncio.run(twice(runner.start("sleep 0.5; exit 2"))) == Exit(2)


def test_no_descriptor_is_left_open(runner):
    runner.run(":")
    before = psutil.Process().num_fds()
    for _ in range(5):
        runner.run(":")
    assert psutil.Process().num_fds() == before


def test_an_ordinary_user_can_run_scripts(runner, tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("this whole run is an ordinary user's")
    code = """
import asyncio, concurrent.futures.thread, encodings.ascii, os, sys
from pathlib import Path
from reconciler.execution import sandbox, supervisor
# only now: the interpreter may lie where an ordinary user cannot read
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
base, boxed = Path(sys.argv[1]), sys.argv[2] == "True"
(base / "data/work").mkdir(parents=True)
argv = ("/bin/sh", "-c", "id -u; touch mark; (setsid sleep 300 &); exit 3")
if boxed:
    argv = sandbox.wrap(argv, sandbox.View(base / "data/work", base / "data", "none"))
command = supervisor.Command(argv, {"PATH": "/usr/bin:/bin"}, base / "data/work", boxed, 4096)
run = base / "data/run"
print(asyncio.run(supervisor.wait(supervisor.start(run, command))))
print((run / "raw").read_text().strip(), (base / "data/work/mark").exists())
print(supervisor.sweep(supervisor.cookie(run)))
"""
    with tempfile.TemporaryDirectory() as base:
        os.chown(base, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-B", "-c", code, base, str(runner.sandboxed)],
            capture_output=True, text=True, cwd=ROOT, timeout=60,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [repr(Exit(3)), "65534 True", "[]"]
