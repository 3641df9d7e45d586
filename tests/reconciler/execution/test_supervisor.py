"""What a script's output and end look like from outside, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from reconciler.execution import supervisor
from reconciler.execution.supervisor import Exit, Supervised


def _read(supervised: Supervised) -> bytes:
    log = supervised.run / "raw"
    return log.read_bytes() if log.exists() else b""


def _stop_after(runner, text: str, grace: float, until) -> tuple[Exit | None, float]:
    """Stops a script once it has printed `ready`; its exit and how long stopping took."""
    supervised = runner.start(text)
    until(lambda: b"ready" in _read(supervised))

    async def stop() -> tuple[Exit | None, float]:
        waiting = asyncio.create_task(supervisor.wait(supervised))
        begin = time.monotonic()
        await supervisor.stop(supervised, grace=grace)
        took = time.monotonic() - begin
        return await waiting, took

    return asyncio.run(stop())


def test_output_is_complete_and_in_order(runner):
    result, log = runner.run("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done")
    assert result == Exit(0)
    assert log == b"".join(b"line %d\n" % number for number in range(5000))


def test_errors_are_interleaved_with_output(runner):
    result, log = runner.run("echo one; echo two >&2; echo three; echo four > /dev/stderr; echo five")
    assert (Exit(0), b"one\ntwo\nthree\nfour\nfive\n") == (result, log)


def test_large_output_arrives_whole(runner):
    result, log = runner.run("head -c 5000000 /dev/zero", limit=10 << 20)
    assert (Exit(0), 5_000_000) == (result, len(log))


def test_output_appears_while_the_script_runs(runner, until):
    supervised = runner.start("printf early; sleep 30")
    until(lambda: _read(supervised) == b"early")
    asyncio.run(supervisor.stop(supervised, grace=5))


@pytest.mark.parametrize(
    ("text", "status"),
    [("exit 0", 0), ("exit 7", 7), ("false", 1), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_the_status_is_the_shells(runner, text, status):
    result, _ = runner.run(text)
    assert Exit(status) == result


def test_a_missing_program_is_said_in_the_log(runner):
    result, log = runner.run("exec /no/such/program")
    assert result is not None
    assert result.status == 127
    assert b"/no/such/program" in log


def test_exactly_the_limit_is_not_too_much(runner):
    result, log = runner.run("head -c 4096 /dev/zero", limit=4096)
    assert (Exit(0), 4096) == (result, len(log))


def test_more_than_the_limit_ends_the_script(runner):
    result, log = runner.run("yes; echo never > after", limit=4096)
    assert result is not None
    assert result.over_limit
    assert result.status != 0
    assert len(log) == 4096
    assert log.startswith(b"y\ny\n")
    assert not (runner.workspace / "after").exists()


def test_a_log_that_cannot_be_written_is_said_not_to_be_over_the_limit(runner):
    run = runner.fresh()
    run.mkdir(parents=True)
    (run / "raw").mkdir()
    supervised = supervisor.start(run, runner.command("sleep 0.2; yes"))
    result = asyncio.run(supervisor.wait(supervised))
    assert result is not None
    assert result.log_failed
    assert not result.over_limit


def test_the_environment_is_exactly_what_was_given(runner):
    result, log = runner.run("env", SECRET="två \n words", HOME="/x")
    names = {line.split("=")[0] for line in log.decode().splitlines() if "=" in line}
    assert result == Exit(0)
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "HOME", "SECRET", "STEERSMAN_RUN"}
    assert "SECRET=två \n words" in log.decode()


def test_a_secret_is_in_no_argument_list_and_not_on_disk(runner, until):
    supervised = runner.start("echo ready; sleep 30", SECRET="5f3dc0ffee")
    until(lambda: b"ready" in _read(supervised))
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    files = [path.read_bytes() for path in supervised.run.iterdir() if path.is_file()]
    asyncio.run(supervisor.stop(supervised, grace=5))
    assert not any("5f3dc0ffee" in line for line in lines)
    assert not any(b"5f3dc0ffee" in content for content in files)


def test_a_hostile_environment_does_not_reach_the_supervisor(boxed):
    # a script's PATH and LD_PRELOAD must choose nothing that runs outside of the sandbox
    fake = boxed.workspace / "cat"
    fake.write_text(f"#!/bin/sh\ntouch {boxed.base}/escaped\n")
    fake.chmod(0o755)
    where = str(boxed.workspace)
    result, log = boxed.run(
        "echo hello", PATH=f"{where}:.:/usr/bin:/bin", LD_PRELOAD=f"{where}/evil.so", ENV="./cat"
    )
    assert result == Exit(0)
    assert log.endswith(b"hello\n")
    assert not (boxed.base / "escaped").exists()


def test_a_name_that_an_image_s_shell_keeps_for_itself_does_not_end_the_script():
    """Many an image has bash as its /bin/sh, which lets nobody set UID."""
    lines = supervisor._assignments({"UID": "5", "OTHER": "two words"})
    shell = ["bash", "--posix", "-c", 'eval "$(cat)"; echo "$OTHER"']
    done = subprocess.run(shell, input=lines, capture_output=True, check=True)
    assert done.stdout == b"two words\n"


def test_scripts_get_an_empty_input_and_no_descriptor_of_ours(runner):
    result, log = runner.run("cat; ls -l /proc/self/fd")
    assert result == Exit(0)
    numbers = {line.split(" -> ")[0].split()[-1] for line in log.decode().splitlines() if " -> " in line}
    # 3 is the directory that ls itself is reading
    assert numbers == {"0", "1", "2", "3"}
    assert "/dev/null" in log.decode()


def test_scripts_have_the_usual_signals(runner):
    # an ignored signal would be inherited by everything the script starts
    result, log = runner.run("grep -E '^Sig(Ign|Blk)' /proc/self/status")
    assert result == Exit(0)
    ordinary = (1 << 31) - 1  # 32 and above are the C library's own; some launchers leave them ignored
    assert [int(line.split()[1], 16) & ordinary for line in log.decode().splitlines()] == [0, 0]


def test_term_ends_a_script_at_once(runner, until):
    result, took = _stop_after(runner, "echo ready; sleep 30", 20, until)
    assert Exit(143) == result
    assert took < 5


def test_a_script_may_tidy_up_on_term(runner, until):
    text = "trap 'echo tidy; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    result, _ = _stop_after(runner, text, 20, until)
    assert Exit(3) == result
    assert b"tidy" in (runner.runs[0] / "raw").read_bytes()


def test_what_ignores_term_is_killed(runner, until):
    result, took = _stop_after(runner, "trap '' TERM; echo ready; while :; do sleep 1; done", 0.3, until)
    assert Exit(137) == result
    assert 0.3 <= took < 5


def test_stop_reaches_what_has_made_its_own_session(runner, until):
    inner = "trap 'echo heard; exit' TERM; echo ready; while :; do sleep 0.05; done"
    text = f'trap : TERM; setsid sh -c "{inner}" & while :; do sleep 0.05 || :; done'
    _stop_after(runner, text, 1, until)
    assert b"heard" in (runner.runs[0] / "raw").read_bytes()


def test_stop_right_after_start_works(runner):
    async def both(supervised: Supervised) -> Exit | None:
        waiting = asyncio.create_task(supervisor.wait(supervised))
        await supervisor.stop(supervised, grace=10)
        return await waiting

    for _ in range(10):
        begin = time.monotonic()
        result = asyncio.run(both(runner.start("sleep 30")))
        assert result is not None
        assert result.status in (143, 137)
        assert time.monotonic() - begin < 25


def test_stop_of_an_ended_script_returns(runner):
    supervised = runner.start(":")
    assert asyncio.run(supervisor.wait(supervised)) == Exit(0)
    asyncio.run(supervisor.stop(supervised))


@pytest.mark.parametrize(
    "text",
    [
        "sleep 300 & echo done",
        "(sleep 300 &) ; echo done",
        "trap '' TERM HUP; setsid sh -c 'sleep 300 & sleep 300' & echo done; sleep 0.1",
        "setsid setsid sh -c '(setsid sleep 300 &)' ; echo done",
    ],
)
def test_what_a_script_leaves_running_is_ended_with_it(runner, text):
    begin = time.monotonic()
    result, log = runner.run(text)
    assert (Exit(0), b"done\n") == (result, log)
    assert time.monotonic() - begin < 200
    assert supervisor.sweep(supervisor.cookie(runner.runs[0])) == []


def test_no_child_of_ours_is_left(runner):
    before = psutil.Process().children()
    runner.run("true")
    assert [child for child in psutil.Process().children() if child not in before] == []


def test_survivors_stay_when_asked(runner, until):
    supervised = runner.start(
        "(echo first; sleep 1; echo later; sleep 300) & echo done; exit 4", survivors=True
    )
    begin = time.monotonic()
    result = asyncio.run(supervisor.wait(supervised))
    assert Exit(4) == result
    assert time.monotonic() - begin < 200
    assert supervisor.sweep(supervisor.cookie(supervised.run)) != []
    until(lambda: b"later" in _read(supervised))


def test_where_nothing_is_left_running_nothing_waits_for_it(runner, until):
    """Neither the supervisor nor what drains its output."""
    supervised = runner.start("echo done", survivors=True)
    assert Exit(0) == asyncio.run(supervisor.wait(supervised))
    until(lambda: supervisor.sweep(supervisor.cookie(supervised.run)) == [])
    assert _read(supervised) == b"done\n"


def test_survivors_stay_though_they_print_more_than_the_log_takes(runner, until):
    spent = "while [ ! -e go ]; do sleep 0.02; done; head -c 100000 /dev/zero && head -c 9 /dev/zero && touch lived"
    supervised = runner.start(f"({spent}; sleep 300) & echo done", survivors=True, limit=8192)
    assert Exit(0) == asyncio.run(supervisor.wait(supervised))
    (runner.workspace / "go").touch()
    until((runner.workspace / "lived").exists)
    assert len(_read(supervised)) <= 8192


def test_the_supervisor_shrugs_off_signals(runner, until):
    supervised = runner.start("echo ready; sleep 0.5; exit 5")
    until(lambda: b"ready" in _read(supervised))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(supervised.pid, number)
    assert asyncio.run(supervisor.wait(supervised)) == Exit(5)


def test_bad_environment_is_refused(boxed):
    with pytest.raises(ValueError, match="BAD"):
        boxed.run(":", BAD="a\0b")


def test_many_at_once_all_end(runner):
    async def everything() -> list[Exit | None]:
        started = [runner.start(f"echo {number}; exit {number % 3}") for number in range(40)]
        return list(await asyncio.gather(*(supervisor.wait(one) for one in started)))

    assert asyncio.run(everything()) == [Exit(number % 3) for number in range(40)]


def test_another_directory_is_another_cookie(tmp_path: Path):
    assert supervisor.cookie(tmp_path / "a") != supervisor.cookie(tmp_path / "b")


def test_a_bubblewrap_that_dies_early_holds_nothing_up(boxed):
    # a full disk is one way: it cannot report, dies, and leaves the namespace's first process behind
    run = boxed.fresh()
    run.mkdir(parents=True)
    (run / "sandbox").symlink_to("/dev/full")
    supervised = supervisor.start(run, boxed.command("echo never"))
    result = asyncio.run(asyncio.wait_for(supervisor.wait(supervised), 10))
    assert result is not None
    assert result.status != 0
    assert supervisor.sweep(supervisor.cookie(run)) == []
