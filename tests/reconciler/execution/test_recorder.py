"""The recorder of a script's log: killed anywhere, on a full disk, beside a fast writer, and idle."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from reconciler.execution import timeline
from reconciler.execution.masking import Masker, Unmaskable
from reconciler.execution.recorder import Recorder
from tests.support import eventually

SECRETS = ("secret", "retsec99", "line one\nline two\n")
OUTPUT = b"a secret, the retsec99 secretsec99\nline one\nline two\n" + b"x" * 30 + b" secre"
SHOWN = b"a ***, the *** ***\n***\n" + b"x" * 30 + b" secre"
NOTES = ("no file matches out/**", "it says\nsecret")
CLEAN = b"no value at all, and at the end\nwhat could begin one: secre"
ENDING = b"\nsteersman: no file matches out/**\nsteersman: it says ***\n"


@contextlib.asynccontextmanager
async def following(recorder: Recorder) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(recorder.follow())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def whole(output: bytes) -> bytes:
    masker = Masker(SECRETS)
    return masker.feed(output) + masker.flush()


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def test_the_expected_text_is_the_masked_one() -> None:
    assert whole(OUTPUT) == SHOWN


def test_raw_output_becomes_a_masked_log_while_it_grows(tmp_path: Path) -> None:
    """What could be a secret's beginning waits; the raw output and all of the helper files go at the end."""
    log, raw = tmp_path / "log", tmp_path / "raw"

    async def work() -> None:
        recorder = Recorder(tmp_path, lambda: Masker(SECRETS))
        async with following(recorder):
            for end in (1, 4, 12, 40, len(OUTPUT)):
                raw.write_bytes(OUTPUT[:end])
                shown = Masker(SECRETS).feed(OUTPUT[:end])
                await eventually(lambda shown=shown: content(log) == shown)
        assert SHOWN.removesuffix(b"secre") == content(log)
        assert len(SHOWN) == recorder.finish()
        assert content(log) == SHOWN
        assert log.stat().st_mode & 0o777 == 0o600
        assert sorted(os.listdir(tmp_path)) == ["index", "log"]
        assert len(SHOWN) == Recorder(tmp_path, lambda: Masker(SECRETS)).finish()

    asyncio.run(work())


def test_notes_are_lines_and_never_twice(tmp_path: Path) -> None:
    """Also when they are given again, in part or in other words."""
    (tmp_path / "raw").write_bytes(b"no end")
    size = Recorder(tmp_path, lambda: Masker(["pass"])).finish(["a password", "b"])
    shown = b"no end\nsteersman: a ***word\nsteersman: b\n"
    assert (len(shown), shown) == (size, content(tmp_path / "log"))
    for notes in (["a password", "b"], ["c"], []):
        assert size == Recorder(tmp_path, lambda: Masker(["pass"])).finish(notes)
        assert shown == content(tmp_path / "log")


def unmaskable() -> Masker:
    raise Unmaskable("the key is gone")


def test_a_script_that_left_nothing_has_no_log_and_asks_for_no_masker(tmp_path: Path) -> None:
    assert Recorder(tmp_path / "none", unmaskable).finish() == 0
    assert not (tmp_path / "none").exists()
    assert Recorder(tmp_path / "none", unmaskable).finish(["x"]) == 13
    assert content(tmp_path / "none" / "log") == b"steersman: x\n"


def test_a_script_that_printed_nothing_asks_for_no_masker(tmp_path: Path) -> None:
    (tmp_path / "raw").touch()
    assert Recorder(tmp_path, unmaskable).finish() == 0
    assert os.listdir(tmp_path) == ["log"]


def test_output_that_cannot_be_masked_is_not_shown_and_told(tmp_path: Path) -> None:
    """What was shown before stays, also when it is finished again."""
    log, raw = tmp_path / "log", tmp_path / "raw"
    raw.write_bytes(OUTPUT)
    log.write_bytes(SHOWN[:10])

    async def work() -> None:
        recorder = Recorder(tmp_path, unmaskable)
        await asyncio.wait_for(recorder.follow(), 30)
        assert content(log) == SHOWN[:10]
        expected = (
            SHOWN[:10] + b"\nsteersman: one\nsteersman: the rest of its log is not shown: the key is gone\n"
        )
        for _ in range(2):
            assert len(expected) == recorder.finish(["one"])
            assert content(log) == expected
            assert not raw.exists()

    asyncio.run(work())


