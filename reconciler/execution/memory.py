"""Files that never come to the disk: as descriptors for bubblewrap, or in a folder of a file system in memory.

Secrets of sandboxed scripts go by `descriptor`; containers and bare scripts, which take paths only, by `Memory`: one
folder a run, 0700, removed with the run and swept at the daemon's start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import Stalled

SHARED = Path("/dev/shm")  # noqa: S108  - what lies there is ours alone: the folder is 0700
_FIRST = 64  # above what shells use for themselves
_TMPFS = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Held:
    """A file's content, its permissions, and where a script finds it (as in its sandbox); `key`: whose it is."""

    place: str
    mode: int
    content: bytes = field(repr=False)
    key: str = ""


def descriptor(content: bytes, name: str = "secret") -> int:
    """A file in memory, to be read from its beginning; who asked closes it."""
    handle = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(handle, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(handle, 0, os.SEEK_SET)
        return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Memory:
    """The folders of one installation, below one that is named after it."""

    root: Path

    @classmethod
    def of(cls, instance: str) -> Memory:
        """Those of the data directory with this mark."""
        return cls(SHARED / f"steersman-{instance}")

    def folder(self, run: str) -> Path:
        """A run's folder, made where it is missing. Stalled where there is no file system in memory."""
        if not self.root.is_dir() and _kind(self.root.parent) not in _TMPFS:
            raise Stalled(
                "NoMemoryFiles",
                f"secrets are given to containers and bare scripts by {self.root.parent}, which is no file system "
                "in memory on this machine",
            )
        self.root.mkdir(mode=0o700, exist_ok=True)
        found = self.root.lstat()
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.geteuid()
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise Stalled("NoMemoryFiles", f"{self.root} is not the daemon's own folder; remove it")
        place = self.root / run
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def remove(self, run: str) -> None:
        """A run's folder, if it had one."""
        shutil.rmtree(self.root / run, ignore_errors=True)

    def close(self) -> None:
        """Nothing starts any more: the folder of all goes, unless a script still uses its own."""
        with suppress(OSError):
            self.root.rmdir()

    def sweep(self, live: Collection[str]) -> None:
        """All but those of these runs."""
        for path in self.root.iterdir() if self.root.is_dir() and not self.root.is_symlink() else ():
            if path.name not in live:
                shutil.rmtree(path, ignore_errors=True)


def write(folder: Path, name: str, content: bytes, mode: int) -> Path:
    """A file in a run's folder; its path."""
    path = folder / name
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    return path


def _kind(path: Path) -> str:
    """The type of the file system that is mounted at a path; empty: none is."""
    found = ""
    with Path("/proc/self/mounts").open(encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(" ")
            if len(words) > 2 and words[1] == str(path):
                found = words[2]
    return found
