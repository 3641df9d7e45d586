"""The data directory of a daemon or a worker: held by one process at a time, with the folders that trials need."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TextIO

from reconciler.errors import Stalled
from reconciler.execution import processes

_HOLDER = "process "
_LONGEST_COPY = 5.0
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
    until = time.monotonic() + _LONGEST_COPY
    while not _locked(file):
        file.seek(0)
        holder = file.read().strip()
        # a process that the holder was starting when it was killed has a copy of what was open, until it is its program
        if _is_alive(holder) or time.monotonic() > until:
            file.close()
            raise Stalled(
                "DataDirectoryHeld",
                f"the data directory {data} is in use by {holder or 'another process'}; stop it, or give another "
                "--data",
            )
        time.sleep(0.02)
    file.truncate(0)
    file.write(f"{_HOLDER}{os.getpid()}")
    file.flush()
    return file


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(holder: str) -> bool:
    """Does the process still run that a lock names? Not known of another machine's, or where none is named."""
    number = holder.removeprefix(_HOLDER)
    found = processes.look(int(number)) if number.isdigit() else None
    return found is not None and found.alive
