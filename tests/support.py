"""Stand-ins for a team: a spec repository to commit into, and daemons in this process or in their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from reconciler.daemon import Daemon
from reconciler.settings import Settings
from tests import databases, forked
from tests.forked import Forked

T = TypeVar("T")
PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
UNTENDED = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "maintenance.auto",
    "GIT_CONFIG_VALUE_0": "false",
    "GIT_CONFIG_KEY_1": "core.fsync",
    "GIT_CONFIG_VALUE_1": "none",
}
"""For git: a commit starts no two more processes that tidy up, and does not wait for the disk."""

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Alice",
    "GIT_AUTHOR_EMAIL": "alice@example.org",
    "GIT_COMMITTER_NAME": "Alice",
    "GIT_COMMITTER_EMAIL": "alice@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
} | UNTENDED


class SpecRepository:
    """A Git repository with a work tree, used as a person uses it."""

    def __init__(self, path: Path, branch: str = "main") -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", branch)

    def git(self, *arguments: str) -> str:
        """Run git here; its output."""
        environment = {**os.environ, **_IDENTITY}
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Change files of the work tree; None removes one."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: Mapping[str, str | bytes | None] | None = None, message: str = "change") -> str:
        """Commit all there is; the commit's id."""
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head()

    def head(self) -> str:
        """The newest commit."""
        head = self.path / ".git/HEAD"
        if head.is_file():  # it mostly is, and asking git takes a hundred times as long
            branch = self.path / ".git" / head.read_text().strip().removeprefix("ref: ")
            if branch.is_file():
                return branch.read_text().strip()
        return self.git("rev-parse", "HEAD")


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All files below a folder in which others work: what goes meanwhile is left out."""
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    yield path, path.read_bytes()


def holding(folder: Path, *needles: bytes) -> list[Path]:
    """Those of them that hold one of these."""
    return [path for path, content in contents(folder) if any(needle in content for needle in needles)]


def settings_for(repository: SpecRepository | str, data: Path, **more: Any) -> Settings:
    """Settings of a test's daemon."""
    repo = str(repository.path) if isinstance(repository, SpecRepository) else repository
    flags = {"repo": repo, "data": data, "stop_grace_seconds": 1.0, "allow_local_repositories": True} | more
    if not flags.get("database"):
        databases.fill(data)
        flags["database"] = databases.chosen_for(data)
    return Settings(**flags)


@asynccontextmanager
async def daemon(settings: Settings) -> AsyncIterator[Daemon]:
    """A daemon in this process, having looked at its source once."""
    try:
        async with Daemon(settings) as running:
            await running.installation.run_now("source")
            yield running
    finally:
        end_scripts(settings.data)


async def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `check`, which may be a coroutine function."""
    deadline = time.monotonic() + seconds
    for pause in pauses():
        found = check()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(pause)
    raise AssertionError(f"did not come true in {seconds} s: {check}")


def eventually_now(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The same outside of a loop."""
    return once(check, bool, seconds, lambda: check)


def once(
    ask: Callable[[], T], check: Callable[[T], Any], seconds: float = 30.0, told: Callable[[], Any] = str
) -> T:
    """The first of what `ask` gives that `check` is true of; `told()` is shown when there is none."""
    deadline = time.monotonic() + seconds
    for pause in pauses():
        found = ask()
        if check(found):
            return found
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
    raise AssertionError(f"did not come true in {seconds} s: {found}\n{told()}")


def pauses() -> Iterator[float]:
    """Seconds until one asks again: ever more, as to answer takes time from getting on."""
    pause = 0.02
    while True:
        yield pause
        pause = min(pause * 1.25, 0.15)


@dataclass
class Process:
    """A daemon in a process of its own, as a user runs it."""

    popen: subprocess.Popen[bytes] | Forked
    url: str
    token: str
    data: Path

    def client(self) -> httpx.Client:
        """An HTTP client with the administrator's token."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30, verify=False
        )

    def kill(self) -> None:
        """As a power cut: KILL, nothing is tidied."""
        self.popen.kill()
        self.popen.wait(10)

    def wait_for(self, check: Callable[[httpx.Client], Any], seconds: float = 30.0) -> Any:
        """The first true value of `check(client)`."""
        with self.client() as client:
            return once(lambda: check(client), bool, seconds, self.log)

    def job(self, number: int, *states: str, seconds: float = 30.0) -> dict[str, Any]:
        """Job NUMBER once it is in one of the states."""

        def check(client: httpx.Client) -> Any:
            answer = client.get(f"/reconciler/jobs/{number}")
            return answer.status_code == 200 and answer.json()["state"] in states and answer.json()

        found: dict[str, Any] = self.wait_for(check, seconds)
        return found

    def log(self) -> str:
        """What the daemon said on standard error."""
        return (self.data.parent / f"{self.data.name}.err").read_text(errors="replace")[-4000:]


@contextmanager
def process(repo: Path | str, data: Path, **environment: str) -> Iterator[Process]:
    """Start `steersman serve` on a free port; it is ended with TERM, and KILL if it must be."""
    running = start(repo, data, **environment)
    try:
        yield running
    finally:
        stop(running)


def start(repo: Path | str, data: Path, *, fresh: bool = False, **environment: str) -> Process:
    """Start `steersman serve` and wait until it answers. `fresh`: from nothing, as a user does; else it is forked."""
    ready = data.parent / f"{data.name}.ready"
    ready.unlink(missing_ok=True)
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
    own |= {"STEERSMAN_READY_FILE": str(ready), "STEERSMAN_ALLOW_LOCAL_REPOSITORIES": "1"}
    own |= database_for(data) | environment
    if not fresh and "STEERSMAN_DATABASE" not in own:
        databases.fill(data)
    errors = data.parent / f"{data.name}.err"
    words = ["serve", "--repo", str(repo), "--data", str(data), "--port", "0"]
    popen = from_nothing(words, own, errors) if fresh else forked.daemon(words, own, errors)
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.read_text().endswith("\n")):
        if popen.poll() is not None or time.monotonic() > deadline:
            popen.kill()
            popen.wait()
            text = errors.read_text(errors="replace")
            raise AssertionError(f"the daemon did not start: {text[-4000:]}")
        time.sleep(0.02)
    token = own.get("STEERSMAN_ADMIN_TOKEN") or (data / "admin.token").read_text().strip()
    return Process(popen, ready.read_text().strip(), token, data)


def database_for(data: Path) -> dict[str, str]:
    """The environment that names the database of a data folder's daemon."""
    database = databases.chosen_for(data)
    return {} if database is None else {"STEERSMAN_DATABASE": database}


def from_nothing(words: list[str], environment: Mapping[str, str], errors: Path) -> subprocess.Popen[bytes]:
    """`steersman WORDS` as a user starts it, with exactly this environment."""
    command = [sys.executable, "-c", "from api.cli import main; main()", *words]
    with errors.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=file)


def stop(running: Process) -> None:
    """TERM, then KILL."""
    if running.popen.poll() is None:
        running.popen.terminate()
        try:
            running.popen.wait(15)
        except subprocess.TimeoutExpired:
            running.popen.kill()
            running.popen.wait()
    end_scripts(running.data)


def end_scripts(data: Path) -> None:
    """Scripts outlive their daemon by design; those of a test end with it."""
    if not any((data / "runs").glob("*/*/**/start")):
        return
    for found in psutil.process_iter(["cmdline"]):
        if any(str(data) in part for part in found.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                found.kill()
