"""Daemons and workers on one real PostgreSQL, each a process of its own, and what became of jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests import databases, forked
from tests.forked import Forked
from tests.support import (
    PROJECT,
    Process,
    SpecRepository,
    end_scripts,
    eventually_now,
    from_nothing,
    start,
    stop,
)

TOKEN = "stm_the_administrators_token_of_a_fleet"


@dataclass
class WorkerOf:
    """A `steersman worker` in a process of its own."""

    popen: subprocess.Popen[bytes] | Forked
    data: Path

    def kill(self) -> None:
        """KILL: its scripts go on."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def freeze(self) -> None:
        """STOP: it stands still, its scripts do not."""
        self.popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """CONT."""
        self.popen.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What it said on standard error."""
        return (self.data.parent / f"{self.data.name}.err").read_text(errors="replace")[-4000:]


@dataclass
class Fleet:
    """One installation: a repository of specifications, a database, and who runs on it.

    `fresh`: processes start from nothing, as a user's do; else they are forked.
    """

    folder: Path
    database: str
    repo: SpecRepository
    fresh: bool = False
    daemons: list[Process] = field(default_factory=list)
    workers: list[WorkerOf] = field(default_factory=list)

    def daemon(self, name: str = "daemon", **environment: str) -> Process:
        """One more daemon that runs no scripts itself; the server's key is shared."""
        own = {
            "STEERSMAN_DATABASE": self.database,
            "STEERSMAN_ADMIN_TOKEN": TOKEN,
            "STEERSMAN_KEY_FILE": str(self.folder / "server.key"),
            "STEERSMAN_EXECUTORS": "[]",
            "STEERSMAN_WORKER_NAME": name,
        }
        made = start(self.repo.path, self.folder / name, fresh=self.fresh, **own | environment)
        self.daemons.append(made)
        made.wait_for(lambda c: "Project/shop" in c.get("/reconciler/resources").text, 60)
        return made

    def worker(
        self, name: str = "worker", *, wait: bool = True, drain: bool = False, **environment: str
    ) -> WorkerOf:
        """One more worker, of the executor `local` unless the environment says another."""
        data = self.folder / name
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
        own |= {
            "STEERSMAN_READY_FILE": str(ready),
            "STEERSMAN_DATABASE": self.database,
            "STEERSMAN_WORKER_NAME": name,
            "STEERSMAN_STOP_GRACE_SECONDS": "2",
        }
        own |= environment
        words = ["worker", "--data", str(data), *(["--drain"] if drain else [])]
        begin = from_nothing if self.fresh else forked.daemon
        made = WorkerOf(begin(words, own, self.folder / f"{name}.err"), data)
        self.workers.append(made)
        if wait:
            eventually_now(lambda: ready.exists() or _dead(made), 60)
        return made

    def client(self, daemon: Process | None = None) -> httpx.Client:
        """The administrator's, of one daemon."""
        chosen = daemon or self.daemons[0]
        return httpx.Client(
            base_url=chosen.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False
        )

    def ask(self, query: str, **values: Any) -> list[Any]:
        """Look into the database, beside all."""
        engine = create_engine(databases.internal(self.database), poolclass=NullPool)
        with engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def ended(self, number: int, seconds: float = 60.0, daemon: Process | None = None) -> dict[str, Any]:
        """Job NUMBER once it has ended."""
        return self.until(number, lambda job: job["finished_at"] is not None, seconds, daemon)

    def until(
        self,
        number: int,
        check: Callable[[dict[str, Any]], Any],
        seconds: float = 60.0,
        daemon: Process | None = None,
    ) -> dict[str, Any]:
        """Job NUMBER once it is so."""
        chosen = daemon or self.daemons[0]
        last: list[Any] = []

        def look(client: httpx.Client) -> Any:
            answer = client.get(f"/reconciler/jobs/{number}")
            last[:] = [answer.status_code, answer.text[:2000]]
            return answer.status_code == 200 and check(answer.json()) and answer.json()

        try:
            found: dict[str, Any] = chosen.wait_for(look, seconds)
        except AssertionError as error:
            logs = "\n".join(f"--- {each.data.name}\n{each.log()}" for each in self.workers)
            raise AssertionError(f"{error}\nlast answer: {last}\n{logs}") from None
        return found

    def text(self, number: int, daemon: Process | None = None) -> str:
        """The whole log of a job."""
        with self.client(daemon) as client:
            answer = client.get(f"/reconciler/jobs/{number}/log")
            assert answer.status_code == 200, answer.text
            return answer.text

    def trigger(self, key: str, daemon: Process | None = None) -> int:
        """Start a Build by hand; the number of its job."""
        with self.client(daemon) as client:
            answer = client.post("/reconciler/trigger", json={"key": key})
            assert answer.status_code in (200, 201, 202), answer.text
            return int(answer.json()["number"])

    def close(self) -> None:
        """End all of it."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.thaw()
            if worker.popen.poll() is None:
                worker.popen.kill()
                worker.popen.wait()
            end_scripts(worker.data)
        for daemon in self.daemons:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(daemon.popen.pid).resume()
            stop(daemon)


def _dead(worker: WorkerOf) -> bool:
    if worker.popen.poll() is not None:
        raise AssertionError(f"the worker ended with {worker.popen.returncode}: {worker.log()}")
    return False


def build(name: str, *script: str, **task: Any) -> str:
    """A Build with one task, which runs by hand only: these lines as its script, and what else the task says."""
    spec = {"tasks": [{"name": "main", "run": "\n".join(script)} | task], "concurrency": "allow"}
    body = {"apiVersion": "steersman/v1", "kind": "Build", "metadata": {"name": name, "project": "shop"}}
    return f"---\n{json.dumps(body | {'spec': spec})}\n"


@contextmanager
def fleet(folder: Path, specs: str, url: str | None = None, *, fresh: bool = False) -> Iterator[Fleet]:
    """A repository with these specs and a new database; nobody runs yet. `url`: of another database."""
    folder.mkdir(parents=True, exist_ok=True)
    repo = SpecRepository(folder / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": specs})
    made = Fleet(folder, url or databases.new_postgresql(), repo, fresh)
    try:
        yield made
    finally:
        made.close()


def slept(seconds: float) -> None:
    """Time that has to pass."""
    time.sleep(seconds)
