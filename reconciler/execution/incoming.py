"""A file that comes in pieces and is kept once it is whole: under the digest that is found on the way.

Made by `AttachmentStore.receive`, filled by `commands.attachments` in threads, as all of this blocks. What is not
whole is never seen; what a killed daemon leaves is cleared with the rest of the store's unfinished files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class TooLargeError(Exception):
    """It has more bytes than may be kept; `limit` is how many may."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class Incoming:
    """One file on its way in; it is to be closed, and is dropped then unless it was finished."""

    def __init__(self, folder: Path, limit: int, settle: Callable[[Path, str, int], None]) -> None:
        handle, name = tempfile.mkstemp(dir=folder)
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._limit = limit
        self._settle = settle
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, piece: bytes) -> None:
        """What comes next. TooLargeError; OSError when the store cannot be written, a full disk for one."""
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLargeError(self._limit)
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> tuple[str, int]:
        """Keep it; its digest, and its size in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = self._digest.hexdigest()
        self._settle(self._path, digest, self._size)
        return digest, self._size

    def close(self) -> None:
        """Drop it, unless it was kept."""
        self._file.close()
        self._path.unlink(missing_ok=True)
