"""Kill -9 is a normal event: scripts outlive the daemon, and nothing is started twice, forgotten or lost."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from reconciler.execution.sandbox import bubblewrap
from tests.support import PROJECT, SpecRepository, start, stop

SCRIPTS = 6


def _spec(out: Path, tasks: str, *, sandbox: str = "required") -> str:
    return (
        f"{PROJECT}---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: local}}\n"
        f"spec: {{max_load: 20, sandbox: '{sandbox}', writable: ['{out}']}}\n"
        "---\napiVersion: steersman/v1\nkind: Build\nmetadata: {name: work, project: shop}\n"
        f"spec:\n  triggers: [{{type: change}}]\n  tasks:\n{tasks}"
    )


def _task(name: str, out: Path, lines: int) -> str:
    script = f"echo start >> {out}/{name}; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line-$i; sleep 0.02; done"
    return f"    - {{name: {name}, run: '{script}'}}\n"


def _sandbox(mode: str) -> dict[str, str]:
    if mode == "required" and bubblewrap() is None:
        pytest.skip("bubblewrap is not installed or does not work here")
    return {"STEERSMAN_ALLOW_UNSANDBOXED": "1"} if mode == "off" else {}


@pytest.mark.parametrize("mode", ["required", "off"])
def test_scripts_outlive_a_killed_daemon(tmp_path: Path, mode: str) -> None:
    """Each script appended one start line, no byte of a log is missing, the job passes."""
    environment = _sandbox(mode)
    out = tmp_path / "out"
    out.mkdir()
    repo = SpecRepository(tmp_path / "specs")
    names = [f"t{i}" for i in range(SCRIPTS)]
    repo.commit({"all.yaml": _spec(out, "".join(_task(name, out, 100) for name in names), sandbox=mode)})
    running = start(repo.path, tmp_path / "data", **environment)
    running.wait_for(lambda _: all((out / name).exists() for name in names))
    running.kill()
    running = start(repo.path, tmp_path / "data", **environment)
    try:
        running.kill()
        running = start(repo.path, tmp_path / "data", **environment)
        job = running.job(1, "passed", "failed", "defective", "aborted", seconds=60)
        assert job["state"] == "passed", running.log()
        expected = "".join(f"line-{i}\n" for i in range(1, 101))
        with running.client() as client:
            logs = {n: client.get("/reconciler/jobs/1/log", params={"task": n}).text for n in names}
            jobs = client.get("/reconciler/jobs").json()["items"]
        assert logs == dict.fromkeys(names, expected)
        assert {name: (out / name).read_text() for name in names} == dict.fromkeys(names, "start\n")
        assert [len(task["trials"]) for task in job["tasks"]] == [1] * SCRIPTS
        assert len(jobs) == 1
    finally:
        stop(running)


def _descendants(marker: str) -> list[psutil.Process]:
    processes = psutil.process_iter(["cmdline"])
    return [found for found in processes if any(marker in part for part in found.info["cmdline"] or ())]


def test_trials_whose_processes_are_gone_are_lost_and_retried(tmp_path: Path) -> None:
    """Daemon, supervisors and scripts are killed: `defective/lost`, then the retries that `lost_retries` declares."""
    environment = _sandbox("required")
    out = tmp_path / "out"
    out.mkdir()
    repo = SpecRepository(tmp_path / "specs")
    tasks = (
        f"    - {{name: again, run: 'echo start >> {out}/again; sleep 2'}}\n"
        f"    - {{name: never, lost_retries: 0, run: 'echo start >> {out}/never; sleep 2'}}\n"
    )
    repo.commit({"all.yaml": _spec(out, tasks)})
    running = start(repo.path, tmp_path / "data", **environment)
    running.wait_for(lambda _: (out / "again").exists() and (out / "never").exists())
    running.kill()
    for process in _descendants(str(tmp_path / "data")):
        process.kill()
    running = start(repo.path, tmp_path / "data", **environment)
    try:
        job = running.job(1, "passed", "failed", "defective", "aborted", seconds=60)
        again, never = job["tasks"]
        assert [(t["state"], t["reason"]) for t in again["trials"]] == [
            ("defective", "lost"),
            ("passed", None),
        ]
        assert [(t["state"], t["reason"]) for t in never["trials"]] == [("defective", "lost")]
        assert (job["state"], job["reason"]) == ("defective", "lost")
        assert (out / "again").read_text() == "start\nstart\n"
        assert (out / "never").read_text() == "start\n"
    finally:
        stop(running)


def test_a_stopped_daemon_leaves_its_scripts_running(tmp_path: Path) -> None:
    """TERM, as an upgrade does it: the script goes on and the next daemon takes it up."""
    environment = _sandbox("required")
    out = tmp_path / "out"
    out.mkdir()
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"all.yaml": _spec(out, _task("slow", out, 150))})
    running = start(repo.path, tmp_path / "data", **environment)
    running.wait_for(lambda _: (out / "slow").exists())
    running.popen.send_signal(signal.SIGTERM)
    assert running.popen.wait(15) == 0
    running = start(repo.path, tmp_path / "data", **environment)
    try:
        assert running.job(1, "passed", "failed", "defective", seconds=60)["state"] == "passed"
        assert (out / "slow").read_text() == "start\n"
    finally:
        stop(running)


def test_cancel_ends_a_whole_process_tree(tmp_path: Path) -> None:
    """A script that ignores TERM, with a double-forked child: all of it ends, the job is aborted."""
    environment = _sandbox("required")
    out = tmp_path / "out"
    out.mkdir()
    repo = SpecRepository(tmp_path / "specs")
    script = f'trap "" TERM; (setsid sleep 98765 &) ; echo start >> {out}/x; sleep 98765'
    repo.commit({"all.yaml": _spec(out, f"    - {{name: x, run: '{script}'}}\n")})
    running = start(repo.path, tmp_path / "data", STEERSMAN_STOP_GRACE_SECONDS="0.5", **environment)
    try:
        running.wait_for(lambda _: (out / "x").exists())
        with running.client() as client:
            assert client.post("/reconciler/jobs/1/cancel").status_code == 202
        job = running.job(1, "aborted", "failed", "defective", "passed")
        assert (job["state"], job["reason"]) == ("aborted", "cancelled")
        left = subprocess.run(["pgrep", "-f", "sleep 98765"], capture_output=True, text=True).stdout.split()
        assert [pid for pid in left if os.path.exists(f"/proc/{pid}")] == []
    finally:
        stop(running)
