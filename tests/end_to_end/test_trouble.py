"""A machine in trouble: a full disk, a locked database, a clock set back, a suspension: told, and then on."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from reconciler.execution.sandbox import bubblewrap
from tests import databases, ordinary
from tests.ordinary import Arrangement, Disk
from tests.support import PROJECT, Process, SpecRepository

MIB = 1 << 20
CLOCK = Path(__file__).with_name("moved_clock.py")
SUSPENDED_SECONDS = float(os.environ.get("STEERSMAN_TEST_SUSPENDED_SECONDS", "5"))  # by hand: 60
DEV = "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\nspec: {}\n"
FINAL = ("passed", "failed", "defective", "aborted")
DEFECTS = [("defective", "executor-error"), ("defective", "lost")]
INSTEAD = r"\((executor error|lost): [^\n]*\)\n"  # of a log of which nothing could be written


def build(name: str, run: str, triggers: list[dict[str, Any]] | None = None, **task: Any) -> dict[str, Any]:
    """A Build of one task whose jobs may run side by side."""
    return {
        "apiVersion": "steersman/v1",
        "kind": "Build",
        "metadata": {"name": name, "project": "shop"},
        "spec": {
            "concurrency": "allow",
            "triggers": triggers or [],
            "tasks": [{"name": "main", "run": run, **task}],
        },
    }


def following(name: str, followed: str) -> dict[str, Any]:
    """A Pipeline of which each end of a Build starts a run."""
    step = {"type": "build", "environment": "dev", "build": followed, "trigger_pipeline_on_build": True}
    return {
        "apiVersion": "steersman/v1",
        "kind": "Pipeline",
        "metadata": {"name": name, "project": "shop"},
        "spec": {"phases": [{"name": "first", "steps": [step]}]},
    }


def executor(sandbox: str) -> dict[str, Any]:
    return {
        "apiVersion": "steersman/v1",
        "kind": "Executor",
        "metadata": {"name": "local"},
        "spec": {"max_load": 16, "sandbox": sandbox},
    }


@contextmanager
def daemon(
    tmp_path: Path, specs: list[dict[str, Any]], how: Arrangement, *, bare: bool = False, **environment: str
) -> Iterator[Process]:
    """A daemon that has applied the specs; `bare`: without a sandbox."""
    if not bare and bubblewrap() is None:
        pytest.skip("bubblewrap is not installed or does not work here")
    if how.disk is not None and ordinary.trouble():
        pytest.skip(f"needs a small disk of its own: {ordinary.trouble()}")
    repo = SpecRepository(tmp_path / "specs")
    texts = [json.dumps(spec) for spec in (executor("off" if bare else "required"), *specs)]
    head = repo.commit({"project.yaml": PROJECT, "all.yaml": "\n---\n".join(texts)})
    own = {"STEERSMAN_STOP_GRACE_SECONDS": "1"} | ({"STEERSMAN_ALLOW_UNSANDBOXED": "1"} if bare else {})
    with ordinary.running(repo.path, tmp_path / "data", how, **own, **environment) as running:
        running.wait_for(lambda c: status(c)["source"]["last_applied_revision"] == head)
        yield running


def status(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/reconciler/status").json()
    return found


def trigger(running: Process, name: str) -> int:
    with running.client() as client:
        made = client.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"})
        assert made.status_code == 202, made.text
        number: int = made.json()["number"]
        return number


def log(running: Process, number: int, **which: int) -> str:
    with running.client() as client:
        return client.get(f"/reconciler/jobs/{number}/log", params=which).text


def well(running: Process) -> None:
    """Nothing is wrong any more."""
    running.wait_for(lambda c: c.get("/health").json()["status"] == "ok" and not status(c)["troubles"])


def fill(path: Path, leave: int) -> Path:
    """A file that leaves so many bytes of its disk."""
    found = os.statvfs(path)
    rest = found.f_bavail * found.f_frsize - leave
    target = path / "filling"
    with target.open("ab", buffering=0) as file:
        while rest > 0:
            try:
                rest -= file.write(bytes(min(rest, MIB)))
            except OSError:
                break
    return target


COUNTING = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line-$i; sleep 0.05; done"
COUNTED = "".join(f"line-{number}\n" for number in range(1, 61))
GREEDY = "while :; do head -c 2M /dev/zero >>fill || sleep 1; sleep 0.1; done"


@pytest.mark.parametrize("bare", [False, True], ids=["sandboxed", "bare"])
def test_a_disk_that_is_nearly_full_is_told_and_new_trials_wait(tmp_path: Path, bare: bool) -> None:
    """What runs goes on with its whole log; what is new waits for the disk, and starts when there is room."""
    specs = [build("counting", COUNTING), build("late", "echo late")]
    disk = Arrangement(disk=Disk("size=96m"))
    with daemon(tmp_path, specs, disk, bare=bare) as running:
        first = trigger(running, "counting")
        running.wait_for(lambda _: "line-1\n" in log(running, first))
        filling = fill(running.data, 6 * MIB)
        running.wait_for(lambda c: "DiskFull" in c.get("/health").json()["checks"]["disk"])
        second = trigger(running, "late")

        def waits(client: httpx.Client) -> bool:
            causes = client.get("/reconciler/why/Build/shop/_/late").json()["causes"]
            return any("that must stay free (disk_reserve_bytes)" in cause["message"] for cause in causes)

        running.wait_for(waits)
        with running.client() as client:
            assert [(t["name"], t["reason"]) for t in status(client)["troubles"]] == [("disk", "DiskFull")]
            assert client.get("/health").json()["status"] == "degraded"
        assert running.job(first, *FINAL)["state"] == "passed"
        assert log(running, first) == COUNTED
        assert running.job(second, "pending", "executing")["tasks"][0]["trials"][0]["state"] == "pending"
        filling.unlink()
        assert running.job(second, *FINAL)["state"] == "passed"
        assert log(running, second) == "late\n"
        well(running)


def test_who_takes_most_of_a_full_disk_is_ended(tmp_path: Path) -> None:
    """The greedy trial ends with `disk-limit`, its neighbour passes, and then there is room again."""
    specs = [build("counting", COUNTING), build("greedy", GREEDY)]
    with daemon(tmp_path, specs, Arrangement(disk=Disk("size=160m"))) as running:
        beside, greedy = trigger(running, "counting"), trigger(running, "greedy")
        job = running.job(greedy, *FINAL)
        assert (job["state"], job["reason"]) == ("failed", "disk-limit")
        assert "this trial took most of it" in job["tasks"][0]["trials"][0]["error"]
        assert running.job(beside, *FINAL)["state"] == "passed"
        assert log(running, beside) == COUNTED
        well(running)
        assert list((running.data / "workspaces").iterdir()) == []
        assert running.job(trigger(running, "counting"), *FINAL)["state"] == "passed"


@pytest.mark.parametrize("bare", [False, True], ids=["sandboxed", "bare"])
def test_a_disk_without_a_single_byte_is_told_and_repeated(tmp_path: Path, bare: bool) -> None:
    """What cannot write its log or status is told and repeated; all ends are stored, and then it goes on as before."""
    quiet = "echo begun; while [ ! -e /tmp/never ] && [ $((i=i+1)) -lt 40 ]; do sleep 0.05; done"
    specs = [build("counting", COUNTING), build("quiet", quiet), build("late", "echo late")]
    disk = Arrangement(disk=Disk("size=64m"))
    with daemon(tmp_path, specs, disk, bare=bare, STEERSMAN_DISK_RESERVE_BYTES="0") as running:
        printing, silent = trigger(running, "counting"), trigger(running, "quiet")
        running.wait_for(lambda _: "line-3\n" in log(running, printing) and log(running, silent))
        filling = fill(running.data, 0)
        running.wait_for(lambda c: c.get("/health").status_code == 200)
        time.sleep(4)  # longer than the scripts take, so that both ends meet the full disk
        with running.client() as client:
            assert client.get("/reconciler/jobs").status_code == 200
        filling.unlink()
        if databases.chosen_for(running.data) is None:
            _repeated_once_there_is_room(running, printing, silent)
        for number, whole in ((printing, COUNTED), (silent, "begun\n")):
            for trial in running.job(number, *FINAL)["tasks"][0]["trials"]:
                said = log(running, number, trial=trial["number"])
                if trial["state"] == "passed":
                    assert said == whole
                else:  # by whether there was room for its status
                    assert (trial["state"], trial["reason"]) in DEFECTS
                    assert whole.startswith(said) or re.fullmatch(INSTEAD, said)
        assert running.job(trigger(running, "late"), *FINAL)["state"] == "passed"
        well(running)


def _repeated_once_there_is_room(running: Process, printing: int, silent: int) -> None:
    """A database on the same disk takes the ends only then, so that what is repeated finds room."""
    first, *again = running.job(printing, *FINAL)["tasks"][0]["trials"]
    assert first["state"] == "defective"
    assert [log(running, printing, trial=trial["number"]) for trial in again] == [COUNTED] * len(again)
    quiet = running.job(silent, *FINAL)
    assert quiet["state"] == "passed"
    for trial in quiet["tasks"][0]["trials"]:
        assert log(running, silent, trial=trial["number"]) == "begun\n"


@pytest.mark.slow
def test_a_database_that_is_locked_for_half_a_minute_loses_no_end(tmp_path: Path) -> None:
    """Scripts end meanwhile; health tells it; afterwards every end is stored, once."""
    specs = [
        build(f"b{number}", f"sleep {4 + number}; echo end {number}; exit {number % 2}")
        for number in range(1, 5)
    ]
    with daemon(tmp_path, specs, Arrangement()) as running:
        numbers = [trigger(running, f"b{number}") for number in range(1, 5)]
        for number in numbers:
            running.job(number, "executing")
        with databases.locked(running.data):
            until = time.monotonic() + 30
            running.wait_for(lambda c: "DatabaseLocked" in c.get("/health").json()["checks"]["trials"])
            with running.client() as client:
                assert client.get("/health").json()["status"] == "degraded"
                assert ("trials", "DatabaseLocked") in [
                    (t["name"], t["reason"]) for t in status(client)["troubles"]
                ]
            while time.monotonic() < until:
                with running.client() as client:
                    assert {item["state"] for item in client.get("/reconciler/jobs").json()["items"]} == {
                        "executing"
                    }
                    assert client.get("/health").status_code == 200
                time.sleep(0.5)
        states = [running.job(number, *FINAL, seconds=60)["state"] for number in numbers]
        assert states == ["failed", "passed", "failed", "passed"]
        assert [log(running, number) for number in numbers] == [f"end {i}\n" for i in range(1, 5)]
        trials = [running.job(number, *FINAL)["tasks"][0]["trials"] for number in numbers]
        assert [len(found) for found in trials] == [1] * 4
        well(running)
        with running.client() as client:
            assert len(client.get("/reconciler/jobs").json()["items"]) == 4
            assert client.get("/reconciler/audit").json()["sound"] is True


def test_a_clock_that_is_set_back_an_hour_starts_nothing_twice(tmp_path: Path) -> None:
    """No due time is run again, running scripts keep their log and limit, and new jobs run."""
    every = [{"type": "schedule", "interval_seconds": 2}]
    specs = [
        build("timed", "echo $STEERSMAN_DUE", every),
        build("counting", COUNTING),
        build("endless", "echo on; sleep 600", timeout_seconds=4),
    ]
    how = Arrangement(program=(str(CLOCK), "serve"))
    with daemon(tmp_path, specs, how) as running:
        due = lambda: [job["trigger"]["due"] for job in items(running, "timed")]  # noqa: E731
        running.wait_for(lambda _: len(due()) >= 2)
        counting, endless = trigger(running, "counting"), trigger(running, "endless")
        running.wait_for(lambda _: "line-1\n" in log(running, counting) and log(running, endless))
        before = due()
        running.popen.send_signal(signal.SIGUSR1)
        after = running.job(trigger(running, "counting"), *FINAL)
        assert after["state"] == "passed"
        assert after["created_at"] < before[0], "the clock was not set back"
        assert running.job(counting, *FINAL)["state"] == "passed"
        assert log(running, counting) == log(running, after["number"]) == COUNTED
        job = running.job(endless, *FINAL)
        assert (job["state"], job["reason"]) == ("defective", "timeout")
        # every two seconds, whatever the clock says
        running.wait_for(lambda _: len(due()) >= len(before) + 3)
        found = due()
        assert len(set(found)) == len(found)
        well(running)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Served]:
    """A spec repository on another server."""
    found = Served(tmp_path)
    yield found
    found.close()


class Served:
    """Commits become visible with `publish`."""

    def __init__(self, tmp_path: Path) -> None:
        self.work = SpecRepository(tmp_path / "specs")
        self.bare = tmp_path / "served" / "specs.git"
        self.work.git("clone", "--quiet", "--bare", str(self.work.path), str(self.bare))
        handler = functools.partial(_Quiet, directory=str(self.bare.parent))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/specs.git"

    def publish(self, files: dict[str, str]) -> str:
        head = self.work.commit(files)
        self.work.git("push", "--quiet", str(self.bare), "HEAD:main")
        subprocess.run(["git", "update-server-info"], cwd=self.bare, check=True)
        return head

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_a_clock_that_is_set_back_an_hour_holds_nothing_up(tmp_path: Path, remote: Served) -> None:
    """What is looked at every few seconds still is: the spec repository, code, a schedule, who follows whom."""
    if bubblewrap() is None:
        pytest.skip("bubblewrap is not installed or does not work here")
    code = SpecRepository(tmp_path / "code")
    code.commit({"README.md": "one"})
    polled = build("polled", "cat README.md", [{"type": "poll", "interval_seconds": 10}])
    polled["spec"] |= {"repo": str(code.path), "branches": ["main"]}
    specs = [
        executor("required"),
        polled,
        build("timed", "true", [{"type": "schedule", "interval_seconds": 2}]),
        build("after", "true", [{"type": "build", "builds": ["timed"]}]),
        following("behind", "timed"),
    ]
    text = "\n---\n".join(json.dumps(spec) for spec in specs)
    remote.publish({"project.yaml": PROJECT, "dev.yaml": DEV, "all.yaml": text})
    how = Arrangement(program=(str(CLOCK), "serve"))
    with ordinary.running(remote.url, tmp_path / "data", how, STEERSMAN_POLL_SECONDS="5") as running:
        behind = lambda: len(runs(running, "behind"))  # noqa: E731
        running.wait_for(
            lambda _: len(items(running, "after")) >= 2 and items(running, "polled") and behind()
        )
        running.popen.send_signal(signal.SIGUSR1)
        before = {name: len(items(running, name)) for name in ("timed", "after", "polled")}
        started = behind()
        code.commit({"README.md": "two"})
        head = remote.publish({"other.yaml": json.dumps(build("other", "true"))})

        def went_on(client: httpx.Client) -> bool:
            found = {name: len(items(running, name)) for name in before}
            applied = status(client)["source"]["last_applied_revision"] == head
            more = all(found[name] >= before[name] + 2 for name in ("timed", "after"))
            return applied and more and behind() >= started + 2 and found["polled"] == before["polled"] + 1

        running.wait_for(went_on, 90)
        well(running)


AGAIN = [
    {
        "name": "again",
        "run": "echo try; [ $STEERSMAN_ATTEMPT -gt 1 ]",
        "max_trials": 3,
        "retry_delay_seconds": 3,
    },
    {"name": "first", "run": "echo one; sleep 4"},
    {"name": "then", "run": "echo two", "needs": ["first"]},
]


@pytest.mark.parametrize("way", ["back", "forward"])
def test_a_clock_that_is_set_leaves_running_jobs_as_they_were(way: str, tmp_path: Path) -> None:
    """No job ends early or waits for an hour, tries are made when they are due, and given out logs only grow."""
    specs = [build("again", ""), build("later", "echo on; sleep 600")]
    specs[0]["spec"] |= {"timeout_seconds": 25, "tasks": AGAIN}
    specs[1]["spec"]["timeout_seconds"] = 10
    how = Arrangement(program=(str(CLOCK), "serve"))
    with daemon(tmp_path, specs, how) as running:
        again, later = trigger(running, "again"), trigger(running, "later")
        running.wait_for(lambda _: "one\n" in log(running, again) and log(running, later))
        running.wait_for(lambda _: "try\n" in log(running, again))
        before = log(running, again)
        running.popen.send_signal(signal.SIGUSR1 if way == "back" else signal.SIGUSR2)
        began = time.monotonic()
        job = running.job(again, *FINAL)
        took = time.monotonic() - began
        assert job["state"] == "passed", job
        assert took < 20
        assert log(running, again).startswith(before)
        job = running.job(later, *FINAL)
        assert (job["state"], job["reason"]) == ("defective", "timeout")
        assert time.monotonic() - began < 20
        started, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
        assert 9 <= (ended - started).total_seconds() < 20
        well(running)


def items(running: Process, name: str) -> list[dict[str, Any]]:
    """The newest jobs of a Build."""
    with running.client() as client:
        query = {"key": f"Build/shop/_/{name}", "limit": 100}
        found: list[dict[str, Any]] = client.get("/reconciler/jobs", params=query).json()["items"]
        return found


def runs(running: Process, name: str) -> list[dict[str, Any]]:
    """The newest runs of a Pipeline."""
    with running.client() as client:
        answer = client.get(f"/api/v1/pipelines/by-project/shop/by-name/{name}/executions/")
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


def test_a_suspended_daemon_goes_on_where_it_was(tmp_path: Path) -> None:
    """Scripts end meanwhile with their whole logs; what was missed runs once, with its newest due time."""
    every = [{"type": "schedule", "interval_seconds": 1}]
    specs = [build("timed", "echo $STEERSMAN_DUE", every), build("counting", COUNTING)]
    with daemon(tmp_path, specs, Arrangement()) as running:
        counting = trigger(running, "counting")
        running.wait_for(lambda _: "line-1\n" in log(running, counting) and items(running, "timed"))
        running.popen.send_signal(signal.SIGSTOP)
        time.sleep(SUSPENDED_SECONDS)
        running.popen.send_signal(signal.SIGCONT)
        job = running.job(counting, *FINAL)
        assert (job["state"], log(running, counting)) == ("passed", COUNTED)
        assert len(job["tasks"][0]["trials"]) == 1
        well(running)
        due = sorted(datetime.fromisoformat(job["trigger"]["due"]) for job in items(running, "timed"))
        assert len(set(due)) == len(due)
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
        assert max(gaps) >= SUSPENDED_SECONDS - 2  # not one job for each second of it


def test_suspended_scripts_go_on_where_they_were(tmp_path: Path) -> None:
    """A whole script is stopped and continued: its log has every line once, and it passes."""
    with daemon(tmp_path, [build("counting", COUNTING)], Arrangement()) as running:
        counting = trigger(running, "counting")
        running.wait_for(lambda _: "line-1\n" in log(running, counting))
        (run,) = (running.data / "runs").glob("*/*")
        pid = int((run / "start").read_text().split()[0])
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in tree:
            with suppress(psutil.NoSuchProcess):  # one of its many short ones
                process.send_signal(signal.SIGSTOP)
        held = log(running, counting)
        time.sleep(SUSPENDED_SECONDS)
        assert log(running, counting).startswith(held)
        assert running.job(counting, "executing")
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        assert running.job(counting, *FINAL)["state"] == "passed"
        assert log(running, counting) == COUNTED
        well(running)
