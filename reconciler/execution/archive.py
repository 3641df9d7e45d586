"""Compressed logs: FOLDER/log.zst in the seekable format of Zstandard, which `zstd -d` reads as well.

Independent frames of 256 KiB and a table of their sizes in a last, skippable frame, so that any offset is read without
what is before it. `compress` is called by `execution.run` after a trial's end has been stored and by the retention
pass; `execution.logs` reads. It does not know which logs have ended: who calls `compress` does.

Seekable format: https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from struct import Struct, error
from typing import BinaryIO

from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from reconciler.errors import Stalled

NAME = "log.zst"
FETCHING = "fetching"
"""A file beside a log that comes from another machine and is not whole yet."""
FRAME = 256 << 10
WORTH = 64 << 10
_LEVEL = 3
_SKIPPABLE = 0x184D2A5E
_SEEKABLE = 0x8F92EAB1
_HEAD = Struct("<II")
_ENTRY = Struct("<II")
_FOOT = Struct("<IBI")
_CHECKSUMS = 0x80
_LOCK = threading.Lock()
_AT_WORK: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Table:
    """Where frames begin, in the file and in the log; one more than there are, for the ends."""

    stored: tuple[int, ...]
    plain: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return self.plain[-1]


def compress(folder: Path) -> bool:
    """Replace the log of a script that has ended by its compressed form; blocks. True: that is how it is kept now.

    Small logs stay as they are, and so does one that is not complete. It can be killed anywhere and done again.
    OSError when there is no room for it; the log is not changed then. The folder's other traces of the end go as well.
    False as well while another thread is at it.
    """
    with _LOCK:
        if folder in _AT_WORK:
            return False
        _AT_WORK.add(folder)
    try:
        return _compress(folder)
    finally:
        with _LOCK:
            _AT_WORK.discard(folder)


def _compress(folder: Path) -> bool:
    log, packed, temporary = folder / "log", folder / NAME, folder / f"{NAME}.tmp"
    temporary.unlink(missing_ok=True)
    if (folder / "raw").exists() or (folder / FETCHING).exists():
        return False
    for name in ("end", "end.tmp"):
        (folder / name).unlink(missing_ok=True)
    if packed.exists():
        log.unlink(missing_ok=True)
        return True
    if not log.exists() or log.stat().st_size < WORTH:
        return False
    try:
        _write(log, temporary)
        temporary.replace(packed)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(folder)
    log.unlink()
    return True


def size(path: Path) -> int:
    """Bytes of the log that a file holds; FileNotFoundError."""
    with path.open("rb") as file:
        return _table(file).size


def read(path: Path, offset: int, limit: int) -> bytes:
    """Up to `limit` bytes of the log from `offset`; decompresses only the frames they lie in. FileNotFoundError."""
    with path.open("rb") as file:
        table = _table(file)
        end = min(offset + limit, table.size)
        parts = [_frame(file, table, index) for index in _between(table, offset, end)]
        first = next((start for start in reversed(table.plain) if start <= offset), 0)
        return b"".join(parts)[offset - first : end - first] if parts else b""


def stored(path: Path, limit: int) -> int | None:
    """Bytes of the file that are exactly the first `limit` bytes of the log as whole frames; None when none are."""
    with path.open("rb") as file:
        table = _table(file)
    return table.stored[table.plain.index(limit)] if limit in table.plain else None


def _between(table: Table, offset: int, end: int) -> Iterator[int]:
    for index, (start, stop) in enumerate(zip(table.plain, table.plain[1:], strict=False)):
        if start < end and stop > offset:
            yield index


def _frame(file: BinaryIO, table: Table, index: int) -> bytes:
    start, end = table.stored[index], table.stored[index + 1]
    expected = table.plain[index + 1] - table.plain[index]
    try:
        data = ZstdDecompressor().decompress(os.pread(file.fileno(), end - start, start), FRAME)
    except ZstdError as fault:
        raise _damaged(file) from fault
    if len(data) != expected:
        raise _damaged(file)
    return data


def _table(file: BinaryIO) -> Table:
    """The table at a file's end."""
    whole = os.fstat(file.fileno()).st_size
    try:
        foot = os.pread(file.fileno(), _FOOT.size, max(0, whole - _FOOT.size))
        count, flags, magic = _FOOT.unpack(foot)
        start = whole - _FOOT.size - count * _ENTRY.size - _HEAD.size
        if magic != _SEEKABLE or flags & _CHECKSUMS or start < 0:
            raise _damaged(file)
        found = os.pread(file.fileno(), count * _ENTRY.size, start + _HEAD.size)
        pairs = list(_ENTRY.iter_unpack(found))
    except error as fault:
        raise _damaged(file) from fault
    table = Table(
        tuple(accumulate((pair[0] for pair in pairs), initial=0)),
        tuple(accumulate((pair[1] for pair in pairs), initial=0)),
    )
    if table.stored[-1] != start:
        raise _damaged(file)
    return table


def _damaged(file: BinaryIO) -> Stalled:
    return Stalled("LogDamaged", f"{file.name} is not what was written there; restore it from a backup")


def _write(source: Path, target: Path) -> None:
    packer = ZstdCompressor(level=_LEVEL, write_checksum=True)
    entries: list[bytes] = []
    with source.open("rb", buffering=0) as plain, _private(target) as file:
        while chunk := _exactly(plain.fileno(), FRAME):
            frame = packer.compress(chunk)
            file.write(frame)
            entries.append(_ENTRY.pack(len(frame), len(chunk)))
        body = b"".join(entries) + _FOOT.pack(len(entries), 0, _SEEKABLE)
        file.write(_HEAD.pack(_SKIPPABLE, len(body)) + body)
        file.flush()
        found = os.fstat(plain.fileno())
        # when it was last written to is when its script last printed
        os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(file.fileno())


def _exactly(handle: int, count: int) -> bytes:
    """The next bytes of a file; fewer at its end only."""
    chunk = os.read(handle, count)
    while chunk and len(chunk) < count and (more := os.read(handle, count - len(chunk))):
        chunk += more
    return chunk


def _private(path: Path) -> BinaryIO:
    """A new file to write."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
