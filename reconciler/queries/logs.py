"""Logs of a job by byte offset, whole or live (design 7.4, 13.20).

One script is its log; several follow each other under headings, ordered by when they began (or ended without having
begun). `read` and `follow` go through the same text with the same cursor. What was given out never changes, so that
an offset stays good: what begins later comes later, and the text ends where a script still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reconciler.errors import NotFound, Transient
from reconciler.execution.logs import Logs
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.store import jobs as rows
from reconciler.store.jobs import JobScripts, LogScript

_LOGS = Logs()
_PAUSE = 0.15
Newest = Callable[[LogScript], LogScript]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which scripts of a job; None means all."""

    task: str | None = None
    trial: int | None = None
    script: str | None = None

    def takes(self, script: LogScript) -> bool:
        """Is this script one of them?"""
        return (
            self.task in (None, script.task)
            and self.trial in (None, script.trial)
            and self.script in (None, script.name)
        )


@dataclass(frozen=True, slots=True)
class View:
    """The selected scripts that have a place, in order; `plain`: the first has no heading, as there is one task.

    `state` and `reason` are of what was selected: the job, a task or a trial. `version`: the job's.
    """

    scripts: tuple[LogScript, ...]
    plain: bool
    state: State
    reason: str | None
    version: int


async def look(installation: Installation, number: int, selection: Selection) -> View:
    """What a selection names, now."""
    found = await installation.database.read(lambda c: rows.scripts_of(c, number))
    if found is None:
        raise NotFound("NoSuchJob", f"there is no job {number}")
    chosen = [script for script in found.scripts if selection.takes(script)]
    if _missing(found, selection, chosen):
        raise NotFound("NoSuchLog", f"job {number} has no such task, trial or script")
    placed = [(script.at, script.id, script) for script in chosen if script.at is not None]
    state, reason = _outcome(found, selection)
    plain = len(found.tasks) == 1 or selection.task is not None
    return View(tuple(script for _, _, script in sorted(placed)), plain, state, reason, found.version)


