"""`make demo`: the whole way from a commit to an installed wheel, a broken commit and a removal, in about a minute.

Steersman builds Steersman: a repository of specifications is made from the example `04-steersman`, a code repository
is a clone of this checkout's HEAD, and a daemon of its own, on a free port and in a temporary folder, does the rest.
Each step is checked; the first one that is not as it must be ends the demo with a sentence and exit status 1.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
from repositories import ROOT, commit, git, new_repository, put

from reconciler.execution import sandbox

KEY = "Build/steersman/_/wheel"
BUILD = "projects/steersman/builds/wheel.yaml"
_TOOLS = "/srv/steersman/.venv"
_PYTHON = "/srv/python"
_CODE = "/srv/git/steersman.git"


class Failed(Exception):
    """A step did not end as it must; the message is a sentence."""


@dataclass(frozen=True)
class Daemon:
    """The running daemon, seen from outside: over HTTP and by its command line."""

    address: str
    token: str
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET."""
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            return httpx.get(self.address + path, headers=headers, timeout=30)
        except httpx.HTTPError as error:
            raise Failed(f"the daemon does not answer GET {path}: {error}") from error

    def json(self, path: str) -> Any:
        """The body of a GET that has to succeed."""
        answer = self.get(path)
        expect(answer.status_code == 200, f"GET {path} answered {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    def cli(self, *words: str) -> int:
        """Run `steersman WORDS`, its output indented below the step; gives the exit status."""
        say(f"   $ steersman {' '.join(words)}")
        found = os.environ | {
            "STEERSMAN_SERVER": self.address,
            "STEERSMAN_TOKEN": self.token,
            "COLUMNS": "110",
        }
        argv = (str(Path(sys.executable).with_name("steersman")), *words)
        with subprocess.Popen(argv, env=found, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            for line in process.stdout or ():
                say("     " + line.decode(errors="replace").rstrip())
        return process.returncode


def expect(holds: bool, sentence: str) -> None:
    """A condition of the demo."""
    if not holds:
        raise Failed(sentence)


def until(what: str, look: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of `look`."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        expect(time.monotonic() < end, f"{what} did not come about within {seconds:.0f} s")
        time.sleep(0.02)


def say(text: str) -> None:
    """For the person at the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_specs(folder: Path, code: Path) -> None:
    """The specifications of the example, with the paths of this machine; not committed yet."""
    tools, python = Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()
    values = {_TOOLS: str(tools), _PYTHON: str(python), _CODE: str(code)}
    if sandbox.bubblewrap() is None:
        say(f"WARNING: {sandbox.why_not()}: scripts run with your own rights, without a sandbox.")
        values["sandbox: required"] = "sandbox: off"
    put("04-steersman", folder, values)


@contextlib.contextmanager
def daemon(folder: Path, specs: Path) -> Iterator[Daemon]:
    """A daemon in a process of its own; at the end it and all that it started are ended."""
    ready, data, cancelled = folder / "ready", folder / "data", False
    found = os.environ | {
        "STEERSMAN_ALLOW_LOCAL_REPOSITORIES": "1",
        "STEERSMAN_STOP_GRACE_SECONDS": "1",
        "STEERSMAN_READY_FILE": str(ready),
    }
    if sandbox.bubblewrap() is None:
        found["STEERSMAN_ALLOW_UNSANDBOXED"] = "1"
    argv = (
        Path(sys.executable).with_name("steersman"),
        "serve",
        "--repo",
        specs,
        "--data",
        data,
        "--port",
        "0",
    )
    with (folder / "daemon.log").open("wb") as log:
        # A session of its own: Ctrl-C comes to this program, which then ends the daemon in order.
        process = subprocess.Popen(
            [str(word) for word in argv], env=found, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until("the daemon", lambda: _is_ready(ready) or process.poll() is not None)
        expect(
            process.poll() is None, "the daemon did not start: " + (folder / "daemon.log").read_text()[-2000:]
        )
        token = (data / "admin.token").read_text(encoding="utf-8").strip()
        running = Daemon(ready.read_text(encoding="utf-8").strip(), token, process)
        try:
            yield running
        finally:
            cancelled = _cancel_jobs(running)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not cancelled:
            _end_scripts(data)


def _is_ready(file: Path) -> bool:
    return file.exists() and file.read_text(encoding="utf-8").endswith("\n")


def _cancel_jobs(running: Daemon) -> bool:
    """End what still runs: scripts outlive their daemon by design. False if the daemon cannot be asked to."""
    headers = {"Authorization": f"Bearer {running.token}"}
    try:
        for job in _unfinished(running):
            httpx.post(
                f"{running.address}/reconciler/jobs/{job['number']}/cancel", headers=headers, timeout=30
            )
        until("the end of the cancelled jobs", lambda: not _unfinished(running))
    except (httpx.HTTPError, Failed):
        return False
    return True


def _end_scripts(data: Path) -> None:
    """End the scripts of a daemon that is gone: the first word of `start` is the group of their supervisor."""
    for start in data.glob("runs/*/*/start"):
        if not start.with_name("exit").exists():
            with contextlib.suppress(OSError, ValueError, IndexError):
                os.killpg(int(start.read_text(encoding="ascii").split()[0]), signal.SIGKILL)


def _unfinished(running: Daemon) -> list[Any]:
    return [job for job in running.json("/reconciler/jobs")["items"] if job["finished_at"] is None]


def applied(running: Daemon, revision: str) -> dict[str, Any]:
    """Wait until the daemon has carried a commit out; its status then."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = running.json("/reconciler/status")
        return found if found["source"]["last_applied_revision"] == revision else None

    begun = time.monotonic()
    status: dict[str, Any] = until(f"commit {revision[:10]} in force", look)
    say(f"   the daemon has applied {revision[:10]} after {(time.monotonic() - begun) * 1000:.0f} ms")
    return status


def build(running: Daemon, specs: Path, code: Path) -> Any:
    """Commit the specifications and follow the job that they start, to its end."""
    say("\n3. Commit the specifications; a plain `git commit` is all that the daemon needs")
    make_specs(specs, code)
    status = applied(running, commit(specs, "Steersman builds Steersman"))
    expect(status["resources"]["synced"] == 4, "the four resources are not in sync")
    running.cli("get", "Build")
    say("\n4. The Build polls the code repository: its head is owed a job. Its log, live:")
    job = until("a job", lambda: running.json(f"/reconciler/jobs?key={KEY}")["items"])[0]
    ended = running.cli("logs", str(job["number"]), "-f")
    expect(running.process.poll() is None, "the daemon has ended in the middle of the job")
    expect(ended == 0, "the build of this checkout's HEAD did not pass; its log above says why")
    running.cli("job", str(job["number"]))
    return job


def install(running: Daemon, folder: Path, job: Any) -> None:
    """Fetch the wheel over HTTP and install it into an environment of its own."""
    say("\n5. Fetch the wheel over HTTP and install it into a fresh environment")
    number = job["number"]
    kept = running.json(f"/reconciler/jobs/{number}/attachments")["items"]
    expect(len(kept) == 1 and kept[0]["path"].endswith(".whl"), f"job {number} keeps {kept}, not one wheel")
    path = f"/reconciler/jobs/{number}/attachments/{kept[0]['path']}"
    body = running.get(path).content
    digest = hashlib.sha256(body).hexdigest()
    expect(kept[0]["digest"].endswith(digest), "the wheel that was fetched is not the one that was kept")
    wheel = folder / Path(kept[0]["path"]).name
    wheel.write_bytes(body)
    say(f"   GET {path}: {len(body):,} bytes, sha256 {digest[:16]}…, as kept")
    fresh = folder / "fresh"
    _run((sys.executable, "-m", "venv", str(fresh)))
    python = str(fresh / "bin" / "python")
    pip = (
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
    )
    _run((*pip, str(wheel)))
    # Without its dependencies the command line cannot run; the metadata and a pure module can.
    text = "import importlib.metadata as m, specs.nearest as s; print(m.version('steersman'), s.__file__)"
    version, place = _run((python, "-I", "-c", text)).split(maxsplit=1)
    expect(
        Path(place).is_relative_to(fresh.resolve()), f"imported from {place}, not from the fresh environment"
    )
    shown = Path("fresh") / Path(place).relative_to(fresh.resolve())
    say(f"   installed without its dependencies: steersman {version}, imported from {shown}")


def _run(argv: tuple[str, ...]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    expect(done.returncode == 0, f"{' '.join(argv[1:4])} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def break_and_mend(running: Daemon, specs: Path) -> None:
    """A commit with a mistake harms nothing; the next good one is applied."""
    say("\n6. Commit a mistake: `taks` instead of `tasks`")
    place = specs / BUILD
    good = place.read_text(encoding="utf-8")
    before = running.json(f"/reconciler/resources/{KEY}")
    place.write_text(good.replace("\n  tasks:", "\n  taks:"), encoding="utf-8")
    applied(running, commit(specs, "A mistake"))
    running.cli("status", KEY)
    now = running.json(f"/reconciler/resources/{KEY}")
    messages = [fact["message"] for fact in now["conditions"] if fact["type"] == "Invalid" and fact["status"]]
    line = 1 + good[: good.index("\n  tasks:")].count("\n") + 1
    expect(
        any(f"{BUILD}:{line}:3" in text for text in messages),
        f"no message names {BUILD}:{line}:3: {messages}",
    )
    same = all(now[field] == before[field] for field in ("generation", "digest", "spec"))
    expect(same and now["spec"]["tasks"], "the last good version is not in force any more")
    tasks = ", ".join(task["name"] for task in now["spec"]["tasks"])
    say(f"   still in force: generation {now['generation']} of {now['revision'][:10]} with its tasks {tasks}")

    say("\n7. Commit it mended, with another time limit")
    place.write_text(good.replace("timeout_seconds: 300", "timeout_seconds: 240"), encoding="utf-8")
    applied(running, commit(specs, "Mended"))
    running.cli("get", "Build")
    now = running.json(f"/reconciler/resources/{KEY}")
    expect(
        now["sync"] == "Synced" and now["generation"] == before["generation"] + 1,
        "the mended version is not in force",
    )
    expect(now["spec"]["task_defaults"]["timeout_seconds"] == 240, "the new time limit is not in force")
    jobs = running.json(f"/reconciler/jobs?key={KEY}")["items"]
    expect(len(jobs) == 1, "a time limit changes no result, and yet there is a second job")
    say("   no second job: a time limit changes nothing of what was built")


def remove(running: Daemon, specs: Path) -> None:
    """What is removed from Git is pruned."""
    say("\n8. Remove the Build from Git")
    git(specs, "checkout", "--quiet", "-b", "no-more-wheels")
    git(specs, "rm", "--quiet", BUILD)
    revision = commit(specs, "No more wheels")
    say("   on a branch first: what would change?")
    expect(running.cli("plan", "--ref", "no-more-wheels") == 2, "the plan of the branch shows no change")
    say("   merged:")
    git(specs, "checkout", "--quiet", "main")
    git(specs, "merge", "--quiet", "--ff-only", "no-more-wheels")
    applied(running, revision)
    running.cli("get", "Build")
    gone = running.get(f"/reconciler/resources/{KEY}").status_code
    expect(gone == 404, f"the Build is still there: GET answers {gone}")
    status = running.json("/reconciler/status")
    expect(status["resources"]["total"] == 3, "something else than the Build was removed")
    expect(running.get("/reconciler/jobs/1").status_code == 200, "the job's record is gone")
    say("   pruned; job 1, its log and its wheel stay until their time is over")


def demo(folder: Path) -> None:
    """All steps, in a folder that is removed afterwards."""
    begun = time.monotonic()
    specs, code = folder / "specs", folder / "code"
    say("1. Two Git repositories: specifications (empty) and code (a clone of this checkout's HEAD)")
    new_repository(specs)
    (specs / "README.md").write_text("# Specifications\n", encoding="utf-8")
    commit(specs, "Nothing yet")
    git(folder, "clone", "--quiet", str(ROOT), str(code))
    git(code, "checkout", "--quiet", "-B", "main")
    say(f"   code: {git(code, 'log', '-1', '--format=%h %s')}")
    say("\n2. A daemon: one process, one folder, no services")
    with daemon(folder, specs) as running:
        say(
            f"   process {running.process.pid} at {running.address}, health {running.json('/health')['status']}"
        )
        job = build(running, specs, code)
        install(running, folder, job)
        break_and_mend(running, specs)
        remove(running, specs)
    say(
        f"\nAll of it as it must be, in {time.monotonic() - begun:.0f} s. The daemon is ended and its folder removed."
    )


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Entry of `make demo`."""
    signal.signal(signal.SIGTERM, _interrupted)
    with tempfile.TemporaryDirectory(prefix="steersman-demo-", ignore_cleanup_errors=True) as folder:
        try:
            demo(Path(folder).resolve())
        except Failed as failure:
            say(f"\nThe demo failed: {failure}")
            return 1
        except KeyboardInterrupt:
            say("\nInterrupted; the daemon is ended.")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
