"""The data directory of a daemon or a worker: held by one process at a time, with the folders that trials need."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from reconciler.errors import Stalled

_FOLDERS = ("runs", "workspaces", "mirrors", "attachments")


def take(data: Path) -> TextIO:
    """Make it, and hold it until the file is closed; a second process on it refuses to start. `Stalled`."""
    file = _lock(data)
    (data / ".gitignore").write_text("*\n", encoding="utf-8")  # a data directory never goes into Git
    for name in _FOLDERS:
        (data / name).mkdir(mode=0o700, exist_ok=True)
    return file


def _lock(data: Path) -> TextIO:
    try:
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        file = (data / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise Stalled(
            "DataDirectory", f"the data directory {data} cannot be used: {error.strerror}"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise Stalled(
            "DataDirectoryHeld",
            f"the data directory {data} is in use by {holder}; stop it, or give another --data",
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file
