"""Rows about the dashboard: each page among 10,000 resources and 10,000 jobs, asked for one after the other."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from reconciler.model.job import Checkout
from reconciler.store import jobs
from reconciler.store.database import Write, connect
from reconciler.store.jobs import NewJob
from specs.manifest import parse
from specs.manifest_work import JobFacts, work
from tests.bench.dialects import MANIFEST, bare_rate
from tests.bench.fresh import start
from tests.bench.row import Row
from tests.support import SpecRepository, stop

_PROJECTS = 20
_NAMES = 125
_ENVIRONMENTS = ("test", "staging", "production")
_JOBS = 10_000
_TURNS = 15
_HEADER = "apiVersion: steersman/v1\nkind: "
_LIMIT = 200.0
_HEAVIEST = 200.0
PAGES = (
    "/",
    "/ui/projects",
    "/ui/projects/p07",
    "/ui/resources",
    "/ui/resources?kind=Deployment&health=Missing",
    "/ui/resources/Deployment/p07/staging/app-050",
    "/ui/resources/Build/p07/_/app-050",
    "/ui/search?q=app-05",
    "/ui/jobs",
    "/ui/jobs?state=pending",
    "/ui/jobs/5000",
    "/ui/pipelines",
    "/ui/releases",
    "/ui/approvals",
    "/ui/calendar",
    "/ui/changes",
    "/ui/executors",
    "/ui/events",
    "/ui/tokens",
    "/ui/docs/reference-build",
)


def files() -> dict[str, str]:
    """10,063 resources: 20 projects of 125 builds, with a schedule each, and 375 deployments that are suspended."""
    found = {}
    for number in range(_PROJECTS):
        project = f"p{number:02}"
        lines = [f"{_HEADER}Project\nmetadata: {{name: {project}}}\nspec: {{}}\n"]
        lines += [
            f"{_HEADER}Environment\nmetadata: {{name: {name}, project: {project}}}\nspec: {{}}\n"
            for name in _ENVIRONMENTS
        ]
        for each in range(_NAMES):
            lines.append(
                f"{_HEADER}Build\nmetadata: {{name: app-{each:03}, project: {project}}}\nspec:\n"
                f"  triggers: [{{type: schedule, cron: '{each % 60} {each % 24} 1 1 *'}}]\n"
                "  tasks: [{name: main, run: 'true'}]\n"
            )
            lines += [
                f"{_HEADER}Deployment\nmetadata: {{name: app-{each:03}, project: {project}, environment: {name}}}\n"
                f"spec: {{release: shop/app-{each:03}, version: '1.{each}', suspend: true}}\n"
                for name in _ENVIRONMENTS
            ]
        found[f"{project}.yaml"] = "---\n".join(lines)
    return found


async def _fill(data: Path) -> None:
    """Jobs that wait for somebody to start them."""
    specification = work(parse(MANIFEST.format(script="true")), job=JobFacts("jo"))

    def some(write: Write, first: int) -> None:
        for number in range(first, first + 500):
            new = NewJob(
                key=f"Build/p{number % _PROJECTS:02}/_/app-{number % _NAMES:03}",
                specification=specification | {"concurrency": "allow", "note": None, "tags": []},
                work_digest="0",
                checkout=Checkout(),
                trigger={"type": "manual"},
                inputs={},
                actor="User/admin",
                held=True,
            )
            jobs.create(write.connection, new, write.now, write.version)

    database = connect(f"sqlite:///{data}/steersman.db")
    try:
        await database.load_version()
        for first in range(0, _JOBS, 500):
            await database.write(lambda write, first=first: some(write, first))
    finally:
        await database.close()


def _settle(process: psutil.Process) -> None:
    """Until what a start brings with it is done: it works for less than a tenth of two seconds on end."""
    for _ in range(60):
        if process.cpu_percent(2) < 10:
            return
    raise TimeoutError("the daemon does not come to rest")


def measure_dashboard(folder: Path) -> list[Row]:
    """The time of each page, the slowest of which counts, and the weight of the heaviest."""
    repository = SpecRepository(folder / "specs")
    commit = repository.commit(files())
    daemon = start(repository.path, folder / "data")
    daemon.wait_for(
        lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == commit, 120
    )
    stop(daemon)
    asyncio.run(_fill(folder / "data"))
    daemon = start(repository.path, folder / "data")
    try:
        daemon.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == commit, 120
        )
        _settle(psutil.Process(daemon.popen.pid))
        seconds, weights, content = {}, {}, b""
        with httpx.Client(
            base_url=daemon.url, cookies={"X-Escape-Token": daemon.token}, headers={"Accept": "text/html"}
        ) as client:
            for path in (*PAGES, f"/ui/changes/{commit}"):
                times = []
                for _ in range(_TURNS):
                    begin = time.perf_counter()
                    answer = client.get(path)
                    times.append(time.perf_counter() - begin)
                    assert answer.status_code == 200, (path, answer.text)
                seconds[path] = statistics.median(times)
                weights[path] = len(answer.content) / 1000
                content = answer.content if path == "/" else content
    finally:
        stop(daemon)
    bare = 1e3 / bare_rate(content)
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:3]
    heaviest = max(weights, key=weights.__getitem__)
    rows = [
        Row(
            f"dashboard among 10,000 and 10,000: {path}",
            seconds[path] * 1e3,
            _LIMIT,
            "ms",
            "bare handler",
            bare,
        )
        for path in slowest
    ]
    size = Row(f"its heaviest page: {heaviest}", weights[heaviest], _HEAVIEST, "kB", "a bare page", 1)
    return [*rows, size]


MEASURES: dict[str, Callable[[Path], list[Row]]] = {"dashboard": measure_dashboard}
