"""Brings logs of scripts that ran on other machines here, into the run folders that they would have: readers see files.

Called by the queries that show logs, before they look. What is missing is appended by offsets, one at a time for each
log, so that a kill leaves what the next reader goes on from; FOLDER/fetching says that a log here is not whole yet. Who
reads a log that grows asks again and again: the database is asked three times a second at most for each.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from reconciler.errors import Stalled, Transient
from reconciler.execution import archive, logs, timeline
from reconciler.execution.archive import FETCHING
from reconciler.execution.contents import Contents
from reconciler.store import shipped_logs as rows
from reconciler.store.database import Database
from reconciler.store.shipped_logs import End, Log, Piece

T = TypeVar("T")
_EVERY = 0.3
_PIECES = 8
_KNOWN = 4096
_TRIES = 3


class Script(Protocol):
    """What must be known of one: the name of its run folder, who was given its trial, and whether it has ended."""

    @property
    def run(self) -> str | None:
        """None: it was not started."""

    @property
    def worker(self) -> str | None:
        """As claims are signed."""

    @property
    def ended(self) -> bool:
        """No more comes."""


class RemoteLogs:
    """Those of one data directory; `is_ours`: was a claim with this signature made there?"""

    def __init__(
        self,
        runs: Path,
        database: Database,
        contents: Contents | None,
        is_ours: Callable[[str | None], bool],
    ) -> None:
        self._runs = runs
        self._database = database
        self._contents = contents
        self._is_ours = is_ours
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looked: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._whole: OrderedDict[str, None] = OrderedDict()

    async def fetch(self, scripts: Iterable[Script]) -> None:
        """What there is by now of the logs of those that ran elsewhere; all of those that have ended.

        Transient; Stalled for one that is damaged where it is kept.
        """
        if self._contents is None:
            return
        wanted = {
            script.run: script.ended
            for script in scripts
            if script.run is not None and script.run not in self._whole and not self._is_ours(script.worker)
        }
        due = [run for run, ended in wanted.items() if self._is_due(run, ended)]
        lacking = await asyncio.to_thread(self._lacking, due) if due else []
        known = await self._database.read(partial(rows.find, runs=lacking)) if lacking else {}
        for run in due:
            async with self._locks.setdefault(run, asyncio.Lock()):
                if not self._is_due(run, wanted[run]):
                    continue
                try:
                    await self._bring(run, known.get(run), here=run not in lacking, ended=wanted[run])
                except OSError as error:
                    told = f"the log could not be written here: {error.strerror}"
                    raise Transient("StoreUnavailable", told) from error

    async def whole(self, run: str) -> bool:
        """A log that has ended is brought here, unless it is here; False: not all of it is known."""
        async with self._locks.setdefault(run, asyncio.Lock()):
            here = not await asyncio.to_thread(self._lacking, [run])
            found = None if here else await self._find(run)
            await self._bring(run, found, here=here, ended=True)
        return run in self._whole

    def _is_due(self, run: str, ended: bool) -> bool:
        """Not looked at just now; what is found to have ended is, once more."""
        at, before = self._looked.get(run, (-_EVERY, False))
        return run not in self._whole and (time.monotonic() - at >= _EVERY or ended > before)

    def _lacking(self, runs: Iterable[str]) -> list[str]:
        return [run for run in runs if not _is_whole(self._runs / run)]

    async def _find(self, run: str) -> Log | None:
        return (await self._database.read(partial(rows.find, runs=[run]))).get(run)

    async def _bring(self, run: str, found: Log | None, *, here: bool, ended: bool) -> None:
        """`found`: as it was known just now; `here`: there is nothing to bring."""
        whole = here
        for _ in range(_TRIES):
            if whole or found is None:
                break
            whole = await self._go_on(self._runs / run, found)
            if whole or found.end is None:
                break
            found = await self._find(run)  # a content by now
        else:
            raise Stalled(
                "LogDamaged", f"the log of {run} has a gap in the database; restore it from a backup"
            )
        if whole:
            _remember(self._whole, run, None)
            self._looked.pop(run, None)
        else:
            _remember(self._looked, run, (time.monotonic(), ended))

    async def _go_on(self, folder: Path, found: Log) -> bool:
        """As far as it goes; True: it is whole. False for one that has ended: it became a content meanwhile."""
        if found.end is not None and found.digest is not None:
            await asyncio.to_thread(self._unpack, folder, found.digest, found.end)
            return True
        await asyncio.to_thread(_open, folder)
        while True:
            size = await asyncio.to_thread(logs.size_of, folder)
            if found.end is not None and found.end.start <= size:
                await asyncio.to_thread(_finish, folder, found.end)
                return True
            query = partial(rows.pieces, run=found.run, offset=size, most=_PIECES)
            pieces = await self._database.read(query)
            if not pieces or pieces[0].start > size:
                return False
            await asyncio.to_thread(_append, folder, pieces)

    def _unpack(self, folder: Path, digest: str, end: End) -> None:
        """A compressed log takes the place of what there is."""
        if self._contents is None:
            return
        _open(folder)
        fresh = folder / f"{archive.NAME}.tmp"
        with fresh.open("wb") as file:
            self._contents.fetch(digest, file)
            file.flush()
            os.fsync(file.fileno())
        _write_times(folder, end.times_start, end.times)
        os.utime(fresh, (end.written_at.timestamp(),) * 2)
        fresh.replace(folder / archive.NAME)
        (folder / "log").unlink(missing_ok=True)
        (folder / FETCHING).unlink(missing_ok=True)


def _remember(known: OrderedDict[str, T], run: str, value: T) -> None:
    known[run] = value
    known.move_to_end(run)
    while len(known) > _KNOWN:
        known.popitem(last=False)


def _is_whole(folder: Path) -> bool:
    return logs.exists(folder) and not (folder / FETCHING).exists()


def _open(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / FETCHING).touch(mode=0o600)


def _append(folder: Path, pieces: Iterable[Piece]) -> None:
    """The index comes first: of a piece that a kill tore, what is missing of the log brings its index again."""
    for piece in pieces:
        _write_times(folder, piece.times_start, piece.times)
        _write(folder / "log", piece.start, piece.data)


def _finish(folder: Path, end: End) -> None:
    _write_times(folder, end.times_start, end.times)
    _write(folder / "log", end.start, end.data)
    path = folder / "log"
    with path.open("rb") as file:
        os.fsync(file.fileno())
    os.utime(path, (end.written_at.timestamp(),) * 2)
    (folder / FETCHING).unlink(missing_ok=True)


def _write(path: Path, start: int, data: bytes) -> None:
    """Behind what is there; what is there already is passed over."""
    with path.open("ab", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        missing = data[max(0, file.seek(0, os.SEEK_END) - start) :]
        while missing:
            missing = missing[file.write(missing) :]


def _write_times(folder: Path, start: int, times: bytes) -> None:
    """The index from an offset on: where it was written anew, the later one counts."""
    if not times:
        return
    path = folder / timeline.NAME
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, start)
        os.pwrite(handle, times, start)
    finally:
        os.close(handle)
