"""What came of a run, as far as it is the same in each undisturbed one; and what a disturbed one did differently.

`collect` asks the daemon as a user would and looks into its tables, `left_behind` looks at the machine after it has
ended; both are called by `tests.crash.sweep`. Numbers, ids and times are not part of an outcome.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from reconciler.execution import groups
from reconciler.execution.supervisor import cookie
from tests import databases
from tests.crash.drive import Drive, Job
from tests.crash.scenario import World

Script = tuple[str, int, str, int, str]
"""Build, ordinal of the job, task, attempt, name of the script."""
_EVENTS = ("job-", "tree-issue", "release-", "deployed", "pipeline-")
_ROWS = {
    "commits": "SELECT repository, name(id), name(tree) FROM commits",
    "arcs": "SELECT repository, name(parent), name(child) FROM arcs",
    "branches": 'SELECT repository, name, folded, name("commit"), name(tree), name(judged) FROM branches',
    "seen_tags": 'SELECT key, tag, name("commit") FROM seen_tags',
    "jobs": "SELECT origin, key, name, name(tree), name(\"commit\") FROM jobs WHERE name(tree) != ''",
    "results": """
        SELECT key, name(tree), tasks.name, trials.number, trials.result
        FROM trials JOIN tasks ON tasks.id = trials.task JOIN jobs ON jobs.number = tasks.job
        WHERE name(tree) != ''""",
    "attachments": """
        SELECT path, digest, size, content_type, owner_kind, tasks.name, trials.number, key, name(tree),
            CASE owner_kind WHEN 'tree' THEN name(substr(owner, instr(owner, '/') + 1)) ELSE '' END
        FROM attachments LEFT JOIN trials ON owner_kind = 'trial' AND trials.id = owner
            LEFT JOIN tasks ON tasks.id = trials.task LEFT JOIN jobs ON jobs.number = tasks.job""",
    "releases": "SELECT namespace, application, version, digest, size, overwritten FROM releases",
    "tags": "SELECT namespace, application, tag, version FROM release_tags",
    "reservations": "SELECT version FROM reservations",
    "deployments": """
        SELECT project, environment, name, release, tried, provides, json_extract(summary, '$.stages.build.version'),
            json_extract(summary, '$.stages.build.status.status'), json_extract(summary, '$.stages.deploy.version'),
            json_extract(summary, '$.stages.deploy.status.status'), json_extract(deployed, '$.version')
        FROM deployments""",
    "runs": "SELECT key, number, state, reason FROM pipeline_runs",
}
"""What the tables hold, by queries in which `name` is what a commit or tree of the repository is called in each run."""
_KEPT = frozenset({"log", "log.zst", "index", "start", "exit", "end", "services", "scripts"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """Jobs by (build, ordinal), logs by script; start lines, events and rows of tables as often as they are there."""

    jobs: Mapping[tuple[str, int], Any]
    logs: Mapping[Script, bytes]
    starts: Mapping[tuple[str, int, str, str], int]
    trials: Mapping[str, int]
    events: Mapping[tuple[str, str], int]
    resources: Mapping[str, Any]
    plan: Any
    rows: Mapping[tuple[str, ...], int]


@dataclass(slots=True)
class Faults:
    """Sentences by kind, and bytes of logs that are missing or different."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    missing_bytes: int = 0
    logs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for name in ("lost", "doubled", "logs", "left", "other"):
            yield from (f"{name}: {sentence}" for sentence in getattr(self, name))

    def __bool__(self) -> bool:
        return any(True for _ in self)


def collect(drive: Drive) -> Outcome:
    """All that there is to compare."""
    jobs = drive.jobs()
    details = {job.number: drive.get(f"/reconciler/jobs/{job.number}").json() for job in jobs}
    places = {str(job.number): job for job in jobs}
    events = drive.get("/reconciler/events", limit=1000).json()["items"]
    resources = drive.get("/reconciler/resources").json()["items"]
    plan = drive.get("/reconciler/plan").json()
    return Outcome(
        jobs={(job.build, job.ordinal): _shape(drive, job, details[job.number]) for job in jobs},
        logs={place: text for job in jobs for place, text in _logs(drive, job, details[job.number])},
        starts=Counter(_place(places, line) for line in drive.world.starts()),
        trials=Counter(line[-1] for line in drive.world.starts()),
        events=Counter(
            (event["kind"], event["key"]) for event in events if event["kind"].startswith(_EVENTS)
        ),
        resources={item["key"]: [item[n] for n in ("sync", "health", "generation")] for item in resources},
        plan={name: plan[name] for name in ("actions", "held", "errors")}
        | {"audit": drive.get("/reconciler/audit").json()},
        rows=Counter(_rows(drive.world)),
    )


def compare(expected: Outcome, actual: Outcome) -> Faults:
    """What is lost, doubled, missing or otherwise not as it should be."""
    faults = Faults()
    for place, shape in expected.jobs.items():
        if place not in actual.jobs:
            faults.lost.append(f"job {place} was not made")
        elif actual.jobs[place] != shape:
            faults.lost.append(f"job {place} is {actual.jobs[place]}, not {shape}")
    faults.doubled += [f"job {place} is one too many" for place in actual.jobs.keys() - expected.jobs.keys()]
    _count(faults, "start line", expected.starts, actual.starts)
    _count(faults, "event", expected.events, actual.events)
    _count(faults, "row", expected.rows, actual.rows)
    faults.doubled += [f"trial {trial} started {n} times" for trial, n in actual.trials.items() if n != 1]
    for script, text in expected.logs.items():
        got = actual.logs.get(script, b"")
        if got != text:
            common = _common(text, got)
            faults.missing_bytes += max(len(text), len(got)) - common
            faults.logs.append(
                f"{script}: equal up to {common}, then {got[common:][:60]!r} for {text[common:][:60]!r}"
            )
    if actual.resources != expected.resources:
        faults.other.append(f"resources are {actual.resources}, not {expected.resources}")
    if _stable(actual.plan) != _stable(expected.plan):
        faults.other.append(f"the plan is {actual.plan}, not {expected.plan}")
    return faults