def test_a_full_disk_is_told_once_and_waited_for(tmp_path: Path) -> None:
    """Nothing is lost; the end is an error that can be tried again."""
    log, raw = tmp_path / "log", tmp_path / "raw"
    log.symlink_to("/dev/full")
    raw.write_bytes(OUTPUT)

    async def work() -> None:
        recorder = Recorder(tmp_path, lambda: Masker(SECRETS))
        with pytest.raises(OSError, match="No space"):
            recorder.finish(NOTES)
        assert content(raw) == OUTPUT
        with capture_logs() as said:
            async with following(recorder):
                await asyncio.sleep(0.9)
                log.unlink()
                shown = Masker(SECRETS).feed(OUTPUT)
                await eventually(lambda: content(log) == shown)
                await asyncio.sleep(0.1)
        assert [entry["event"] for entry in said] == ["log-not-written", "log-written-again"]
        assert len(SHOWN + ENDING) == recorder.finish(NOTES)
        assert content(log) == SHOWN + ENDING

    asyncio.run(work())


# Runs the recorder in a child that is killed at the Nth line of its code. A write of it may stop half way.
_VICTIM = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from reconciler.execution import recorder, timeline
from reconciler.execution.masking import Masker

folder, secrets, notes = Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3])
recorder._CHUNK, timeline.EVERY = 16, 0
FILES = {recorder.__file__, timeline.__file__}

