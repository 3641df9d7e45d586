"""Brings logs of scripts that run here to where other machines read them: while they grow, and at their end.

`execution.run` has one `Shipping`. A log is named by its run folder below DATA/runs; only the masked log and its time
index are read, never the raw output. What grows goes every third of a second into the database, all logs in one
transaction; offsets say what is there, so that what an outage or a kill holds up is caught up from the files. The end
of a log goes with the end of its script, in one transaction: who sees the end has all of it. Large logs become a
content once they are compressed. Where nobody else reads (SQLite without an object store) it does nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from reconciler.errors import Transient
from reconciler.execution import archive, logs, timeline
from reconciler.execution.contents import Contents
from reconciler.store import shipped_logs as rows
from reconciler.store.database import Database
from reconciler.store.shipped_logs import End, Piece

log = structlog.get_logger(__name__)
SMALL = archive.WORTH
"""Up to so many bytes a log goes with its end; what is larger is compressed, and then a content."""
_EVERY = 0.3
_PIECE = 256 << 10
_TOGETHER = 2 << 20
_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 5.0
_PIECES = 8
_LEFT = (-1, -1)
At = tuple[int, int]
"""Bytes of a log, and of its index, that are there."""


class Shipping:
    """The logs of one data directory. Without `contents`, or where these keep nothing, nobody else reads them."""

    def __init__(self, runs: Path, database: Database, contents: Contents | None) -> None:
        self._runs = runs
        self._database = database
        self._contents = contents if contents is not None and contents.keeps else None
        self._live = self._contents is not None and not database.sqlite
        # None: to be asked for
        self._growing: dict[str, At | None] = {}
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        """Does anybody else read?"""
        return self._contents is not None

    def begin(self, run: str) -> None:
        """A log may grow from now on, or goes on after a restart."""
        if not self._live:
            return
        self._growing.setdefault(run, None)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="shipping")

    def leave(self, run: str) -> None:
        """It grows no more."""
        self._growing.pop(run, None)

    def small(self, runs: Iterable[str]) -> tuple[tuple[End, ...], tuple[str, ...]]:
        """The ends of small logs, and those that are large: for `rest`. Blocks; called once nothing writes there."""
        ends: list[End] = []
        large: list[str] = []
        for run in runs if self.on else ():
            found = _size(self._runs / run)
            if found is None:
                continue
            if found[0] <= SMALL:
                ends.append(self._end(run, *found, (0, 0)))
            else:
                large.append(run)
        return tuple(ends), tuple(large)

    async def rest(self, runs: Iterable[str]) -> tuple[End, ...]:
        """The ends of large logs, once all but their last bytes are there. Waits while the database does not answer."""
        return tuple([await self._steadily(run) for run in runs])

    async def all(self, run: str) -> tuple[End, ...]:
        """The end of a log, small or large."""
        if not self.on:
            return ()
        ends, large = await asyncio.to_thread(self.small, (run,))
        found = *ends, *await self.rest(large)
        self.leave(run)
        return found

    async def complete(self, run: str) -> None:
        """A log has ended whose script's end is stored apart: this comes before it."""
        ends = await self.all(run)
        delay = _RETRY_SECONDS
        while ends:
            try:
                await self._database.aside(lambda c: rows.end(c, ends))
                return
            except Transient as error:
                delay = await _pause(error, delay)

    async def pack(self, runs: Iterable[str]) -> None:
        """Logs that are compressed here become contents. What cannot be done now is left to the pass of retention."""
        for run in runs if self.on else ():
            try:
                await self._pack(run)
            except Transient as error:
                log.warning("log-not-packed", run=run, reason=error.reason, message=error.message)

    async def restore(self, run: str) -> None:
        """What is there and a power cut has taken from the log here comes back, before anything is added to it.

        Waits while the database does not answer.
        """
        delay = _RETRY_SECONDS
        while self._live:
            try:
                await self._restore(run)
                return
            except Transient as error:
                delay = await _pause(error, delay)

    async def _restore(self, run: str) -> None:
        at = (await self._database.read(partial(rows.shipped, runs=[run]))).get(run, (0, 0))[0]
        folder = self._runs / run
        while (size := await asyncio.to_thread(logs.size_of, folder)) < at:
            found = await self._database.read(partial(rows.pieces, run=run, offset=size, most=_PIECES))
            if not found:
                return
            await asyncio.to_thread(_restore, folder / "log", found)

    async def close(self) -> None:
        """Ship no more; the next start goes on."""
        self._growing.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        delay = _RETRY_SECONDS
        while self._growing:
            try:
                async with self._turn:
                    full = await self._round()
            except Transient as error:
                delay = await _pause(error, delay)
                continue
            except Exception as error:  # of one log, for all we know: what is lacking goes with the ends
                log.error("shipping-failed", exc_info=error)
                self._growing = dict.fromkeys(self._growing)
                delay = await _pause(Transient(type(error).__name__, str(error)), delay)
                continue
            delay = _RETRY_SECONDS
            await asyncio.sleep(0 if full else _EVERY)

    async def _round(self) -> bool:
        """What has come since; True: there may be more at once."""
        await self._ask([run for run, at in self._growing.items() if at is None])
        known = {run: at for run, at in self._growing.items() if at is not None}
        pieces = await asyncio.to_thread(self._take, known)
        await self._ship(pieces)
        return sum(len(piece.data) for piece in pieces) >= _TOGETHER

    async def _ask(self, runs: Sequence[str]) -> None:
        if runs:
            found = await self._database.read(partial(rows.shipped, runs=runs))
            self._growing |= {run: found.get(run, (0, 0)) for run in runs if run in self._growing}

    async def _ship(self, pieces: Sequence[Piece]) -> None:
        if not pieces:
            return
        try:
            await self._database.aside(partial(rows.append, pieces=pieces))
        except Transient:
            # it may have been committed for all that
            self._growing |= {piece.run: None for piece in pieces if piece.run in self._growing}
            raise
        for piece in pieces:
            if self._growing.pop(piece.run, _LEFT) is not _LEFT:  # behind those that had no room
                self._growing[piece.run] = piece.stop, piece.times_start + len(piece.times)

    def _take(self, known: dict[str, At]) -> list[Piece]:
        """One piece of each log that has grown, as far as they go together. Blocks."""
        found: list[Piece] = []
        left = _TOGETHER
        for run, at in known.items():
            piece = _piece(self._runs / run, run, at) if left > 0 else None
            if piece is not None:
                left -= len(piece.data)
                found.append(piece)
        return found

    async def _steadily(self, run: str) -> End:
        delay = _RETRY_SECONDS
        while True:
            try:
                async with self._turn:
                    return await self._rest(run)
            except Transient as error:
                delay = await _pause(error, delay)

    async def _rest(self, run: str) -> End:
        folder = self._runs / run
        found = await asyncio.to_thread(_size, folder)
        size, written_at = found or (0, 0.0)
        if not self._live:
            return self._end(run, size, written_at, (size, 0))
        self._growing.setdefault(run, None)
        if self._growing[run] is None:
            await self._ask([run])
        while True:
            at = self._growing[run] or (0, 0)
            if size - at[0] <= SMALL:
                return await asyncio.to_thread(self._end, run, size, written_at, at)
            piece = await asyncio.to_thread(_piece, folder, run, at)
            await self._ship([] if piece is None else [piece])

    def _end(self, run: str, size: int, written_at: float, at: At) -> End:
        folder = self._runs / run
        times = _times(folder, at[1])
        data = logs.read_at(folder, at[0], size - at[0])
        return End(run, size, datetime.fromtimestamp(written_at, UTC), at[0], data, *times)

    async def _pack(self, run: str) -> None:
        folder = self._runs / run
        if self._contents is None or not (folder / archive.NAME).is_file():
            return
        digest = await asyncio.to_thread(_digest, folder / archive.NAME)
        await asyncio.to_thread(self._contents.put, digest, folder / archive.NAME)
        times = (await asyncio.to_thread(_times, folder, 0))[1]
        await self._database.aside(lambda c: rows.pack(c, run, digest, times))


