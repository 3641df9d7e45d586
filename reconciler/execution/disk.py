"""Watches over the disk: what one trial may take of it, and what must stay free for all.

`execution.run` names the trials at work; one task looks at them, often at the disk as a whole (which costs nothing) and
at a single trial's folder as often as its size allows. It ends trials through a function that it is given and knows
neither processes nor store.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from reconciler.execution.workspace import usage
from reconciler.model.job import Reason

log = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.25
_IDLE_SECONDS = 2.0
_COST = 20  # a look at a folder that took a second is repeated after twenty
_SMALL = 16 << 20  # what takes less is not the cause of a full disk
_SHARE = 10  # of the whole disk no more than a tenth is kept free
StopTrial = Callable[[str, Reason, str], object]


@dataclass
class _Watched:
    path: Path
    limit: int | None
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

    def watch(self, trial: str, path: Path, limit: int | None) -> None:
        """Mind a trial's folder; `limit` in bytes, None: only the disk's end."""
        self._watched[trial] = _Watched(path, limit)

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
            trial: await asyncio.to_thread(usage, watched.path)
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
        size = await asyncio.to_thread(usage, watched.path)
        watched.look_at = time.monotonic() + max(_LOOK_SECONDS, (time.monotonic() - began) * _COST)
        if size > limit and not watched.asked:
            watched.asked = True
            told = (
                f"its workspace, home and /tmp grew to {size:,} bytes, beyond limits.disk_bytes ({limit:,})"
            )
            self._stop(trial, Reason.DISK_LIMIT, told)


def _free(path: Path, reserve: int) -> tuple[int, int]:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, min(reserve, found.f_blocks * found.f_frsize // _SHARE)
