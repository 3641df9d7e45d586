"""Logs of a job by byte offset, whole or live (design 7.4, 13.20).

One script is its log; several follow each other in start order, each under a heading. What was given out once never
changes, so that an offset stays good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import NotFound
from reconciler.execution.logs import Logs
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.queries import jobs as job_queries
from reconciler.store import jobs as rows

_LOGS = Logs()
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which scripts of a job; None means all."""

    task: str | None = None
    trial: int | None = None
    script: str | None = None

    @property
    def whole(self) -> bool:
        """Nothing is left out."""
        return self.task is None and self.trial is None and self.script is None


@dataclass(frozen=True, slots=True)
class Part:
    """One script's log. `path` None: it has not started."""

    heading: str
    path: Path | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """The scripts of a job at one moment, in start order."""

    parts: tuple[Part, ...]
    single: bool
    state: State


async def parts(installation: Installation, number: int, selection: Selection) -> Parts:
    """The scripts that a selection names."""
    job = await job_queries.load(installation, number)
    found = await installation.database.read(lambda c: rows.scripts_of(c, number))
    chosen = [
        (task, trial, script, run)
        for task, trial, script, run in found
        if selection.task in (None, task.name)
        and selection.trial in (None, trial.number)
        and selection.script in (None, script.name)
    ]
    if not chosen and not selection.whole and job.state.finished:
        raise NotFound("NoSuchLog", f"job {number} has no such task, trial or script")
    items = []
    for task, trial, script, run in chosen:
        path = installation.runs.log_path(run) if run else None
        note = f" ({trial.error})" if trial.error and path is None else ""
        heading = f"==> {task.name} #{trial.number} {script.name}{note} <==\n"
        items.append(Part(heading, path, script.state.finished))
    single = (len(job.tasks) == 1 and len(chosen) <= 1) or (not selection.whole and len(chosen) == 1)
    return Parts(tuple(items), single, job.state)


async def read(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncIterator[bytes]:
    """What there is now, from an offset on."""
    found = await parts(installation, number, selection)
    for part in found.parts:
        if not found.single:
            heading = part.heading.encode()
            if offset < len(heading):
                yield heading[offset:]
            offset = max(0, offset - len(heading))
        if part.path is None:
            continue
        size = await _LOGS.size(part.path)
        position = min(offset, size)
        offset -= position
        while position < size:
            chunk = await _LOGS.read(part.path, position, min(_CHUNK, size - position))
            if not chunk:
                break
            position += len(chunk)
            yield chunk
        if not part.ended:
            return  # what comes next in this script would move everything behind it


async def follow(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncIterator[tuple[int, bytes]]:
    """(offset after the chunk, chunk) as the log grows, until the job, or what was selected, has ended."""
    position = 0  # in the whole text
    done = 0  # scripts that were given out whole
    while True:
        found = await parts(installation, number, selection)
        for part in found.parts[done:]:
            if part.path is None and not part.ended:
                break
            async for chunk in _part(installation, number, selection, part, found.single, done):
                start, position = position, position + len(chunk)
                if position > offset:
                    yield position, chunk[max(0, offset - start) :]
            done += 1
        ended = found.state.finished or (found.single and not selection.whole)
        if ended and done >= len(found.parts):
            return
        await asyncio.sleep(0.1)


async def _part(
    installation: Installation, number: int, selection: Selection, part: Part, single: bool, index: int
) -> AsyncIterator[bytes]:
    if not single:
        yield part.heading.encode()
    if part.path is None:
        return
    ended = asyncio.Event()
    if part.ended:
        ended.set()
    watcher = asyncio.create_task(_watch_end(installation, number, selection, index, ended))
    try:
        async for _, chunk in _LOGS.follow(part.path, 0, ended.is_set):
            yield chunk
    finally:
        watcher.cancel()


async def _watch_end(
    installation: Installation, number: int, selection: Selection, index: int, ended: asyncio.Event
) -> None:
    """Set `ended` once the script has; looks only when something was committed."""
    version = -1
    while not ended.is_set():
        if installation.database.version != version:
            version = installation.database.version
            found = await parts(installation, number, selection)
            if index < len(found.parts) and found.parts[index].ended:
                ended.set()
                return
        await asyncio.sleep(0.1)
