"""Watches over the disk: what one trial may take of it, and what must stay free for all.

`execution.run` names the trials at work; one task looks at them, often at the disk as a whole (which costs nothing) and
at a single trial as often as its size allows: its folders, what its containers hold, and files that it has unlinked but
keeps open. It ends trials through a function that it is given and knows no store.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from reconciler.execution import containers, processes
from reconciler.execution.containers import Layer
from reconciler.execution.processes import Process
from reconciler.execution.supervisor import Supervised
from reconciler.execution.workspace import usage
from reconciler.model.job import Reason

log = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.25
_IDLE_SECONDS = 2.0
_COST = 20  # a look at a folder that took a second is repeated after twenty
_ENDING_SECONDS = 5.0
_SMALL = 16 << 20  # what takes less is not the cause of a full disk
_SHARE = 10  # of the whole disk no more than a tenth is kept free
_LAST_FILES = 200  # half a hundredth of all files that the disk can have
StopTrial = Callable[[str, Reason, str], object]


@dataclass
class _Watched:
    limit: int | None
    paths: tuple[Path, ...] = ()
    scripts: tuple[Supervised, ...] = ()
    layers: dict[Path, dict[str, Layer]] = field(default_factory=dict)
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
        # until when bytes are counted as coming back, as who took them was ended
        self._returning: list[tuple[float, int]] = []
        self.closed: tuple[str, str] | None = None

    def watch(
        self, trial: str, paths: Sequence[Path], limit: int | None, script: Supervised | None = None
    ) -> None:
        """Mind what a trial can fill, beside what is minded already: folders and files, and what `script` holds.

        `limit` in bytes, None: only the disk's end.
        """
        watched = self._watched.setdefault(trial, _Watched(limit))
        watched.paths = tuple(dict.fromkeys((*watched.paths, *paths)))
        if script is not None:
            watched.scripts = (*(each for each in watched.scripts if _is_alive(each)), script)

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
            await self._end_largest(free, reserve)
        elif self.closed:
            self.closed = None
            self._returning = []
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

    async def _end_largest(self, free: int, reserve: int) -> None:
        """Whoever takes most of a disk that is nearly full is ended, one at a look, until enough is on its way back."""
        self._returning = [each for each in self._returning if time.monotonic() < each[0]]
        # who fills it meanwhile finds half of the reserve
        if free + min(reserve // 2, sum(size for _, size in self._returning)) >= reserve:
            return
        device = await asyncio.to_thread(_device, self._data)
        sizes = {
            trial: await asyncio.to_thread(_taken, watched, device)
            for trial, watched in list(self._watched.items())
            if not watched.asked
        }
        largest = max(sizes, key=sizes.__getitem__, default=None)
        if largest is None or sizes[largest] < _SMALL or largest not in self._watched:
            return
        self._watched[largest].asked = True
        self._returning.append((time.monotonic() + _ENDING_SECONDS, sizes[largest]))
        taken = f"this trial took most of it: {sizes[largest]:,} bytes"
        told = f"the disk was nearly full ({free:,} bytes left), and {taken}"
        self._stop(largest, Reason.DISK_LIMIT, told)

    async def _bound(self, trial: str, watched: _Watched, limit: int) -> None:
        began = time.monotonic()
        size = await asyncio.to_thread(_taken, watched)
        watched.look_at = time.monotonic() + max(_LOOK_SECONDS, (time.monotonic() - began) * _COST)
        if size > limit and not watched.asked:
            watched.asked = True
            what = "its workspace, home, /tmp and containers"
            told = f"{what} grew to {size:,} bytes, beyond limits.disk_bytes ({limit:,})"
            self._stop(trial, Reason.DISK_LIMIT, told)


def _taken(watched: _Watched, device: int | None = None) -> int:
    """Bytes of a trial, by name and without one; `device`: only what lies there. Blocks."""
    folders, holders = list(watched.paths), []
    for script in watched.scripts:
        found = containers.layers(script.run, watched.layers.get(script.run, {}))
        watched.layers[script.run] = found
        folders += (folder for layer in found.values() for folder in layer.folders)
        holders += [script.pid] if _is_alive(script) else []
        holders += (layer.conmon.pid for layer in found.values() if layer.conmon and _is_alive(layer.conmon))
    named = sum(usage(folder) for folder in folders if device is None or _device(folder) == device)
    sizes = {place: size for holder in holders for place, size in _unlinked(holder)}
    return named + sum(size for (on, _), size in sizes.items() if device is None or on == device)


def _is_alive(script: Supervised | Process) -> bool:
    """Is it still the process that it was?"""
    found = processes.look(script.pid)
    return found is not None and found.started == script.started


def _device(path: Path) -> int | None:
    try:
        return path.lstat().st_dev
    except OSError:
        return None


def _unlinked(holder: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Files on a disk that have no name any more, but are held open below a process: (device, number), bytes."""
    for pid in processes.descendants(processes.everything(), holder):
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
                yield (seen.st_dev, seen.st_ino), seen.st_blocks * 512


def _free(path: Path, reserve: int) -> tuple[int, int]:
    found = os.statvfs(path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    if found.f_files and found.f_favail < found.f_files // _LAST_FILES:
        free = 0  # no more files can be made, however many bytes are left
    return free, min(reserve, total // _SHARE)
