"""Runs the rows and prints a table: row, figure, limit, baseline, ratio."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from httpx_sse import connect_sse
from rich.console import Console
from rich.table import Table

from tests.bench import (
    baselines,
    capacity,
    deployments,
    dialects,
    fleets,
    gate,
    pages,
    scripts,
    specs,
    states,
)
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import Process, stop

MANY = 10_000
REPEAT = 7


class Applied:
    """Hears of applied revisions through the live event stream, as a user's tool would."""

    def __init__(self, daemon: Process) -> None:
        self._moments: dict[str, float] = {}
        self._news = threading.Condition()
        self._daemon = daemon
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        headers = {"Authorization": f"Bearer {self._daemon.token}"}
        try:
            with (
                httpx.Client(base_url=self._daemon.url, headers=headers, timeout=None) as client,
                connect_sse(client, "GET", "/reconciler/events/stream") as source,
            ):
                for message in source.iter_sse():
                    revision = json.loads(message.data)["revision"]
                    with self._news:
                        self._moments[revision or ""] = time.perf_counter()
                        self._news.notify_all()
        except httpx.HTTPError:
            return  # the daemon was ended

    def wait(self, revision: str, seconds: float = 60) -> float:
        with self._news:
            if not self._news.wait_for(lambda: revision in self._moments, seconds):
                raise TimeoutError(f"{revision} was not applied in {seconds} s\n{self._daemon.log()}")
            return self._moments[revision]


@contextmanager
def running(repository: Path, data: Path) -> Iterator[Process]:
    daemon = start(repository, data)
    try:
        yield daemon
    finally:
        stop(daemon)


def wait_applied(daemon: Process, commit: str, seconds: float = 60) -> None:
    """Ask a few times a second only: each question takes the measured process from its work."""
    deadline = time.perf_counter() + seconds
    with daemon.client() as client:
        while client.get("/reconciler/status").json()["source"]["last_applied_revision"] != commit:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{commit} was not applied in {seconds} s\n{daemon.log()}")
            time.sleep(0.2)


def assert_settled(daemon: Process, total: int) -> None:
    with daemon.client() as client:
        assert client.get("/reconciler/plan").json()["actions"] == []
        counts = client.get("/reconciler/status").json()["resources"]
        assert counts["total"] == counts["synced"] == total, counts


def idle_memory(daemon: Process) -> float:
    """MiB of the daemon and the Git processes that it keeps."""
    time.sleep(2)
    process = psutil.Process(daemon.popen.pid)
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20


def measure_many(folder: Path) -> list[Row]:
    """Everything about a repository of 10,000 resources."""
    repository = specs.Repository(folder / "many.git")
    first = repository.prepare(specs.files(MANY))
    repository.publish(first)
    begin = time.perf_counter()
    with running(repository.path, folder / "many") as daemon:
        wait_applied(daemon, first)
        cold = time.perf_counter() - begin
        assert_settled(daemon, MANY)
        one, bare_one = _one_change(repository, daemon)
        thousand, bare_thousand = _thousand_changes(repository, daemon)
        assert_settled(daemon, MANY)
        memory = idle_memory(daemon)
    begin = time.perf_counter()
    with running(repository.path, folder / "many") as daemon:
        wait_applied(daemon, repository.head)
        with daemon.client() as client:
            client.get("/reconciler/resources?limit=50").raise_for_status()
        warm = time.perf_counter() - begin
        restarted = idle_memory(daemon)
    bare = baselines.list_and_parse(repository.path, repository.head)
    git = "bare git and C YAML parser"
    return [
        Row("one-resource commit → reconciled, among 10,000", one * 1e3, 150, "ms", git, bare_one * 1e3),
        Row("1,000 changed in one commit → reconciled", thousand, 3, "s", git, bare_thousand),
        Row("cold start, 10,000 resources, empty cache", cold, 15, "s", git, bare),
        Row("warm start, 10,000 resources", warm, 3, "s", git, bare),
        Row("memory, 10,000 resources, idle", memory, 350, "MiB", "bare imports", baselines.bare_memory()),
        Row(
            "memory, 10,000 resources, after a restart",
            restarted,
            350,
            "MiB",
            "bare imports",
            baselines.bare_memory(),
        ),
    ]


def _one_change(repository: specs.Repository, daemon: Process) -> tuple[float, float]:
    applied = Applied(daemon)
    times, bare = [], []
    for turn in range(REPEAT + 2):
        before = repository.head
        number = 300 + turn
        commit = repository.prepare({specs.path_of(number): specs.document(number, turn + 1)})
        time.sleep(0.2)
        begin = time.perf_counter()
        repository.publish(commit)
        times.append(applied.wait(commit) - begin)
        bare.append(baselines.diff_and_parse(repository.path, before, commit))
    return statistics.median(times[2:]), statistics.median(bare[2:])


