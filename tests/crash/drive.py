"""Plays the scenario against a daemon that dies, and starts it again: what a team and its supervisor do.

`play` is called by `tests.crash.sweep`, once a run. A commit is made once. A call whose answer was lost is repeated
only where the store shows that it had no effect. It judges nothing: what came of it is read by `tests.crash.outcome`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

import httpx

from tests.crash import launcher, points, pushed, released
from tests.crash.launcher import Order
from tests.crash.points import Kill, Point
from tests.crash.scenario import TOKEN, WEBHOOK_SECRET, World
from tests.support import end_scripts

PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.06
_STARTS = 8
FINAL = frozenset({"passed", "failed", "defective", "aborted", "skipped"})
JOBS = {
    "wide": 1, "code": 1, "failing": 2, "loud": 1, "endless": 2, "after": 1, "served": 1, "many": 2, "greet": 1,
    "build": 1,
} | pushed.ALL_JOBS | released.JOBS  # fmt: skip
"""Jobs that there are in the end, by Build."""


class Stuck(Exception):
    """The daemon did not come to what the scenario waits for; the message says what that was."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its place among those of its Build, which is the same in each run, as its number is not."""

    build: str
    ordinal: int
    number: int
    state: str
    summary: dict[str, Any]

    @property
    def ended(self) -> bool:
        return self.state in FINAL


class Drive:
    """One daemon after the other on the data of one world; the nth start is killed as the nth of `kills` says."""

    def __init__(self, world: World, kills: Sequence[Kill]) -> None:
        self.world = world
        self.kills = tuple(kills)
        self.happened: list[Kill] = []
        self.ends: list[str] = []
        self._started = 0
        self._process: ForkServerProcess | None = None
        self._client = httpx.Client()
        self._until = time.monotonic() + PATIENCE_SECONDS

    # -- the daemon

    @property
    def pid(self) -> int:
        """The process of the newest daemon."""
        return (self._process.pid or 0) if self._process is not None else 0

    def points(self, start: int = 1) -> list[Point]:
        """What the nth daemon came to so far."""
        return points.read(self.world.folder / f"points-{start}")

    def errors(self) -> str:
        """What all of them said."""
        path = self.world.folder / "errors"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Until one is up."""
        while not self._up(self._launch()):
            if self._started >= len(self.kills) + _STARTS:
                raise Stuck("a daemon that stays")

    def stop(self) -> None:
        """KILL; a daemon needs no farewell."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._client.close()

    def _launch(self) -> ForkServerProcess:
        self._started += 1
        kill = self.kills[self._started - 1] if self._started <= len(self.kills) else None
        ready = self.world.folder / "ready"
        ready.unlink(missing_ok=True)
        order = Order(
            self.world.environment | {"STEERSMAN_READY_FILE": str(ready)},
            self.world.folder / "errors",
            self.world.folder / f"points-{self._started}",
            kill,
        )
        self._process = launcher.launch(order)
        return self._process

    def _up(self, process: ForkServerProcess) -> bool:
        ready = self.world.folder / "ready"
        while not (ready.exists() and ready.read_text().endswith("\n")):
            if not process.is_alive():
                self._ended(process)
                return False
            self._patiently("a daemon that is up")
        self._client.close()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._client = httpx.Client(base_url=ready.read_text().strip(), headers=headers, timeout=20)
        return True

    def _ended(self, process: ForkServerProcess) -> None:
        """Note a death: the one that was ordered, or one that nobody wanted."""
        process.join()
        ordered = self._started <= len(self.kills)
        if ordered and launcher.killed(process):
            self.happened.append(self.kills[self._started - 1])
        else:
            self.ends.append(f"start {self._started} ended by itself, exit code {process.exitcode}")

    def _alive(self) -> None:
        """After an answer that did not come: start anew if the daemon is dead."""
        assert self._process is not None
        self._process.join(0.05)
        if not self._process.is_alive():
            self._ended(self._process)
            self.start()

    def _patiently(self, what: str) -> None:
        if time.monotonic() > self._until:
            raise Stuck(what)
        time.sleep(_LOOK_SECONDS)

    # -- asking

    def get(self, path: str, **query: Any) -> httpx.Response:
        """An answer, of this daemon or a later one."""
        while True:
            try:
                return self._client.get(path, params=query)
            except httpx.TransportError:
                self._alive()
                self._patiently(f"an answer to {path}")

    def post(self, path: str, body: Any, happened: Callable[[], bool], **headers: str) -> None:
        """A call that must have its effect once."""
        while not happened():
            try:
                self._client.post(path, json=body, headers=headers).raise_for_status()
            except httpx.TransportError:
                self._alive()
                self._patiently(f"an answer to {path}")
            else:
                return

    def until(self, what: str, check: Callable[[], Any]) -> None:
        """Wait for something to be true."""
        while not check():
            self._patiently(what)

    def jobs(self) -> list[Job]:
        """All, oldest first."""
        items = self.get("/reconciler/jobs", limit=200).json()["items"]
        counts: Counter[str] = Counter()
        found = []
        for item in sorted(items, key=lambda item: item["number"]):
            build = _build(item)
            counts[build] += 1
            found.append(Job(build, counts[build], item["number"], item["state"], item))
        return found

    def job(self, build: str, ordinal: int) -> Job | None:
        """One of them, if there is one."""
        found = (job for job in self.jobs() if (job.build, job.ordinal) == (build, ordinal))
        return next(found, None)

    def has(self, **counts: int) -> bool:
        """Are there so many jobs of these Builds?"""
        return _has(self.jobs(), counts)

    def applied(self, revision: str) -> bool:
        """Is this the commit that was applied last?"""
        source = self.get("/reconciler/status").json()["source"]
        return bool(source["last_applied_revision"] == revision == source["last_attempted_revision"])


