"""Rows about what one unit of work costs, from which api/docs/capacity.md counts up what an installation needs.

One daemon that runs nothing and one worker share a PostgreSQL; processor time is that of whole trees of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from reconciler.store import migrate
from tests import databases
from tests.bench import specs
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.fleet.fleet import TOKEN, Fleet, build, fleet
from tests.support import eventually_now, stop

_JOBS = 500
_LOGS = 5
_LINES = 250_000
_LINE = "step %.0f of the build: src/module.c becomes build/module.o, and is linked"
_RESOURCES = 4_000
_REST = 15.0  # seconds
_NOBODY = "nothing"


@dataclass(frozen=True)
class Spent:
    """Seconds of processor time so far: of the daemon, of the worker itself, of its scripts, of PostgreSQL."""

    daemon: float
    worker: float
    scripts: float
    postgresql: float

    def since(self, before: Spent) -> Spent:
        """What was spent from then on."""
        return Spent(
            self.daemon - before.daemon,
            self.worker - before.worker,
            self.scripts - before.scripts,
            self.postgresql - before.postgresql,
        )


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _seconds(processes: Iterable[psutil.Process]) -> float:
    """With what their children spent that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def _spent(crew: Fleet, server: databases.Server) -> Spent:
    (worker,) = crew.workers
    whole = _seconds(_tree(worker.popen.pid))
    own = sum(psutil.Process(worker.popen.pid).cpu_times()[:2])
    return Spent(
        _seconds(_tree(crew.daemons[0].popen.pid)), own, whole - own, _seconds(_tree(server.postmaster))
    )


def _memory(pid: int) -> float:
    """MiB, once it has come to rest."""
    time.sleep(3)
    return sum(process.memory_info().rss for process in _tree(pid)) / 2**20


def _connections(crew: Fleet) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return int(crew.ask(query)[0][0])


def _size(crew: Fleet) -> int:
    """Bytes of the database without what is free in it."""
    return int(crew.ask("SELECT pg_database_size(current_database())")[0][0])


