"""Reads the logs of scripts by byte offset: live or afterwards, plain or compressed.

Called by the queries that serve logs and by the event streams; a script's log is named by its folder. A log only ever
grows, so readers share nothing but the file: following costs one `stat` in 0.1 s, cheap with hundreds of readers. A
reader notices nothing when a log is replaced by its compressed form. It never writes, masks or compresses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

from reconciler.execution import archive, timeline

CHUNK = 64 << 10
_POLL = 0.1
_FORMS = ("log", archive.NAME)


def cut(chunk: bytes) -> int:
    """Length up to the end of the last whole UTF-8 character; bytes that are no UTF-8 count as whole."""
    for back in range(1, min(3, len(chunk)) + 1):
        byte = chunk[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            return len(chunk) - back if back < _length(byte) else len(chunk)
    return len(chunk)


def _length(first: int) -> int:
    """Bytes of the character that begins with this byte; 1 for what begins none."""
    if 0xC2 <= first <= 0xDF:
        return 2
    if 0xE0 <= first <= 0xEF:
        return 3
    return 4 if 0xF0 <= first <= 0xF4 else 1


class Logs:
    """Logs of scripts, each in its folder. Holds nothing."""

    async def read(self, folder: Path, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`; empty beyond the end or when there is no log yet."""
        return await asyncio.to_thread(read_at, folder, offset, limit)

    async def size(self, folder: Path) -> int:
        """Bytes in the log now."""
        return await asyncio.to_thread(size_of, folder)

    async def follow(
        self, folder: Path, offset: int, ended: Callable[[], bool], *, poll: float = _POLL
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yields (offset after the chunk, chunk) as the log grows, until `ended()` and all has been read.

        Chunks are at most 64 KiB and end at a character's border, except the very last one.
        """
        while True:
            # asked before the size: what was written until the end is in the file by then
            last = ended()
            chunk = await self.read(folder, offset, CHUNK) if last or _grown(folder, offset) else b""
            whole = chunk[: cut(chunk)]
            # what stays after the end is a character that the log does not finish
            whole = chunk if last and not whole else whole
            if whole:
                offset += len(whole)
                yield offset, whole
            elif last:
                return
            else:
                await asyncio.sleep(poll)


def read_at(folder: Path, offset: int, limit: int) -> bytes:
    """As `Logs.read`, blocking. `log` is looked for first: when it is gone, its compressed form is there."""
    try:
        with (folder / "log").open("rb", buffering=0) as file:
            return os.pread(file.fileno(), max(limit, 0), max(offset, 0))
    except FileNotFoundError:
        pass
    try:
        return archive.read(folder / archive.NAME, max(offset, 0), max(limit, 0))
    except FileNotFoundError:
        return b""


def size_of(folder: Path) -> int:
    """As `Logs.size`, blocking."""
    try:
        return (folder / "log").stat().st_size
    except FileNotFoundError:
        pass
    try:
        return archive.size(folder / archive.NAME)
    except FileNotFoundError:
        return 0


def exists(folder: Path) -> bool:
    """Is there a log, in either form? Blocks."""
    return (folder / "log").exists() or (folder / archive.NAME).exists()


def stored(folder: Path, limit: int) -> tuple[Path, int] | None:
    """(file, bytes): the beginning of a file that is the first `limit` bytes of a log as Zstandard frames. Blocks."""
    path = folder / archive.NAME
    try:
        count = archive.stored(path, limit)
    except FileNotFoundError:
        return None
    return None if count is None else (path, count)


def offset_at(folder: Path, moment: datetime) -> int:
    """Where what was printed since a moment begins, or up to a second of output earlier. Blocks."""
    wanted = moment.timestamp()
    written = next((at for name in _FORMS if (at := _written(folder / name)) is not None), None)
    if written is not None and written < wanted:
        return size_of(folder)
    return timeline.find(timeline.load(folder), wanted * 1000)


def _written(path: Path) -> float | None:
    """When a log was last written to."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _grown(folder: Path, offset: int) -> bool:
    """Is a log longer than this? Cheap; what is compressed has ended, and is read."""
    try:
        return os.stat(folder / "log").st_size > offset  # noqa: PTH116  (a hot path)
    except FileNotFoundError:
        return (folder / archive.NAME).exists()