def _build(item: Mapping[str, Any]) -> str:
    """The name of a job's Build, or what is one for it: a manifest's job has the name of whoever submitted it."""
    return "pushed" if "path" in item["trigger"] else str(item["key"]).rpartition("/")[2]


def _has(jobs: Sequence[Job], counts: Mapping[str, int]) -> bool:
    there = Counter(job.build for job in jobs)
    return all(there[build] >= count for build, count in counts.items())


@contextmanager
def driven(world: World, kills: Sequence[Kill]) -> Iterator[Drive]:
    """A drive whose daemon and scripts end with it."""
    drive = Drive(world, kills)
    try:
        yield drive
    finally:
        drive.stop()
        end_scripts(world.data)


def play(drive: Drive) -> None:
    """All steps, each begun when the one before has had its effect."""
    world = drive.world
    drive.start()
    drive.until("the first jobs", lambda: drive.has(wide=1, code=1, failing=1, loud=1, endless=1))
    _cancel(drive)
    _commit(drive, world.second, many=1, served=1, endless=2)
    body = {"key": "Build/shop/_/greet", "inputs": {"WHO": "Alice"}}
    drive.post("/reconciler/trigger", body, lambda: drive.has(greet=1))
    drive.post("/api/jobs", {"manifest": world.manifest}, lambda: drive.has(build=1))
    _commit(drive, world.third)
    _retry(drive)
    _push(drive)
    _commit(drive, world.fourth, many=2)
    drive.until(f"the jobs {JOBS}, all ended", lambda: _all_ended(drive))
    drive.until("an empty plan and no trouble", lambda: _settled(drive))


def _cancel(drive: Drive) -> None:
    """By hand, while its script runs and has said so."""

    def runs() -> bool:
        job = drive.job("endless", 1)
        return (
            job is not None
            and drive.get(f"/reconciler/jobs/{job.number}/log", task="waits").text == "waiting\n"
        )

    drive.until("endless runs", runs)
    job = drive.job("endless", 1)
    assert job is not None

    def asked() -> bool:
        found = drive.job("endless", 1)
        return found is not None and (found.ended or found.state == "aborting")

    drive.post(f"/reconciler/jobs/{job.number}/cancel", None, asked)


def _commit(drive: Drive, commit: Callable[[], str], **counts: int) -> None:
    revision = commit()
    drive.until(f"{revision} is applied", lambda: drive.applied(revision))
    drive.until(f"jobs {counts}", lambda: drive.has(**counts))


def _push(drive: Drive) -> None:
    """A second time, once all that the first push asks for is there; the forge tells of it."""
    drive.until("the jobs of the first push", lambda: drive.has(**pushed.FIRST_JOBS))
    drive.until("a bad configuration is told of", lambda: _told(drive))
    drive.world.pushed.second()
    body = {"project": {"url": str(drive.world.pushed.code.path)}}
    signed = {"X-Gitlab-Token": WEBHOOK_SECRET}
    drive.post("/reconciler/webhook", body, lambda: drive.has(**pushed.ALL_JOBS), **signed)


def _told(drive: Drive) -> bool:
    events = drive.get("/reconciler/events", limit=1000).json()["items"]
    return any(event["kind"] == "tree-issue" for event in events)


def _retry(drive: Drive) -> None:
    def ended() -> bool:
        job = drive.job("failing", 1)
        return job is not None and job.ended

    drive.until("failing has failed", ended)
    job = drive.job("failing", 1)
    assert job is not None
    drive.post(f"/reconciler/jobs/{job.number}/retry", None, lambda: drive.has(failing=2))


def _all_ended(drive: Drive) -> bool:
    """All in one look: a job that comes between two would be in one of them only."""
    jobs = drive.jobs()
    return _has(jobs, JOBS) and all(job.ended for job in jobs)


def _settled(drive: Drive) -> bool:
    """Nothing is planned, queued or running, and every Build shows how its job ended."""
    status = drive.get("/reconciler/status").json()
    resources = status["resources"]
    moving = any(resources["health"].get(word) for word in ("Progressing", "Unknown"))
    if status["troubles"] or resources["out_of_sync"] or moving:
        return False
    plan = drive.get("/reconciler/plan").json()
    return not plan["actions"] and "steersman_trials_running 0.0" in drive.get("/metrics").text