async def read(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncGenerator[bytes, None]:
    """What there is now, from an offset on."""
    view = await look(installation, number, selection)
    cursor = _Cursor(installation, offset)
    while (script := cursor.next(view)) is not None:
        async with aclosing(cursor.text(script, view.plain)) as text:
            async for _, chunk in text:
                yield chunk
        if not script.ended:
            return  # what comes next in this script would move everything behind it


async def follow(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    """(offset after the chunk, chunk) as the log grows, until the job, or what was selected, has ended."""
    watch = _Watch(installation, number, selection, await look(installation, number, selection))
    cursor = _Cursor(installation, offset, watch.newest)
    try:
        while not cursor.done(view := watch.view()):
            script = cursor.next(view)
            if script is None:
                await asyncio.sleep(_PAUSE)
                continue
            async with aclosing(cursor.text(script, view.plain)) as text:
                async for piece in text:
                    yield piece
    finally:
        watch.close()


def _missing(found: JobScripts, selection: Selection, chosen: list[LogScript]) -> bool:
    """Names it what the job has not, and will not have?"""
    if selection.task is not None and selection.task not in found.tasks:
        return True
    narrow = selection.trial is not None or selection.script is not None
    return narrow and not chosen and found.job[0].finished


def _outcome(found: JobScripts, selection: Selection) -> tuple[State, str | None]:
    """(state, reason) of the narrowest of job, task and trial that a selection names."""
    only = next(iter(found.tasks)) if len(found.tasks) == 1 else None
    task = selection.task or only
    if task is not None and selection.trial is not None:
        state, reason = found.trials.get((task, selection.trial), (State.PENDING, None))
        if state.finished:
            return state, reason
    if selection.task is not None and found.tasks[selection.task][0].finished:
        return found.tasks[selection.task]
    return found.job


class _Watch:
    """What is known of a job while its log is followed: looked at again only when something was committed."""

    def __init__(self, installation: Installation, number: int, selection: Selection, view: View) -> None:
        self._database = installation.database
        self._look = partial(look, installation, number, selection)
        self._number = number
        self._view = view
        self._scripts = {script.id: script for script in view.scripts}
        self._task = asyncio.create_task(self._run(), name=f"log of job {number}")

    def view(self) -> View:
        """What is known; raises what went wrong with looking."""
        if self._task.done():
            self._task.result()
        return self._view

    def newest(self, script: LogScript) -> LogScript:
        """What is known of one script."""
        self.view()
        return self._scripts.get(script.id, script)

    def close(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def _run(self) -> None:
        seen = -1
        while True:
            version = self._database.version
            if version != seen:
                with suppress(Transient):
                    await self._refresh()
                    seen = version
            await asyncio.sleep(_PAUSE)

    async def _refresh(self) -> None:
        changed = await self._database.read(lambda c: rows.version_of(c, self._number))
        if changed != self._view.version:
            self._view = await self._look()
            self._scripts = {script.id: script for script in self._view.scripts}


class _Cursor:
    """A walk through a job's text that gives out what lies behind an offset.

    It remembers the scripts it has been through, never their positions. `newest` gives what is known of a script by
    now, and makes the walk wait for what still runs; without it the walk takes what there is.
    """

    def __init__(self, installation: Installation, offset: int, newest: Newest | None = None) -> None:
        self._runs = installation.runs
        self._offset = offset
        self._newest = newest
        self._position = 0
        self._given: set[str] = set()
        self._open = False  # the last script left a line without its end

    def next(self, view: View) -> LogScript | None:
        """The script that comes next; None while it has nothing to show.

        A claim that was lost before its script began is made anew and begins later: only a log proves a beginning.
        """
        script = next((script for script in view.scripts if script.id not in self._given), None)
        return script if script is not None and (script.ended or self._path(script) is not None) else None

    def done(self, view: View) -> bool:
        """Nothing more will come."""
        return view.state.finished and all(script.id in self._given for script in view.scripts)

    async def text(self, script: LogScript, plain: bool) -> AsyncGenerator[tuple[int, bytes], None]:
        """(offset after the chunk, chunk) of a script, with its heading."""
        path = self._path(script)
        head = b"" if plain and not self._given else self._heading(script)
        head += _note(script) if path is None else b""
        shown = head[max(0, self._offset - self._position) :]
        self._given.add(script.id)
        self._position += len(head)
        self._open = False
        if shown:
            yield self._position, shown
        if path is None:
            return
        async with aclosing(self._log(script, path)) as log:
            async for end, chunk in log:
                yield self._position + end, chunk
        await self._leave(self._now(script), path)

    async def _log(self, script: LogScript, path: Path) -> AsyncGenerator[tuple[int, bytes], None]:
        """From the offset on, never from before it; nor what something left behind wrote after the end."""
        start = max(0, self._offset - self._position)
        async for end, chunk in _LOGS.follow(path, start, lambda: self._ended(script)):
            size = self._now(script).log_size
            over = 0 if size is None else min(len(chunk), max(0, end - size))
            if over < len(chunk):
                yield end - over, chunk[: len(chunk) - over]
            if over:
                return

    async def _leave(self, script: LogScript, path: Path) -> None:
        """Stand behind a script, wherever the offset lies."""
        size = await _LOGS.size(path) if script.log_size is None else script.log_size
        self._position += size
        self._open = size > 0 and await _LOGS.read(path, size - 1, 1) != b"\n"

    def _now(self, script: LogScript) -> LogScript:
        return script if self._newest is None else self._newest(script)

    def _ended(self, script: LogScript) -> bool:
        return self._newest is None or self._newest(script).ended

    def _path(self, script: LogScript) -> Path | None:
        """Its log, if there is one."""
        path = self._runs.log_path(script.run) if script.run is not None else None
        return path if path is not None and path.exists() else None

    def _heading(self, script: LogScript) -> bytes:
        before = "\n" if self._open else ""
        return f"{before}==> {script.task} #{script.trial} {script.name} <==\n".encode()


def _note(script: LogScript) -> bytes:
    """Why a script that ended has no log: one line, which does not change any more."""
    reason = (script.reason or "").replace("-", " ")
    error = " ".join((script.error or "").split())
    words = ": ".join(part for part in (reason, error) if part)
    return f"({words})\n".encode() if words else b""
