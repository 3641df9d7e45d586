"""Logs of executions as entries, numbered without holes over all their scripts (escape-state, 12.1; design 13.6).

The scripts follow each other in the order in which they began; what was given out never changes, so an entry keeps its
number: where a script still runs, those that begin later come later. What an external worker has pushed is numbered
where it is stored. Whoever asks has been let in by `queries.executions`.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from reconciler.errors import Transient
from reconciler.execution.log_lines import Lines, lines_of
from reconciler.execution.run import Runs
from reconciler.installation import Installation
from reconciler.model.execution import Execution, status, status_reason
from reconciler.model.job import Job, State
from reconciler.queries.logs import folder_of, length_of, note_of
from reconciler.store import executions, pushed
from reconciler.store.jobs import MAIN, LogScript

LEVELS = ("debug", "info", "success", "warn", "error")
STREAMS = ("stdout", "stderr", "system")
MOST = 10_000
_PAUSE = 0.1
_BATCH = 500
_MOST_BYTES = 8 << 20
_STEP = re.compile(r"(\d+)-(.+)", re.DOTALL | re.ASCII)
# What this server does itself in a run of a release, in the place of a script.
_ACTS = frozenset(
    {"steps", "plan", "version", "dependencies", "providers", "package", "cache", "push", "tag_git", "worker"}
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries; None means all."""

    step: int | None = None
    stage: str | None = None
    level: str | None = None

    def takes(self, entry: Mapping[str, Any]) -> bool:
        """Is it one of them?"""
        return all(
            wanted in (None, entry[name])
            for name, wanted in (("step", self.step), ("stage", self.stage), ("level", self.level))
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One script's place: entries `before + 1` to `before + count`, which differ in number, time and message only.

    Without `lines` it is the sentence that says why there is no log.
    """

    before: int
    count: int
    entry: Mapping[str, Any]
    began: datetime
    lines: Lines | None = None

    def read(self, first: int, most: int, most_bytes: int) -> list[dict[str, Any]]:
        """Its entries from a number on. Blocks."""
        if self.lines is None:
            return [{"seq": self.before + 1, **self.entry}] if first <= self.before + 1 else []
        start = max(0, first - self.before - 1)
        return [
            {
                "seq": self.before + 1 + line.number,
                "timestamp": _moment(self.began) if line.at is None else _millis(line.at),
                **self.entry,
                "message": line.text.decode("utf-8", "replace"),
            }
            for line in self.lines.read(start, min(most, self.count - start), most_bytes)
        ]


@dataclass(frozen=True, slots=True)
class Log:
    """The log of an execution at one moment. `last`: the number of its last entry; `final`: it will have no more.

    `parts` None: it was pushed, and is in the store.
    """

    execution: Execution
    last: int
    final: bool
    parts: tuple[Part, ...] | None = None


async def now(installation: Installation, execution: Execution) -> Log:
    """What there is."""
    job = execution.job
    if execution.worker is not None:
        last = await installation.database.read(lambda c: pushed.count(c, job.number))
        return Log(execution, last, job.state.finished)
    await installation.runs.remote_logs.fetch(_scripts(execution.job))
    return await asyncio.to_thread(_lay_out, installation.runs, execution)


async def read(
    installation: Installation, log: Log, first: int, most: int, chosen: Filter = Filter()
) -> tuple[list[dict[str, Any]], int]:
    """(entries from a number on, the number to go on with); fewer than `most` where they are many bytes."""
    first = max(1, first)
    if log.parts is not None:
        return await asyncio.to_thread(_read, log, first, most, chosen)
    found: list[dict[str, Any]] = []
    number, at = log.execution.job.number, first
    while at <= log.last and len(found) < most:
        query = partial(pushed.page, job=number, first=at, most=min(_BATCH, log.last - at + 1))
        entries = await installation.database.read(query)
        if not entries:
            return found, log.last + 1  # forgotten meanwhile
        for entry in entries:
            at = entry["seq"] + 1
            if chosen.takes(entry):
                found.append(entry)
            if len(found) == most:
                break
    return found, at


async def tail(
    installation: Installation, log: Log, count: int, chosen: Filter = Filter()
) -> tuple[list[dict[str, Any]], int]:
    """The last so many entries, and the number after them."""
    if chosen == Filter():
        return await read(installation, log, log.last - count + 1, count)
    if log.parts is not None:
        kept = [part for part in log.parts if chosen.takes(part.entry)]
        left, first = count, log.last + 1
        for part in reversed(kept):
            first = part.before + 1 + max(0, part.count - left)
            left -= part.count
            if left <= 0:
                break
        return await read(installation, log, first, count, chosen)
    found: deque[dict[str, Any]] = deque(maxlen=count)
    at = 1
    while at <= log.last:
        some, at = await read(installation, log, at, _BATCH, chosen)
        found += some
    return list(found), at


async def last_numbers(installation: Installation, found: Sequence[Execution]) -> dict[int, int]:
    """Number of the job → number of the last entry."""
    handed = [each.job.number for each in found if each.worker is not None]
    numbers = await installation.database.read(lambda c: pushed.counts(c, handed)) if handed else {}
    local = [each for each in found if each.worker is None]

    for each in local:
        await installation.runs.remote_logs.fetch(_scripts(each.job))

    def count() -> dict[int, int]:
        return {each.job.number: _lay_out(installation.runs, each).last for each in local}

    return dict.fromkeys(handed, 0) | numbers | await asyncio.to_thread(count)


class Tail:
    """What happens to an execution from now on, as frames of the wire (12.3): entries, and what its status becomes."""

    def __init__(self, installation: Installation, execution: Execution) -> None:
        self._installation = installation
        self._execution = execution
        self._seen = -1
        self._told: tuple[str, str] | None = None
        self._steps: dict[int, str] = {}
        self.next = 1
        self.last = 0

    async def begin(self, first: int) -> None:
        """From an entry on; a negative number counts from the end."""
        self.last = (await now(self._installation, self._execution)).last
        self.next = max(1, self.last + 1 + first) if first < 0 else max(1, first)

    @property
    def status(self) -> str:
        """Of the execution."""
        return status(self._execution.job.state)

    async def news(self) -> list[dict[str, Any]] | None:
        """The next frames, as soon as there are some; None once all is told."""
        while True:
            await self._look()
            log = await now(self._installation, self._execution)
            self.last = log.last
            entries, self.next = await read(self._installation, log, self.next, _BATCH)
            frames = [{"type": "log", **entry} for entry in entries]
            drained = self.next > log.last
            if drained or not log.final:
                frames += self._changes()
            if frames:
                return frames
            if drained and log.final:
                return None
            await asyncio.sleep(_PAUSE)

    async def catch_up(self, behind: int, keep: int) -> tuple[int, int] | None:
        """Leave entries out, if more than so many were not told and there will be more; (first, last) of these."""
        log = await now(self._installation, self._execution)
        self.last = log.last
        if log.final or self.last + 1 - self.next <= behind:
            return None
        lost = self.next, self.last - keep
        self.next = self.last - keep + 1
        return lost

    def _changes(self) -> list[dict[str, Any]]:
        """What of the status was not told yet."""
        found: list[dict[str, Any]] = []
        for number, step in enumerate(self._execution.record.get("steps") or ()):
            if self._steps.get(number, "queued") != step["status"]:
                self._steps[number] = step["status"]
                found.append({"type": "step", "step": number, "status": step["status"]})
        job = self._execution.job
        current = (status(job.state), status_reason(job))
        if current != self._told:
            self._told = current
            found.append({"type": "status", "status": current[0], "status_reason": current[1]})
        return found

    def first(self) -> dict[str, Any]:
        """The status, which is told before all else."""
        job = self._execution.job
        self._told = (status(job.state), status_reason(job))
        return {"type": "status", "status": self._told[0], "status_reason": self._told[1]}

    async def _look(self) -> None:
        """At the execution again, if something was committed."""
        database, number = self._installation.database, self._execution.job.number
        version = database.version
        if version == self._seen:
            return
        with suppress(Transient):
            found = await database.read(lambda c: executions.load(c, number))
            self._execution = found or self._execution
            self._seen = version


def _lay_out(runs: Runs, execution: Execution) -> Log:
    """Up to the first script that may still grow: what comes next would be moved by it. Blocks."""
    parts: list[Part] = []
    last = 0
    for script in _scripts(execution.job):
        folder = folder_of(runs, script)
        if folder is None and not script.ended:
            return Log(execution, last, False, tuple(parts))
        part = _part(script, last) if folder is None else None
        if folder is not None:
            lines = lines_of(folder)
            if not lines.complete:
                lines.look(length_of(script, folder) if script.ended else None)
            count = lines.count
            part = Part(last, count, _fields(script), _began(script), lines)
        if part is not None and part.count:
            parts.append(part)
            last += part.count
        if not script.ended:
            return Log(execution, last, False, tuple(parts))
    return Log(execution, last, execution.job.state.finished, tuple(parts))


def _scripts(job: Job) -> list[LogScript]:
    """Those that have a place, in the order in which they began."""
    found = []
    for task in job.tasks:
        for trial in task.trials:
            for script in trial.scripts:
                ended = script.finished_at or trial.finished_at
                at = None if script.state is State.SKIPPED else script.started_at or ended
                error = trial.error
                seen = LogScript(
                    script.id, task.name, trial.number, script.name, script.run, script.log_size, error,
                    script.reason or trial.reason, ended is not None, at, trial.worker,
                )  # fmt: skip
                if at is not None:
                    found.append((at, script.name != MAIN, script.name, script.id, seen))
    return [place[-1] for place in sorted(found, key=lambda place: place[:-1])]


def _fields(script: LogScript) -> dict[str, Any]:
    """What all entries of a script have alike."""
    named = _STEP.fullmatch(script.name)
    stage = named[2] if named else script.task if script.name == MAIN else script.name
    own = stage.partition(":")[0] in _ACTS
    return {
        "level": "info",
        "stream": "system" if own else "stdout",
        "step": int(named[1]) if named else 0,
        "stage": stage,
    }


def _part(script: LogScript, before: int) -> Part | None:
    """The one entry of a script that ended without a log, if there is something to say."""
    said = note_of(script).decode().strip().removeprefix("(").removesuffix(")")
    if not said:
        return None
    began = _began(script)
    entry = _fields(script) | {"level": "error", "stream": "system"}
    return Part(before, 1, {"timestamp": _moment(began), **entry, "message": said}, began)


def _read(log: Log, first: int, most: int, chosen: Filter) -> tuple[list[dict[str, Any]], int]:
    found: list[dict[str, Any]] = []
    left = _MOST_BYTES
    for part in log.parts or ():
        end = part.before + part.count
        if end < first or not chosen.takes(part.entry):
            continue
        at = max(first, part.before + 1)
        while at <= end:
            some = part.read(at, most - len(found), left)
            found += some
            left -= sum(len(entry["message"]) for entry in some)
            if not some:
                break  # the log has gone
            at = int(some[-1]["seq"]) + 1
            if len(found) >= most or left <= 0:
                return found, at
    return found, max(first, log.last + 1)


def _began(script: LogScript) -> datetime:
    return script.at or datetime.fromtimestamp(0, UTC)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _millis(at: int) -> str:
    return _moment(datetime.fromtimestamp(at / 1000, UTC))
