"""The sparse time index of one script's log: FOLDER/index.

`execution.recorder` appends to it while the script runs, `execution.logs` looks times up in it. An entry says: at this
time the log ended here, and so did what the raw output before this border becomes. A log that grows gets one a second:
so what lies between two entries was printed within a second of the first one. After a time in which nobody looked there
is an entry with the offset of the one before. Entries have a fixed size: one that a kill tore is seen as such. The
index never decides what is in a log.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

NAME = "index"
EVERY = 1000  # milliseconds between two entries
LOOK = 80  # milliseconds between two looks at a log that may grow
_ENTRY = Struct("<QQQ")
SIZE = _ENTRY.size
"""Bytes of an entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`: milliseconds since 1970; `log`, `raw`: offsets in the log and in the raw output."""

    at: int
    log: int
    raw: int


def load(folder: Path) -> list[Entry]:
    """All whole entries up to the first one that cannot be; none when there is no index."""
    try:
        data = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return []
    whole = memoryview(data)[: len(data) // _ENTRY.size * _ENTRY.size]
    found: list[Entry] = []
    last = Entry(1, 0, 0)
    for fields in _ENTRY.iter_unpack(whole):
        entry = Entry(*fields)
        if entry.at < last.at or entry.log < last.log or entry.raw < last.raw:
            break  # what a power cut left behind
        found.append(entry)
        last = entry
    return found


def find(entries: list[Entry], moment: float) -> int:
    """Where what was printed since a moment (milliseconds since 1970) begins, or a second of output earlier."""
    index = bisect_right(entries, moment, key=lambda entry: entry.at) - 1
    if index < 0:
        return 0
    late = moment > entries[index].at + EVERY + LOOK and index + 1 < len(entries)
    return entries[index + 1 if late else index].log


def keep(folder: Path, entries: int) -> None:
    """Cut off what is behind the first so many entries: torn, or of a log that a power cut made shorter."""
    path = folder / NAME
    if path.exists() and path.stat().st_size != entries * _ENTRY.size:
        os.truncate(path, entries * _ENTRY.size)


def append(folder: Path, entry: Entry) -> None:
    """One more entry; OSError when it cannot be written whole."""
    data = _ENTRY.pack(entry.at, entry.log, entry.raw)
    handle = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.write(handle, data) != len(data):
            raise OSError(f"{folder / NAME} could not be written whole")
    finally:
        os.close(handle)
