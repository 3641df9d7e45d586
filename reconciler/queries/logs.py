"""Logs of a job by byte offset, whole or live (design 7.4, 13.20).

One script is its log; several follow each other under headings, ordered by when they began (or ended without having
begun), a task's own script before its services. `read` and `follow` go through the same text with the same offsets.
What was given out never changes, so that an offset stays good: what begins later comes later, and the text ends where a
script still runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from reconciler.access import Caller
from reconciler.errors import NotFound, Transient
from reconciler.execution import logs as files
from reconciler.execution.logs import Logs
from reconciler.execution.run import Runs
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.queries.jobs import see
from reconciler.store import jobs as rows
from reconciler.store.jobs import JobScripts, LogScript

_LOGS = Logs()
_PAUSE = 0.15
_CHUNK = 256 << 10
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
    """The selected scripts that have a place, in order; `plain`: the first has no heading, being the only one so far.

    `state` and `reason` are of what was selected: the job, a task or a trial. `version`: the job's.
    """

    scripts: tuple[LogScript, ...]
    plain: bool
    state: State
    reason: str | None
    version: int


async def look(installation: Installation, number: int, selection: Selection) -> View:
    """What a selection names, now; for those who see the job."""
    found = await installation.database.read(lambda c: rows.scripts_of(c, number))
    if found is None:
        raise NotFound("NoSuchJob", f"there is no job {number}")
    chosen = [script for script in found.scripts if selection.takes(script)]
    if _missing(found, selection, chosen):
        raise NotFound("NoSuchLog", f"job {number} has no such task, trial or script")
    placed = [(s.at, s.name != rows.MAIN, s.name, s.id, s) for s in chosen if s.at is not None]
    scripts = tuple(place[-1] for place in sorted(placed))
    await installation.runs.remote_logs.fetch(scripts)
    state, reason = _outcome(found, selection)
    return View(scripts, _is_plain(found, selection, chosen, scripts), state, reason, found.version)


@dataclass(frozen=True, slots=True)
class Part:
    """One script's place in the text, from `position` on: its heading, or why it has no log, and then its log."""

    script: LogScript
    folder: Path | None
    head: bytes
    position: int
    size: int

    @property
    def start(self) -> int:
        """Where its log begins."""
        return self.position + len(self.head)

    @property
    def end(self) -> int:
        """Where what comes next begins."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Text:
    """The log of a selection as it stands at one moment. It grows at its end only; `final`: it does not."""

    parts: tuple[Part, ...]
    final: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return self.parts[-1].end if self.parts else 0

    @property
    def tag(self) -> str:
        """What another text has not; good when this one is `final`."""
        places = "".join(f"{part.script.id} {part.position} {part.size}\n" for part in self.parts)
        return hashlib.sha256(places.encode()).hexdigest()[:32]


async def now(installation: Installation, caller: Caller, number: int, selection: Selection) -> Text:
    """The text of a selection."""
    await see(installation, caller, number)
    view = await look(installation, number, selection)
    return await asyncio.to_thread(_lay_out, installation.runs, view)


async def pieces(text: Text, start: int, end: int) -> AsyncGenerator[bytes, None]:
    """A part of a text; less only when files have gone meanwhile."""
    for part in text.parts:
        head = part.head[max(0, start - part.position) : max(0, end - part.position)]
        if head:
            yield head
        at, stop = max(start, part.start), min(end, part.end)
        while part.folder is not None and at < stop:
            chunk = await _LOGS.read(part.folder, at - part.start, min(_CHUNK, stop - at))
            if not chunk:
                return
            at += len(chunk)
            yield chunk


async def read(
    installation: Installation, caller: Caller, number: int, selection: Selection, offset: int
) -> AsyncGenerator[bytes, None]:
    """What there is now, from an offset on."""
    text = await now(installation, caller, number, selection)
    async with aclosing(pieces(text, offset, text.size)) as chunks:
        async for chunk in chunks:
            yield chunk


async def since(text: Text, moment: datetime) -> int:
    """The offset of what was printed since a moment, as exactly as the time indexes say it."""
    return await asyncio.to_thread(_since, text, moment)


async def packed(text: Text) -> tuple[int, AsyncGenerator[bytes, None]] | None:
    """(bytes, chunks) of the text as Zstandard frames, when it is kept as exactly these."""
    if not text.final or len(text.parts) != 1 or text.parts[0].head or text.parts[0].folder is None:
        return None
    found = await asyncio.to_thread(files.stored, text.parts[0].folder, text.size)
    return None if found is None else (found[1], _bytes(*found))


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


async def _bytes(path: Path, count: int) -> AsyncGenerator[bytes, None]:
    """The beginning of a file."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while count and (chunk := await asyncio.to_thread(file.read, min(count, _CHUNK))):
            count -= len(chunk)
            yield chunk