async def _pause(error: Transient, delay: float) -> float:
    """Before it is tried again; how long the next one is to be."""
    log.warning("log-not-shipped", reason=error.reason, message=error.message)
    await asyncio.sleep(delay)
    return min(delay * 2, _LONGEST_RETRY_SECONDS)


def _size(folder: Path) -> tuple[int, float] | None:
    """(bytes, when it was last written to) of a log; None: there is none."""
    for name in ("log", archive.NAME):
        with suppress(FileNotFoundError):
            written_at = (folder / name).stat().st_mtime
            return logs.size_of(folder), written_at
    return None


def _piece(folder: Path, run: str, at: At) -> Piece | None:
    """What comes next; None: nothing yet."""
    data = logs.read_at(folder, at[0], _PIECE)
    return Piece(run, at[0], data, *_times(folder, at[1])) if data else None


def _times(folder: Path, start: int) -> tuple[int, bytes]:
    """(from where, bytes) of a time index: whole entries. One that became shorter is told from its new end on."""
    try:
        with (folder / timeline.NAME).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size // timeline.SIZE * timeline.SIZE
            start = min(start, size)
            return start, os.pread(file.fileno(), size - start, start)
    except FileNotFoundError:
        return 0, b""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _restore(path: Path, pieces: Sequence[Piece]) -> None:
    with path.open("ab", buffering=0) as file:
        for piece in pieces:
            size = file.seek(0, os.SEEK_END)
            missing = piece.data[size - piece.start :]
            while missing:
                missing = missing[file.write(missing) :]
