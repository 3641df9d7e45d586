"""Members of an archive put below a folder, whatever lies there and whatever they are called.

Called by `execution.caches` and `execution.packages`, in threads. Folders are walked by descriptors without following
any link, so that no member lands outside; which names and links an archive may hold, its reader decides before.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from pathlib import Path
from typing import IO

from reconciler.execution import holes, leftovers, processes

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Members:
    """Of one archive, on their way below `folder`; they may take `room` bytes of the disk, None: all there is."""

    def __init__(self, folder: Path, room: int | None = None) -> None:
        self._folder = folder
        self._room = room
        self._taken = 0
        # the outermost of what was made
        self._made: set[tuple[str, ...]] = set()

    def put(self, parts: tuple[str, ...], info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """One member at a path of plain names, below real directories only; what is there already stays as it is.

        OSError where the folder does not take it: a link in the way, a full disk, no room.
        """
        parent = os.open(self._folder, _DIRECTORY)
        try:
            for depth, part in enumerate(parts[:-1], 1):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=parent)
                    self._note(parts[:depth])
                below = os.open(part, _DIRECTORY, dir_fd=parent)
                os.close(parent)
                parent = below
            with contextlib.suppress(FileExistsError):
                self._make(parent, parts, info, archive)
        finally:
            os.close(parent)

    def undo(self) -> None:
        """Remove them again; what was there before stays."""
        leftovers.remove([self._folder.joinpath(*parts) for parts in sorted(self._made)])
        self._made.clear()

    def _note(self, parts: tuple[str, ...]) -> None:
        if not any(parts[:depth] in self._made for depth in range(1, len(parts))):
            self._made.add(parts)

    def _make(
        self, parent: int, parts: tuple[str, ...], info: tarfile.TarInfo, archive: tarfile.TarFile
    ) -> None:
        name, mode = parts[-1], info.mode & 0o777
        if info.isdir():
            os.mkdir(name, mode | 0o700, dir_fd=parent)
            self._note(parts)
        elif info.issym():
            os.symlink(info.linkname, name, dir_fd=parent)
            self._note(parts)
        elif info.isreg():
            with os.fdopen(os.open(name, _NEW, mode | 0o200, dir_fd=parent), "wb") as target:
                self._note(parts)
                self._fill(target, archive.extractfile(info))
                os.utime(target.fileno(), (info.mtime, info.mtime))
            if mode & 0o100:
                processes.await_copies(name, parent)

    def _fill(self, target: IO[bytes], source: IO[bytes] | None) -> None:
        while source is not None and (block := source.read(holes.BLOCK)):
            self._taken += holes.write(target, block)
            if self._room is not None and self._taken > self._room:
                raise OSError(f"there is no room for it: {self._room:,} bytes are left of limits.disk_bytes")
        target.truncate()
