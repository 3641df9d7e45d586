"""The points at which a daemon can be killed: before and after each commit, spawn and rename of its process.

`install` is called by `tests.crash.launcher` in the daemon's own process, before any of its code runs. It changes
nothing of what the daemon does: it counts, writes each point to a file, and kills the process where it is told.
Spawns and renames are seen by Python's audit events, which nothing escapes; commits by SQLAlchemy's dialects.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine.default import DefaultDialect

When = Literal["before", "after"]
BEFORE: When = "before"
AFTER: When = "after"
KINDS = {
    "subprocess.Popen": "spawn",
    "os.posix_spawn": "spawn",
    "os.fork": "spawn",
    "os.forkpty": "spawn",
    "os.exec": "spawn",
    "os.rename": "rename",
    "os.link": "rename",
}
"""Audit events by kind of point; `os.rename` is also what os.replace raises."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Die with KILL right before or after the point with this number; the first one is 1."""

    number: int
    when: When

    def __str__(self) -> str:
        return f"{self.when} {self.number}"


@dataclass(frozen=True, slots=True)
class Point:
    """One point as it was passed: its number, kind, and what it was about."""

    number: int
    kind: str
    what: str


def read(path: Path) -> list[Point]:
    """The points that a process wrote down; the last one may be the one before which it died."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    words = (line.split(" ", 2) for line in lines)
    return [Point(int(number), kind, what) for number, kind, what in words]


def by_kind(points: list[Point]) -> dict[str, int]:
    """How many there are of each kind."""
    return dict(sorted(Counter(point.kind for point in points).items()))


def install(record: Path, kill: Kill | None) -> None:
    """Count the points of this process from now on, into `record`; die at `kill`."""
    _Counter(record, kill).install()


class _Counter:
    """Numbers points in the order in which they are come to; threads take turns."""

    def __init__(self, record: Path, kill: Kill | None) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self._reached = 0
        self._mine = threading.local()
        self._handle = os.open(
            record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )

    def install(self) -> None:
        sys.addaudithook(self._audit)
        for owner, name in (
            (subprocess.Popen, "_execute_child"),
            (os, "posix_spawn"),
            (os, "rename"),
            (os, "replace"),
            (os, "link"),
        ):
            setattr(owner, name, self._then(getattr(owner, name)))
        for dialect in _dialects():
            dialect.do_commit = self._committing(dialect.do_commit)  # type: ignore[method-assign]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        kind = KINDS.get(event)
        if kind is not None:
            self._before(kind, _shown(event, arguments))

    def _before(self, kind: str, what: str) -> None:
        with self._lock:
            self._reached += 1
            self._mine.number = number = self._reached
            os.write(self._handle, f"{number} {kind} {what}\n".encode())
            self._die(number, BEFORE)

    def _after(self) -> None:
        """What this thread came to last is done."""
        self._die(getattr(self._mine, "number", 0), AFTER)

    def _die(self, number: int, when: When) -> None:
        if self._kill == Kill(number, when):
            os.kill(os.getpid(), signal.SIGKILL)

    def _then(self, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def done(*arguments: Any, **named: Any) -> Any:
            result = work(*arguments, **named)
            self._after()
            return result

        return done

    def _committing(self, commit: Callable[..., None]) -> Callable[..., None]:
        @wraps(commit)
        def committed(dialect: Any, connection: Any) -> None:
            self._before("commit", dialect.name)
            commit(dialect, connection)
            self._after()

        return committed


def _dialects() -> list[type[DefaultDialect]]:
    """All that commit by a method of their own, the common one among them."""
    found: list[type[DefaultDialect]] = [DefaultDialect]
    for dialect in found:
        found += dialect.__subclasses__()
    return [dialect for dialect in dict.fromkeys(found) if "do_commit" in vars(dialect)]


def _shown(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "subprocess.Popen":
        words = arguments[1]
        text = words if isinstance(words, str | bytes) else " ".join(os.fsdecode(word) for word in words[:4])
    elif event in ("os.rename", "os.link"):
        text = f"{os.fspath(arguments[0])} {os.fspath(arguments[1])}"
    else:
        text = event
    return repr(text)[1:-1]