def _lay_out(runs: Runs, view: View) -> Text:
    """Up to the first script that may still grow: what comes next would be moved by it."""
    parts: list[Part] = []
    position, opened = 0, False
    for script in view.scripts:
        folder = folder_of(runs, script)
        if folder is None and not script.ended:
            return Text(tuple(parts), False)
        head = _head(script, folder, plain=view.plain and not parts, opened=opened)
        part = Part(script, folder, head, position, 0 if folder is None else length_of(script, folder))
        parts.append(part)
        if not script.ended:
            return Text(tuple(parts), False)
        position, opened = part.end, folder is not None and _is_open(folder, part.size)
    return Text(tuple(parts), view.state.finished)


def _since(text: Text, moment: datetime) -> int:
    for part in text.parts:
        if part.script.at is not None and part.script.at >= moment:
            return part.position
        offset = part.size if part.folder is None else files.offset_at(part.folder, moment)
        if offset < part.size:
            return part.start + offset if offset else part.position
    return text.size


def folder_of(runs: Runs, script: LogScript) -> Path | None:
    """Where its log is, if there is one."""
    folder = runs.log_folder(script.run) if script.run is not None else None
    return folder if folder is not None and files.exists(folder) else None


def length_of(script: LogScript, folder: Path) -> int:
    """Bytes of its log, without what something left behind wrote after the end."""
    size = files.size_of(folder)
    return size if script.log_size is None else min(size, script.log_size)


def _is_open(folder: Path, size: int) -> bool:
    """Does its last line want an end?"""
    return size > 0 and files.read_at(folder, size - 1, 1) != b"\n"


def _head(script: LogScript, folder: Path | None, *, plain: bool, opened: bool) -> bytes:
    before = "\n" if opened else ""
    line = "" if plain else f"{before}==> {script.task} #{script.trial} {script.name} <==\n"
    return line.encode() + (note_of(script) if folder is None else b"")


def _is_plain(
    found: JobScripts, selection: Selection, chosen: list[LogScript], scripts: tuple[LogScript, ...]
) -> bool:
    """One task, and of the trial that comes first one script: without a heading it is clear whose log it is."""
    if len(found.tasks) != 1 and selection.task is None:
        return False
    first = scripts[0] if scripts else None
    return first is None or sum(s.task == first.task and s.trial == first.trial for s in chosen) == 1


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
        self._fetch = installation.runs.remote_logs.fetch
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
            with suppress(Transient):
                await self._fetch(script for script in self._view.scripts if not script.ended)
            await asyncio.sleep(_PAUSE)

    async def _refresh(self) -> None:
        changed = await self._database.read(lambda c: rows.version_of(c, self._number))
        if changed != self._view.version:
            self._view = await self._look()
            self._scripts = {script.id: script for script in self._view.scripts}


class _Cursor:
    """A walk through a job's text that gives out what lies behind an offset.

    It remembers the scripts it has been through, never their positions. `newest` gives what is known of a script by
    now: the walk waits for what still runs.
    """

    def __init__(self, installation: Installation, offset: int, newest: Newest) -> None:
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
        head = _head(script, path, plain=plain and not self._given, opened=self._open)
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
        await self._leave(self._newest(script), path)

    async def _log(self, script: LogScript, path: Path) -> AsyncGenerator[tuple[int, bytes], None]:
        """From the offset on, never from before it; nor what something left behind wrote after the end."""
        start = max(0, self._offset - self._position)
        async for end, chunk in _LOGS.follow(path, start, lambda: self._newest(script).ended):
            size = self._newest(script).log_size
            over = 0 if size is None else min(len(chunk), max(0, end - size))
            if over < len(chunk):
                yield end - over, chunk[: len(chunk) - over]
            if over:
                return

    async def _leave(self, script: LogScript, path: Path) -> None:
        """Stand behind a script, wherever the offset lies."""
        size = await asyncio.to_thread(length_of, script, path)
        self._position += size
        self._open = await asyncio.to_thread(_is_open, path, size)

    def _path(self, script: LogScript) -> Path | None:
        return folder_of(self._runs, script)


def note_of(script: LogScript) -> bytes:
    """Why a script that ended has no log: one line, which does not change any more."""
    reason = (script.reason or "").replace("-", " ")
    error = " ".join((script.error or "").split())
    words = ": ".join(part for part in (reason, error) if part)
    return f"({words})\n".encode() if words else b""
