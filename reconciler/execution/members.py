"""Members of an archive put below a folder, whatever lies there and whatever they are called.

Called by `execution.caches` and `execution.packages`, in threads. Folders are walked by descriptors without following
any link, so that no member lands outside; which names and links an archive may hold, its reader decides before.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from reconciler.execution import processes

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20


def put(folder: Path, parts: Sequence[str], info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    """One member at a path of plain names, below real directories only; what is there already stays as it is.

    OSError where the folder does not take it: a link in the way, a full disk.
    """
    parent = os.open(folder, _DIRECTORY)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            below = os.open(part, _DIRECTORY, dir_fd=parent)
            os.close(parent)
            parent = below
        with contextlib.suppress(FileExistsError):
            _make(parent, parts[-1], info, archive)
    finally:
        os.close(parent)


def _make(parent: int, name: str, info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    mode = info.mode & 0o777
    if info.isdir():
        os.mkdir(name, mode | 0o700, dir_fd=parent)
    elif info.issym():
        os.symlink(info.linkname, name, dir_fd=parent)
    elif info.isreg():
        source = archive.extractfile(info)
        with os.fdopen(os.open(name, _NEW, mode | 0o200, dir_fd=parent), "wb") as target:
            while source is not None and (block := source.read(_BLOCK)):
                target.write(block)
            os.utime(target.fileno(), (info.mtime, info.mtime))
        if mode & 0o100:
            processes.await_copies(name, parent)