def run(last, half, finish):
    left = last
    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    write = os.write
    def torn(handle, data):
        if half and left <= 3:
            write(handle, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(handle, data)
    os.write = torn
    threading.settrace(trace)
    mine = recorder.Recorder(folder, lambda: Masker(secrets))
    async def work():
        while await asyncio.to_thread(mine._tail.advance):
            pass
        if finish:
            mine.finish(notes)
    asyncio.run(work())

for order in sys.stdin:
    last, half, finish = map(int, order.split())
    child = os.fork()
    if not child:
        run(last or 10**9, half, finish)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextlib.contextmanager
def victims(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _VICTIM, str(folder), repr(SECRETS), repr(NOTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


def order(process: subprocess.Popen[str], last: int, half: int, finish: int) -> bool:
    """True: it came to its end. What it does otherwise must be being killed."""
    process.stdin.write(f"{last} {half} {finish}\n")
    process.stdin.flush()
    code = int(process.stdout.readline())
    assert code in (0, -signal.SIGKILL)
    return code == 0


@pytest.mark.parametrize("copied", [0, 30, len(CLEAN)])
def test_output_that_shows_nothing_secret_becomes_the_log_without_a_copy(tmp_path: Path, copied: int) -> None:
    """Also where a part of it has been copied for those who follow it; its index stays."""
    log, raw = tmp_path / "log", tmp_path / "raw"

    async def work() -> None:
        recorder = Recorder(tmp_path, lambda: Masker(SECRETS))
        if copied:
            async with following(recorder):
                raw.write_bytes(CLEAN[:copied])
                await eventually(lambda: content(log) == Masker(SECRETS).feed(CLEAN[:copied]))
        raw.write_bytes(CLEAN)
        file, index = raw.stat().st_ino, timeline.load(tmp_path)
        assert len(CLEAN + ENDING) == recorder.finish(NOTES)
        assert content(log) == CLEAN + ENDING
        assert log.stat().st_ino == file
        assert timeline.load(tmp_path) == index
        assert not raw.exists()

    asyncio.run(work())


@pytest.mark.parametrize("rest", [b"t at its end", b"ts, a retsec99 with them", b" and retse"])
def test_a_value_that_ends_behind_what_was_copied_is_masked(tmp_path: Path, rest: bytes) -> None:
    """Nothing had been masked so far."""
    log, raw = tmp_path / "log", tmp_path / "raw"

    async def work() -> None:
        recorder = Recorder(tmp_path, lambda: Masker(SECRETS))
        async with following(recorder):
            raw.write_bytes(CLEAN)
            await eventually(lambda: content(log) == Masker(SECRETS).feed(CLEAN))
        with raw.open("ab") as file:
            file.write(rest)
        assert len(whole(CLEAN + rest)) == recorder.finish()
        assert content(log) == whole(CLEAN + rest)

    asyncio.run(work())


def test_what_a_power_cut_took_of_the_raw_output_stays_in_the_log(tmp_path: Path) -> None:
    """The log was longer already."""
    log, raw = tmp_path / "log", tmp_path / "raw"
    log.write_bytes(CLEAN)
    raw.write_bytes(CLEAN[:20])
    assert len(CLEAN) == Recorder(tmp_path, lambda: Masker(SECRETS)).finish()
    assert content(log) == CLEAN
    assert not raw.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "shown", "step"), [(OUTPUT, SHOWN, 1), (CLEAN, CLEAN, 3)], ids=["masked", "clean"]
)
def test_a_kill_at_any_line_neither_loses_nor_doubles_a_byte(
    tmp_path: Path, output: bytes, shown: bytes, step: int
) -> None:
    """At every line of the recorder (or each third), and in the middle of writes.

    What was shown stays, and the index is right.
    """
    log, raw = tmp_path / "log", tmp_path / "raw"
    kills = 0

    def killed(last: int, half: int, finish: int) -> bool:
        before = content(log)
        done = order(process, last, half, finish)
        assert content(log).startswith(before)
        assert (shown + ENDING).startswith(content(log))
        return done

    with victims(tmp_path) as process:
        for half in (0, 1):
            last = done = 0
            while not done:
                last += step + half
                for path in tmp_path.iterdir():
                    path.unlink()
                raw.write_bytes(output[: last % len(output)])
                killed(last, half, 0)
                raw.write_bytes(output)
                done = killed(last, half, 1)
                kills += not done
                killed(last * 7 % 40 + 1, 0, 1)
                assert killed(0, 0, 1)
                assert content(log) == shown + ENDING
                assert not raw.exists()
                for entry in timeline.load(tmp_path):
                    assert shown[entry.log :] == whole(output[entry.raw :])
    assert kills > 150 / step


@pytest.mark.slow
def test_recorders_that_are_killed_beside_a_running_script_lose_nothing(tmp_path: Path) -> None:
    """A real writer, real processes, no order among them; at last one that lives."""
    code = (
        "import asyncio, sys; from pathlib import Path; from reconciler.execution.masking import Masker; "
        "from reconciler.execution.recorder import Recorder; "
        f"asyncio.run(Recorder(Path(sys.argv[1]), lambda: Masker({SECRETS!r})).follow())"
    )
    script = (
        'i=0; while [ $i -lt 60000 ]; do echo "line $i with a secret and secre"; i=$((i+1)); done >>"$0/raw"'
    )
    seen = b""
    with subprocess.Popen(["sh", "-c", script, str(tmp_path)]) as writer:
        round_ = 0
        while writer.poll() is None or round_ < 8 or (not seen and round_ < 60):
            round_ += 1
            victim = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
            # on a busy machine it takes a while until one comes to write at all
            time.sleep(0.25 + 0.037 * (round_ % 9) + (0 if seen else 0.1 * round_))
            victim.kill()
            victim.wait()
            now = content(tmp_path / "log")
            assert now.startswith(seen)
            seen = now
    assert seen
    expected = b"".join(b"line %d with a *** and secre\n" % i for i in range(60000))
    assert len(expected) == Recorder(tmp_path, lambda: Masker(SECRETS)).finish()
    assert expected == content(tmp_path / "log")


def test_a_recorder_that_is_let_go_has_written_its_step(tmp_path: Path) -> None:
    """Another one may take the folder up at once."""

    async def work() -> None:
        for _ in range(20):
            with (tmp_path / "raw").open("ab") as file:
                file.write(OUTPUT * 3000)
            async with following(Recorder(tmp_path, lambda: Masker(SECRETS))):
                await asyncio.sleep(0.09)
        output = content(tmp_path / "raw")
        Recorder(tmp_path, lambda: Masker(SECRETS)).finish()
        assert whole(output) == content(tmp_path / "log")

    asyncio.run(work())


def test_a_hundred_idle_scripts_cost_nearly_nothing(tmp_path: Path) -> None:
    """Their files are looked at together, no thread is woken for them, and no file stays open behind them."""

    async def work() -> None:
        process = psutil.Process(os.getpid())
        files = process.num_fds()
        tasks = []
        for number in range(100):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "raw").touch()
            tasks.append(asyncio.create_task(Recorder(folder, lambda: Masker(SECRETS)).follow()))
        await asyncio.sleep(0.2)
        switches = process.num_ctx_switches().voluntary
        await asyncio.sleep(2)
        assert process.num_ctx_switches().voluntary - switches < 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert process.num_fds() == files

    asyncio.run(work())