def _rows(crew: Fleet) -> int:
    tables = [name for (name,) in crew.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return sum(int(crew.ask(f"SELECT count(*) FROM {name}")[0][0]) for name in tables)


def _run(crew: Fleet, key: str, count: int) -> None:
    with crew.client() as client:
        for _ in range(count):
            client.post("/reconciler/trigger", json={"key": key}).raise_for_status()
    eventually_now(lambda: not crew.ask("SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1"), seconds=600)
    assert not crew.ask("SELECT 1 FROM jobs WHERE state <> 'passed' LIMIT 1")


def measure_capacity(folder: Path) -> list[Row]:
    """Per job, per megabyte of log, at rest, per connection and per resource."""
    folder.mkdir(parents=True, exist_ok=True)
    server = databases.Server(folder / "postgres")
    try:
        url = server.new()
        migrate.prepare(databases.internal(url), may_migrate=True)
        log = build("log", f"seq -f '{_LINE}' {_LINES}")
        with fleet(folder, build("work", "true") + log, url, fresh=True) as crew:
            daemon = crew.daemon()
            small = _memory(daemon.popen.pid)
            crew.worker()
            return [
                *_at_rest(crew, server, small),
                *_per_job(crew, server),
                *_per_megabyte(crew, server),
                *_held(crew, server),
                *_per_resource(crew, small),
            ]
    finally:
        server.close()


def _at_rest(crew: Fleet, server: databases.Server, small: float) -> list[Row]:
    worker = _memory(crew.workers[0].popen.pid)
    before = _spent(crew, server)
    time.sleep(_REST)
    spent = _spent(crew, server).since(before)
    shares = {"daemon": spent.daemon, "worker": spent.worker, "PostgreSQL": spent.postgresql}
    return [
        Row("memory, daemon on PostgreSQL, idle", small, 250, "MiB", _NOBODY, 0),
        Row("memory, worker, idle", worker, 250, "MiB", _NOBODY, 0),
        *(Row(f"CPU, {of}, idle", used / _REST * 100, 5, "%", _NOBODY, 0) for of, used in shares.items()),
    ]


def _per_job(crew: Fleet, server: databases.Server) -> list[Row]:
    _run(crew, "Build/shop/_/work", 20)  # what is only done once
    before, size, rows = _spent(crew, server), _size(crew), _rows(crew)
    _run(crew, "Build/shop/_/work", _JOBS)
    spent = _spent(crew, server).since(before)
    size, rows = _size(crew) - size, _rows(crew) - rows
    return [
        Row("CPU per no-op job, daemon that leads", spent.daemon / _JOBS * 1e3, 100, "ms", _NOBODY, 0),
        Row("CPU per no-op job, worker", spent.worker / _JOBS * 1e3, 100, "ms", _NOBODY, 0),
        Row("CPU per no-op job, its sandbox", spent.scripts / _JOBS * 1e3, 100, "ms", _NOBODY, 0),
        Row("CPU per no-op job, PostgreSQL", spent.postgresql / _JOBS * 1e3, 100, "ms", _NOBODY, 0),
        Row("PostgreSQL's disk per no-op job", size / _JOBS / 1024, 50, "KiB", _NOBODY, 0),
        Row("rows per no-op job", rows / _JOBS, 30, "", _NOBODY, 0),
    ]


def _per_megabyte(crew: Fleet, server: databases.Server) -> list[Row]:
    _run(crew, "Build/shop/_/log", 1)
    before, size = _spent(crew, server), _size(crew)
    _run(crew, "Build/shop/_/log", _LOGS)
    spent = _spent(crew, server).since(before)
    number = int(crew.ask("SELECT max(number) FROM jobs")[0][0])
    megabytes = len(crew.text(number).encode()) / 1e6 * _LOGS
    of = {"daemon that leads": spent.daemon, "worker": spent.worker, "PostgreSQL": spent.postgresql}
    return [
        *(
            Row(f"CPU per MB of log, {name}", used / megabytes * 1e3, 100, "ms", _NOBODY, 0)
            for name, used in of.items()
        ),
        Row(
            "PostgreSQL's disk per MB of log",
            (_size(crew) - size) / megabytes / 1024,
            2048,
            "KiB",
            _NOBODY,
            0,
        ),
    ]


def _held(crew: Fleet, server: databases.Server) -> list[Row]:
    """After the work, when all that are made on demand are there."""
    both = _connections(crew)
    pids = [int(pid) for (pid,) in crew.ask("SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL")]
    each = [process.memory_full_info().uss for process in _tree(server.postmaster) if process.pid in pids]
    worker = crew.workers.pop()
    worker.popen.terminate()
    worker.popen.wait(30)
    eventually_now(lambda: _connections(crew) < both)
    time.sleep(1)
    one = _connections(crew)
    return [
        Row("connections, daemon that leads", one, 12, "", _NOBODY, 0),
        Row("connections, worker", both - one, 11, "", _NOBODY, 0),
        Row("PostgreSQL's own memory a connection", sum(each) / len(each) / 2**20, 20, "MiB", _NOBODY, 0),
    ]


def _per_resource(crew: Fleet, small: float) -> list[Row]:
    """A daemon that was started with so many, against one that had none."""
    crew.repo.commit(specs.files(_RESOURCES))
    total = len(specs.files(_RESOURCES))
    with crew.client() as client:
        eventually_now(
            lambda: client.get("/reconciler/status").json()["resources"]["total"] > total, seconds=300
        )
    stop(crew.daemons.pop())
    again = start(
        crew.repo.path,
        crew.folder / "again",
        STEERSMAN_DATABASE=crew.database,
        STEERSMAN_ADMIN_TOKEN=TOKEN,
        STEERSMAN_KEY_FILE=str(crew.folder / "server.key"),
        STEERSMAN_EXECUTORS="[]",
    )
    crew.daemons.append(again)
    again.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] > total, 120)
    grown = (_memory(again.popen.pid) - small) / _RESOURCES * 1000
    return [Row("memory per 1,000 resources", grown, 60, "MiB", _NOBODY, 0)]


MEASURES: dict[str, Callable[[Path], list[Row]]] = {"capacity": measure_capacity}
