"""Reads the logs of scripts by byte offset, live or afterwards.

Called by the queries that serve logs and by the event streams. A log only ever grows, so readers share
nothing but the file: following costs one `stat` in 0.1 s, cheap with hundreds of readers. It never writes,
masks or compresses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

CHUNK = 64 << 10
_POLL = 0.1


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
    """Log files of scripts. Holds nothing; a class, so that masked and compressed logs can take its place."""

    async def read(self, path: Path, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes from `offset`; empty beyond the end or when there is no log yet."""
        return await asyncio.to_thread(_read, path, offset, limit)

    async def size(self, path: Path) -> int:
        """Bytes in the log now."""
        return _size(path)

    async def follow(
        self, path: Path, offset: int, ended: Callable[[], bool], *, poll: float = _POLL
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yields (offset after the chunk, chunk) as the log grows, until `ended()` and all has been read.

        Chunks are at most 64 KiB and end at a character's border, except the very last one.
        """
        while True:
            # asked before the size: what was written until the end is in the file by then
            last = ended()
            chunk = await self.read(path, offset, CHUNK) if _size(path) > offset else b""
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


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  (a hot path)
    except FileNotFoundError:
        return 0


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), max(limit, 0), max(offset, 0))
    except FileNotFoundError:
        return b""
