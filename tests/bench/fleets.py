"""Rows about daemons and workers on one PostgreSQL: throughput by workers, a long queue, a take-over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from procrastinate import App, PsycopgConnector

from reconciler.store import migrate
from reconciler.store.engine import conninfo
from tests import databases
from tests.bench.row import Row
from tests.fleet.fleet import Fleet, build, fleet
from tests.support import Process

_JOBS = 400
_QUEUED = 5_000
_SLOTS = 4
_NAP = 0.25
_PROCRASTINATE_JOBS = 2_000
_TAKE_OVERS = 3


def _executor(traits: Sequence[str]) -> str:
    spec = {"max_load": _SLOTS, "traits": list(traits)}
    body = {"apiVersion": "steersman/v1", "kind": "Executor", "metadata": {"name": "local"}, "spec": spec}
    return f"---\n{json.dumps(body)}\n"


@contextmanager
def _fleet(folder: Path, script: str, workers: int) -> Iterator[Fleet]:
    """A daemon that runs nothing, so many workers, and an executor that lacks what the Build asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    server = databases.Server(folder / "postgres")
    try:
        url = server.new()
        migrate.prepare(databases.internal(url), may_migrate=True)
        with fleet(folder, build("work", script, traits=["go"]) + _executor([]), url, fresh=True) as crew:
            crew.daemon()
            for number in range(workers):
                crew.worker(f"worker{number}")
            yield crew
    finally:
        server.close()


def _waiting(crew: Fleet, count: int) -> None:
    """So many jobs, none of which can start."""
    with crew.client() as client:
        for _ in range(count):
            client.post("/reconciler/trigger", json={"key": "Build/shop/_/work"}).raise_for_status()


def _let_go(crew: Fleet, count: int) -> list[Any]:
    """All of them can; (start, end) of each in seconds, once all have passed."""
    crew.repo.commit(
        {"work.yaml": (crew.repo.path / "work.yaml").read_text().replace('"traits": []', '"traits": ["go"]')}
    )
    deadline = time.monotonic() + 900
    while crew.ask("SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1"):
        assert time.monotonic() < deadline, "the jobs did not end"
        time.sleep(0.5)
    assert crew.ask("SELECT count(*) FROM jobs WHERE state = 'passed'") == [(count,)]
    query = "SELECT started_at / 1e6, finished_at / 1e6 FROM jobs"
    return [(float(start), float(end)) for start, end in crew.ask(query)]


def measure_workers(folder: Path) -> list[Row]:
    """No-op jobs a second with 1, 2 and 4 workers of four places each, beside Procrastinate's own, which run nothing.

    Every process shares this machine: more workers show what they cost, not what more machines bring.
    """
    rows = []
    bare = None
    for workers in (1, 2, 4):
        place = folder / str(workers)
        with _fleet(place, "true", workers) as crew:
            _waiting(crew, _JOBS)
            times = _let_go(crew, _JOBS)
            if bare is None:
                bare = asyncio.run(_procrastinate(crew.database))
        rate = _JOBS / (max(end for _, end in times) - min(start for start, _ in times))
        shown = f"no-op jobs, sandboxed, {workers} worker{'s' if workers > 1 else ''}"
        rows.append(Row(shown, rate, bare / 30, "/s", "Procrastinate alone, no script", bare, at_least=True))
    return rows


async def _procrastinate(url: str) -> float:
    """Empty jobs of Procrastinate a second, on the same database, one deferred at a time and sixteen at once."""
    app = App(connector=PsycopgConnector(conninfo=conninfo(databases.internal(url)), max_size=8))

    @app.task(name="nothing", queue="bench")
    async def nothing() -> None:
        pass

    async with app.open_async():
        begun = time.perf_counter()
        for _ in range(_PROCRASTINATE_JOBS):
            await nothing.defer_async()
        await app.run_worker_async(
            queues=["bench"], concurrency=16, wait=False, delete_jobs="always", install_signal_handlers=False
        )
    return _PROCRASTINATE_JOBS / (time.perf_counter() - begun)


def measure_worker_queue(folder: Path) -> list[Row]:
    """5,000 jobs wait for the sixteen places of four workers."""
    with _fleet(folder / "queue", f"sleep {_NAP}", 4) as crew:
        _waiting(crew, _QUEUED)
        times = _let_go(crew, _QUEUED)
    begun = min(start for start, _ in times)
    waits = sorted(start - begun for start, _ in times)
    p99 = waits[int(len(waits) * 0.99)]
    ideal = _QUEUED * 0.99 * _NAP / (4 * _SLOTS)
    limit = ideal * 3
    return [Row("p99 wait of 5,000 queued at once, 4 workers", p99, limit, "s", "never an idle place", ideal)]


def measure_take_over(folder: Path) -> list[Row]:
    """From the blow to a daemon that leads, for who asks the other one ten times a second; the worst of three."""
    rows = []
    for name, blow, limit in (("KILL", signal.SIGKILL, 10.0), ("STOP", signal.SIGSTOP, 10.0)):
        place = folder / name
        with _fleet(place, "true", 0) as crew:
            crew.daemon("second")
            worst = max(_take_over(crew, blow, turn) for turn in range(_TAKE_OVERS))
        rows.append(
            Row(f"take-over after {name} of the leader", worst, limit, "s", "limit of the lease", 8.0)
        )
    return rows


def _take_over(crew: Fleet, blow: signal.Signals, turn: int) -> float:
    deadline = time.monotonic() + 60
    while (leader := next(filter(_leads, crew.daemons), None)) is None:
        assert time.monotonic() < deadline, "nobody leads"
        time.sleep(0.1)
    other = next(each for each in crew.daemons if each is not leader)
    begun = time.perf_counter()
    os.kill(leader.popen.pid, blow)
    while not _leads(other):
        assert time.perf_counter() - begun < 60, "nobody took over"
        time.sleep(0.1)
    took = time.perf_counter() - begun
    if blow is signal.SIGSTOP:
        os.kill(leader.popen.pid, signal.SIGCONT)
        while _leads(leader):
            time.sleep(0.1)
    else:
        leader.popen.wait()
        crew.daemons.remove(leader)
        crew.daemon(f"again{turn}")
    return took


def _leads(daemon: Process) -> bool:
    with suppress(httpx.HTTPError):
        return bool(httpx.get(f"{daemon.url}/health", timeout=1, trust_env=False).json().get("leads"))
    return False


MEASURES: dict[str, Callable[[Path], list[Row]]] = {
    "workers": measure_workers,
    "worker-queue": measure_worker_queue,
    "take-over": measure_take_over,
}