def left_behind(world: World) -> list[str]:
    """What should not be there once all has ended and the daemon is gone: files, processes, control groups."""
    folders = (path for pattern in ("*/*", "*/*/scripts/*") for path in (world.data / "runs").glob(pattern))
    runs = [path for path in folders if path.is_dir()]
    cookies = {cookie(run): str(run.relative_to(world.data)) for run in runs}
    return [*_files(world.data, runs), *_processes(world, cookies), *_groups(cookies), *_database(world.data)]


def clear(world: World) -> None:
    """Remove what a faulty run left outside of its folder."""
    for pattern in ("*/*", "*/*/scripts/*"):
        for run in (world.data / "runs").glob(pattern):
            groups.finish(cookie(run))


def _shape(drive: Drive, job: Job, detail: Mapping[str, Any]) -> dict[str, Any]:
    kept = drive.get(f"/reconciler/jobs/{job.number}/attachments").json()["items"]
    return {
        "state": [detail["state"], detail["reason"]],
        "trigger": detail["trigger"]["type"],
        "commit": drive.world.pushed.name(detail["commit"]),
        "inputs": detail["inputs"],
        "tasks": [_task(task) for task in detail["tasks"]],
        "attachments": sorted([i["task"], i["trial"], i["path"], i["size"], i["digest"]] for i in kept),
    }


def _task(task: Mapping[str, Any]) -> list[Any]:
    trials = [
        [t["number"], t["state"], t["reason"], t["error"], t["executor"]]
        + [[s["name"], s["state"], s["exit_status"]] for s in t["scripts"]]
        for t in task["trials"]
    ]
    return [task["name"], task["state"], task["reason"], trials]


def _logs(drive: Drive, job: Job, detail: Mapping[str, Any]) -> Iterator[tuple[Script, bytes]]:
    for task in detail["tasks"]:
        for trial in task["trials"]:
            for script in trial["scripts"]:
                query = {"task": task["name"], "trial": trial["number"], "script": script["name"]}
                answer = drive.get(f"/reconciler/jobs/{job.number}/log", **query)
                text = answer.content if answer.status_code == 200 else answer.text.encode()
                yield (job.build, job.ordinal, task["name"], trial["number"], script["name"]), text


def _rows(world: World) -> Iterator[tuple[str, ...]]:
    with databases.as_sqlite(world.data) as file, closing(sqlite3.connect(file)) as connection:
        connection.create_function("name", 1, world.pushed.name)
        for table, query in _ROWS.items():
            yield from ((table, *map(str, row)) for row in connection.execute(query))


def _place(jobs: Mapping[str, Job], line: list[str]) -> tuple[str, int, str, str]:
    build, number, task, attempt, _ = line
    job = jobs.get(number)
    return build, job.ordinal if job is not None else 0, task, attempt


def _common(one: bytes, other: bytes) -> int:
    """How many bytes two texts have in common from their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _count(faults: Faults, what: str, expected: Mapping[Any, int], actual: Mapping[Any, int]) -> None:
    for place in sorted(expected.keys() | actual.keys()):
        wanted, found = expected.get(place, 0), actual.get(place, 0)
        if found < wanted:
            faults.lost.append(f"{what} {place}: {found} of {wanted}")
        elif found > wanted:
            faults.doubled.append(f"{what} {place}: {found} for {wanted}")


def _stable(plan: Mapping[str, Any]) -> Any:
    audit = {name: value for name, value in plan["audit"].items() if isinstance(value, bool | None)}
    return {**plan, "audit": audit}


# -- what is left


def _files(data: Path, runs: list[Path]) -> Iterator[str]:
    yield from (f"workspace {path.name}" for path in (data / "workspaces").iterdir())
    for run in runs:
        yield from (f"{path.relative_to(data)}" for path in run.iterdir() if path.name not in _KEPT)
        for path in run.glob("services/*/*"):
            if path.name not in _KEPT:
                yield f"{path.relative_to(data)}"
        if (run / "log").exists() and (run / "log.zst").exists():
            yield f"{run.relative_to(data)} has its log twice"
    for path in data.rglob("*"):
        half = path.suffix in (".tmp", ".new") or re.match(r"tmp.|fresh", path.name) is not None
        if half or (path.suffix == ".lock" and path.parent != data):
            yield f"half made: {path.relative_to(data)}"


def _processes(world: World, cookies: Mapping[str, str]) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            words, run = process.cmdline(), process.environ().get("STEERSMAN_RUN")
        except (psutil.Error, OSError):
            continue
        if run in cookies or any(str(world.folder) in word for word in words):
            yield f"process {process.pid} {words}"


def _groups(cookies: Mapping[str, str]) -> Iterator[str]:
    names = {f"steersman-{name}": run for name, run in cookies.items()}
    for folder, below, _ in os.walk("/sys/fs/cgroup"):
        for name in below:
            if name in names:
                inside = Path(folder, name, "cgroup.procs").read_text(encoding="ascii").split()
                yield f"control group {folder}/{name} of {names[name]}, with the processes {inside}"


def _database(data: Path) -> Iterator[str]:
    with databases.as_sqlite(data) as file, closing(sqlite3.connect(file)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            yield f"the database is damaged: {verdict}"
