"""Watches over the disk: what one trial may take of it, and what must stay free for all.

`execution.run` names the trials at work; one task looks at them, often at the disk as a whole (which costs nothing) and
at a single trial as often as its size allows: its folders, and files that it has unlinked but keeps open. It ends
trials through a function that it is given and knows no store.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from reconciler.execution import processes
from reconciler.execution.workspace import usage
from reconciler.model.job import Reason

log = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.25
_IDLE_SECONDS = 2.0
_COST = 20  # a look at a folder that took a second is repeated after twenty
_SMALL = 16 << 20  # what takes less is not the cause of a full disk
_SHARE = 10  # of the whole disk no more than a tenth is kept free
_LAST_FILES = 200  # half a hundredth of all files that the disk can have
StopTrial = Callable[[str, Reason, str], object]


@dataclass
class _Watched:
    paths: Sequence[Path]
    limit: int | None
    supervisor: int | None = None
    look_at: float = 0.0
    asked: bool = False


class DiskGuard:
    """`reserve`: bytes that must stay free on the disk of `data`; `changed` is called when `closed` does."""

    def __init__(self, data: Path, reserve: int, stop: StopTrial, changed: Callable[[], None]) -> None:
        self._data = data
        self._reserve = reserve
        self._stop = stop
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self.closed: tuple[str, str] | None = None

    def watch(
        self, trial: str, paths: Sequence[Path], limit: int | None, supervisor: int | None = None
    ) -> None:
        """Mind what a trial can fill: folders and files, and what the processes below `supervisor` keep open.

        `limit` in bytes, None: only the disk's end.
        """
        self._watched[trial] = _Watched(paths, limit, supervisor)

    def forget(self, trial: str) -> None:
        """It has ended."""
        self._watched.pop(trial, None)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except OSError as error:
                log.warning("disk-not-seen", message=str(error))
            await asyncio.sleep(_LOOK_SECONDS if self._watched or self.closed else _IDLE_SECONDS)

    async def _look(self) -> None:
        free, reserve = await asyncio.to_thread(_free, self._data, self._reserve)
        low = free < reserve
        if low:
            self._close(free, reserve)
            await self._end_largest(free)
        elif self.closed:
            self.closed = None
            log.info("disk-has-room-again", free=free)
            self._changed()
        for trial, watched in list(self._watched.items()):
            if watched.limit is not None and time.monotonic() >= watched.look_at:
                await self._bound(trial, watched, watched.limit)

    def _close(self, free: int, reserve: int) -> None:
        kept = f"the {reserve:,} that must stay free (disk_reserve_bytes)"
        message = f"the disk has {free:,} bytes left, fewer than {kept}"
        if self.closed is None:
            log.warning("disk-nearly-full", free=free, reserve=reserve)
            self.closed = ("DiskFull", message)
            self._changed()
        self.closed = ("DiskFull", message)

    async def _end_largest(self, free: int) -> None:
        """Whoever takes most of a disk that is nearly full is ended, one at a look."""
        sizes = {
            trial: await asyncio.to_thread(_taken, watched)
            for trial, watched in list(self._watched.items())
            if not watched.asked
        }
        largest = max(sizes, key=sizes.__getitem__, default=None)
        if largest is None or sizes[largest] < _SMALL or largest not in self._watched:
            return
        self._watched[largest].asked = True
        taken = f"this trial took most of it: {sizes[largest]:,} bytes"
        told = f"the disk was nearly full ({free:,} bytes left), and {taken}"
        self._stop(largest, Reason.DISK_LIMIT, told)

    async def _bound(self, trial: str, watched: _Watched, limit: int) -> None:
        began = time.monotonic()
        size = await asyncio.to_thread(_taken, watched)
        watched.look_at = time.monotonic() + max(_LOOK_SECONDS, (time.monotonic() - began) * _COST)
        if size > limit and not watched.asked:
            watched.asked = True
            told = (
                f"its workspace, home and /tmp grew to {size:,} bytes, beyond limits.disk_bytes ({limit:,})"
            )
            self._stop(trial, Reason.DISK_LIMIT, told)


def _taken(watched: _Watched) -> int:
    """Bytes of a trial, by name and without one. Blocks."""
    named = sum(usage(path) for path in watched.paths)
    return named if watched.supervisor is None else named + _unlinked(watched.supervisor)


def _unlinked(supervisor: int) -> int:
    """Bytes of files on a disk that have no name any more, but are held open below a supervisor."""
    found: dict[tuple[int, int], int] = {}
    for pid in processes.descendants(processes.everything(), supervisor):
        try:
            handles = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208  (a hot path)
        except OSError:
            continue  # ended meanwhile
        for handle in handles:
            try:
                seen = os.stat(f"/proc/{pid}/fd/{handle}")  # noqa: PTH116  (a hot path)
            except OSError:
                continue
            if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 0:
                found[seen.st_dev, seen.st_ino] = seen.st_blocks * 512
    return sum(found.values())


def _free(path: Path, reserve: int) -> tuple[int, int]:
    found = os.statvfs(path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if found.f_files and found.f_favail < found.f_files // _LAST_FILES:
        free = 0  # no more files can be made, however many bytes are left
    return free, min(reserve, total // _SHARE)
