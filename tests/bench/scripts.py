"""Rows about running scripts: throughput, a long log, its tail and download, a restart, a long queue."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import connect_sse

from tests.bench import baselines
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import Process, SpecRepository, stop

_PROJECT = "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n"
_JOBS = 1_000
_BARE_A_JOB = 5  # the time of one job is at most that of so many bare sandboxes
_QUEUED = 5_000
_NAP = 0.25
_LINES = 200_000
_LONG = f"awk 'BEGIN {{ for (i = 0; i < {_LINES}; i++) printf(\"%099d\\n\", i) }}'"
_BURSTS = (
    'i=0; while [ $i -lt 20 ]; do i=$((i+1)); awk "BEGIN { for (i = 0; i < 10000; i++) printf(\\"%099d\\n\\", i) }"; '
    "echo T $(date +%s%N); sleep 0.05; done"
)


def _executor(slots: int, traits: str = "go") -> str:
    return (
        f"apiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: local}}\n"
        f"spec: {{max_load: {slots}, traits: [{traits}]}}\n"
    )


def _build(name: str, script: str, more: str = "") -> str:
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n  concurrency: allow\n{more}  tasks:\n"
        f"    - name: t\n      traits: [go]\n      run: |\n        {script}\n"
    )


@contextmanager
def _daemon(folder: Path, files: dict[str, str]) -> Iterator[tuple[Process, SpecRepository]]:
    repository = SpecRepository(folder / "specs")
    commit = repository.commit({"project.yaml": _PROJECT, **files})
    daemon = start(repository.path, folder / "data")
    try:
        daemon.wait_for(lambda c: _applied(c) == commit)
        yield daemon, repository
    finally:
        stop(daemon)


def _applied(client: httpx.Client) -> Any:
    return client.get("/reconciler/status").json()["source"]["last_applied_revision"]


def measure_throughput(folder: Path) -> list[Row]:
    """No-op jobs that wait already, in a sandbox each, with 2 and with 16 slots.

    100 a second are asked of a machine that starts 500 bare sandboxes a second; of a slower one its part. What it
    starts is measured before and after, as few machines are as fast all the time.
    """
    rows = []
    for slots in (2, 16):
        place = folder / str(slots)
        place.mkdir()
        before = baselines.sandboxes_a_second(slots)
        rate = _drain(place, slots)
        bare = (before + baselines.sandboxes_a_second(slots)) / 2
        limit = min(100, bare / _BARE_A_JOB)
        name = f"no-op jobs, sandboxed, {slots} slots"
        rows.append(Row(name, rate, limit, "/s", "bare sandboxes", bare, at_least=True))
    return rows


def _drain(folder: Path, slots: int) -> float:
    """Jobs a second, from the first that starts to the last that ends."""
    with _daemon(folder, {"e.yaml": _executor(slots, ""), "b.yaml": _build("b", "true")}) as (
        daemon,
        repository,
    ):
        with daemon.client() as client:
            for _ in range(_JOBS):
                client.post("/reconciler/trigger", json={"key": "Build/shop/_/b"}).raise_for_status()
        repository.commit({"e.yaml": _executor(slots)})
        jobs = _all_passed(daemon, _JOBS)
    begun = min(_moment(job["started_at"]) for job in jobs)
    ended = max(_moment(job["finished_at"]) for job in jobs)
    return len(jobs) / (ended - begun)


def _all_passed(daemon: Process, count: int, seconds: float = 600) -> list[dict[str, Any]]:
    """The jobs once so many have passed; asked seldom, as each question takes time from what is measured."""
    deadline = time.monotonic() + seconds
    with daemon.client() as client:
        while True:
            busy = client.get("/reconciler/status").json()["jobs"]
            if not busy["pending"] and not busy["executing"]:
                break
            assert time.monotonic() < deadline, "the jobs did not end"
            time.sleep(0.5)
        jobs: list[dict[str, Any]] = []
        after: dict[str, Any] = {}
        while len(jobs) < count:
            page = client.get("/reconciler/jobs", params={"limit": 500, **after}).json()
            jobs += page["items"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
    assert [job["state"] for job in jobs] == ["passed"] * count
    return jobs


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measure_queue(folder: Path) -> list[Row]:
    """5,000 jobs of one commit wait for 16 slots: how long the last of them wait, and how long they had to."""
    slots = 16
    builds = "---\n".join(
        _build(f"b{i}", f"sleep {_NAP}", "  triggers: [{type: change}]\n") for i in range(_QUEUED)
    )
    parts = [builds.split("---\n")[i : i + 100] for i in range(0, _QUEUED, 100)]
    files = {f"b{i}.yaml": "---\n".join(part) for i, part in enumerate(parts)}
    with _daemon(folder, {"e.yaml": _executor(slots, ""), **files}) as (daemon, repository):
        daemon.wait_for(
            lambda c: c.get("/reconciler/status").json()["jobs"]["pending"] == _QUEUED, seconds=600
        )
        repository.commit({"e.yaml": _executor(slots)})
        jobs = _all_passed(daemon, _QUEUED)
    begun = min(_moment(job["started_at"]) for job in jobs)
    waits = sorted(_moment(job["started_at"]) - begun for job in jobs)
    p99 = waits[int(len(waits) * 0.99)]
    ideal = _QUEUED * 0.99 * _NAP / slots
    return [
        Row("p99 wait of 5,000 queued at once, 16 slots", p99, ideal * 1.5, "s", "never an idle slot", ideal)
    ]


def measure_log(folder: Path) -> list[Row]:
    """200,000 lines of 100 bytes: the script's time, the live tail, the download afterwards."""
    files = {
        "e.yaml": _executor(4),
        "long.yaml": _build("long", _LONG),
        "bursts.yaml": _build("bursts", _BURSTS),
    }
    with _daemon(folder, files) as (daemon, _), daemon.client() as client:
        times, bare = [], []
        for _turn in range(5):
            number = _trigger(client, "long")
            time.sleep(0.3)  # a question would take time from what is measured
            job = daemon.job(number, "passed")
            times.append(_moment(job["finished_at"]) - _moment(job["started_at"]))
            bare.append(baselines.redirected(_LONG, folder / "redirected"))
        behind = _tail(daemon, _trigger(client, "bursts"))
        size = _LINES * 100
        took = statistics.median(_download(client, number, size) for _turn in range(5))
    plain = baselines.served(folder / "redirected")
    value, reference = statistics.median(times), statistics.median(bare)
    redirect = "redirect to a file in a bare sandbox"
    return [
        Row("script writing 200,000 lines (20 MB)", value, reference * 1.3, "s", redirect, reference),
        Row("live tail of 200,000 lines, behind by (p99)", behind * 1e3, 250, "ms", "none", 0),
        Row("download of a log of 20 MB", took, 1, "s", "a bare file server", plain),
    ]