def _thousand_changes(repository: specs.Repository, daemon: Process) -> tuple[float, float]:
    applied = Applied(daemon)
    times, bare = [], []
    for turn in range(3):
        before = repository.head
        numbers = range(1000, 2000)
        changes = {specs.path_of(n): specs.document(n, turn + 1) for n in numbers}
        commit = repository.prepare(changes)
        time.sleep(0.5)
        begin = time.perf_counter()
        repository.publish(commit)
        times.append(applied.wait(commit) - begin)
        bare.append(baselines.diff_and_parse(repository.path, before, commit))
    return statistics.median(times), statistics.median(bare)


def measure_thousand(folder: Path) -> list[Row]:
    """Memory with 1,000 resources."""
    repository = specs.Repository(folder / "thousand.git")
    commit = repository.prepare(specs.files(1000))
    repository.publish(commit)
    with running(repository.path, folder / "thousand") as daemon:
        wait_applied(daemon, commit)
    with running(repository.path, folder / "thousand") as daemon:
        wait_applied(daemon, commit)
        memory = idle_memory(daemon)
    return [Row("memory, 1,000 resources, idle", memory, 120, "MiB", "bare imports", baselines.bare_memory())]


def measure_schedules(folder: Path) -> list[Row]:
    """CPU while 1,000 schedules wait."""
    project = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
    files = {"p.yaml": project} | {
        f"b{i}.yaml": (
            f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: b{i}, project: shop}}\n"
            f"spec:\n  triggers: [{{type: schedule, cron: '{i % 60} 3 1 1 *', timezone: Europe/Amsterdam}}]\n"
            "  tasks: [{name: t, run: 'true'}]\n"
        )
        for i in range(1000)
    }
    repository = specs.Repository(folder / "schedules.git")
    commit = repository.prepare(files)
    repository.publish(commit)
    seconds = 20.0
    with running(repository.path, folder / "schedules") as daemon:
        wait_applied(daemon, commit)
        daemon.wait_for(lambda c: c.get("/reconciler/status").json()["schedules"]["total"] == 1000)
        time.sleep(3)
        process = psutil.Process(daemon.popen.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        share = (sum(process.cpu_times()[:2]) - before) / seconds * 100
    return [Row("CPU, 1,000 schedules, idle", share, 1, "%", "a sleeping process", 0)]


def measure_start(folder: Path) -> list[Row]:
    """From a spec commit with a `change` trigger to the first line of its script."""
    out = folder / "out"
    out.mkdir()
    executor = f"apiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: local}}\nspec: {{writable: ['{out}']}}\n"
    project = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
    repository = specs.Repository(folder / "start.git")
    first = repository.prepare({"a.yaml": f"{project}---\n{executor}"})
    repository.publish(first)
    times, bare = [], []
    with running(repository.path, folder / "start") as daemon:
        wait_applied(daemon, first)
        for turn in range(REPEAT + 2):
            marker = out / f"started-{turn}"
            build = (
                "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: b, project: shop}\n"
                f"spec:\n  triggers: [{{type: change}}]\n  tasks: [{{name: t, run: 'echo x > {marker}'}}]\n"
            )
            commit = repository.prepare({"b.yaml": build})
            time.sleep(0.5)
            begin = time.perf_counter()
            repository.publish(commit)
            times.append(_appears(marker) - begin)
            bare.append(baselines.start_script(out / f"bare-{turn}"))
    reference = statistics.median(bare[2:]) * 1e3
    value = statistics.median(times[2:]) * 1e3
    return [
        Row(
            "spec commit, `change` trigger → script started",
            value,
            100,
            "ms",
            "a hook and bare bubblewrap",
            reference,
        )
    ]


def _appears(path: Path, seconds: float = 30) -> float:
    deadline = time.perf_counter() + seconds
    while not path.exists():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{path} did not appear")
        time.sleep(0.0005)
    return time.perf_counter()


MEASURES: dict[str, Callable[[Path], list[Row]]] = {
    "start": measure_start,
    "many": measure_many,
    "thousand": measure_thousand,
    "schedules": measure_schedules,
    **scripts.MEASURES,
    **dialects.MEASURES,
    **states.MEASURES,
    **deployments.MEASURES,
    **gate.MEASURES,
    **pages.MEASURES,
    **fleets.MEASURES,
    **capacity.MEASURES,
}


def show(rows: list[Row]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("ROW", "FIGURE", "LIMIT", "BASELINE", "TIMES IT", ""):
        table.add_column(heading, justify="right" if heading in ("FIGURE", "LIMIT", "TIMES IT") else "left")
    for row in rows:
        times = f"{row.value / row.reference:.1f}" if row.reference else "-"
        verdict = "[red]missed[/red]" if row.missed else "[green]ok[/green]"
        baseline = f"{row.baseline}: {row.reference:.3g} {row.unit}"
        limit = f"{'≥ ' if row.at_least else ''}{row.limit:.3g} {row.unit}"
        table.add_row(row.name, f"{row.value:.3g} {row.unit}", limit, baseline, times, verdict)
    Console(width=160).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *MEASURES], help="which groups; all without any")
    wanted = parser.parse_args().rows or list(MEASURES)
    rows: list[Row] = []
    for name in wanted:
        folder = Path(tempfile.mkdtemp(prefix="steersman-bench-"))
        try:
            rows += MEASURES[name](folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    show(rows)
    return 1 if any(row.missed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