def _trigger(client: httpx.Client, name: str) -> int:
    answer = client.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"})
    number: int = answer.raise_for_status().json()["number"]
    return number


def _tail(daemon: Process, number: int) -> float:
    """p99 of the seconds between the printing of a line and its arrival in the live stream."""
    headers = {"Authorization": f"Bearer {daemon.token}"}
    late: list[float] = []
    rest = ""
    with (
        httpx.Client(base_url=daemon.url, headers=headers, timeout=60) as client,
        connect_sse(client, "GET", f"/reconciler/jobs/{number}/log/stream") as source,
    ):
        for message in source.iter_sse():
            if message.event == "end":
                break
            now = time.time_ns()
            lines = (rest + message.json()["text"]).split("\n")
            rest = lines.pop()
            late += [(now - int(line[2:])) / 1e9 for line in lines if line.startswith("T ")]
    assert len(late) == 20, len(late)
    return sorted(late)[int(len(late) * 0.99)]


def _download(client: httpx.Client, number: int, size: int) -> float:
    begin = time.perf_counter()
    answer = client.get(f"/reconciler/jobs/{number}/log", headers={"Accept-Encoding": "identity"})
    assert len(answer.content) == size
    return time.perf_counter() - begin


def measure_restart(folder: Path) -> list[Row]:
    """KILL with 100 scripts at work, then a new daemon: until it has all of them again."""
    tasks = "".join(
        f"    - {{name: t{i}, run: 'while [ ! -e /tmp/end ]; do echo tick; sleep 1; done'}}\n"
        for i in range(100)
    )
    build = (
        "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: b, project: shop}\n"
        f"spec:\n  triggers: [{{type: change}}]\n  tasks:\n{tasks}"
    )
    executor = "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\nspec: {max_load: 200}\n"
    repository = SpecRepository(folder / "specs")
    repository.commit({"a.yaml": f"{_PROJECT}---\n{executor}---\n{build}"})
    daemon = start(repository.path, folder / "data")
    try:
        daemon.wait_for(lambda c: _at_work(c) == 100, seconds=120)
        time.sleep(2)
        times = []
        for _turn in range(3):
            daemon.kill()
            begin = time.perf_counter()
            daemon = start(repository.path, folder / "data")
            daemon.wait_for(lambda c: _at_work(c) == 100, seconds=60)
            times.append(time.perf_counter() - begin)
        with daemon.client() as client:
            client.post("/reconciler/jobs/1/cancel").raise_for_status()
        daemon.job(1, "aborted", seconds=120)
    finally:
        stop(daemon)
    empty = SpecRepository(folder / "empty")
    empty.commit({"a.yaml": _PROJECT})
    begin = time.perf_counter()
    stop(start(empty.path, folder / "none"))
    nothing = time.perf_counter() - begin
    name = "KILL with 100 running scripts → all attached again"
    return [Row(name, statistics.median(times), 3, "s", "start and stop with none", nothing)]


def _at_work(client: httpx.Client) -> int:
    """Scripts that the daemon minds, by its own metrics."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("steersman_trials_running "):
            return int(float(line.split()[1]))
    raise AssertionError("no such metric")


MEASURES: dict[str, Callable[[Path], list[Row]]] = {
    "throughput": measure_throughput,
    "log": measure_log,
    "restart": measure_restart,
    "queue": measure_queue,
}
