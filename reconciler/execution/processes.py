"""Reads /proc: which processes there are, whose children, in whose session, with which cookie.

Called by the supervisor module when it re-attaches, stops or sweeps; never needed for a run that simply ends. Also what
the processes that we start inherit of ours, where that does harm.
Signals go through a pidfd after the start time was compared again, so that a reused pid is never hit. It
decides nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

COOKIE = "STEERSMAN_RUN"
_LONGEST_COPY = 5.0
_DEAD = "ZXx"


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat. `started`, in ticks since boot, names a process together with its pid."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def alive(self) -> bool:
        """A zombie is dead: it runs nothing any more."""
        return self.state not in _DEAD


@cache
def boot_id() -> str:
    """Identity of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def spare_children() -> None:
    """Signals that this process was started to ignore (`nohup`, a shell's `&`) are ignored by it alone.

    A program inherits what is ignored, and a shell cannot even undo it; what is handled it does not inherit.
    """
    # two that Python itself ignores it gives back to its children
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)


def _nothing(_number: int, _frame: object) -> None:
    """What a process does that ignores a signal."""


def await_copies(path: str | Path, directory: int | None = None) -> None:
    """Waits until nobody has a file open for writing any more; until then it cannot be executed (ETXTBSY).

    For one that was just written here: a process that another thread starts meanwhile has a copy of all descriptors
    until it has become its program. Blocks, most often for no time. `directory`: what a relative path begins at.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return  # then nobody can execute it either
    try:
        # a lease to read is given only while nobody writes; who breaks it is told by a signal that ends nothing
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        until = time.monotonic() + _LONGEST_COPY
        while _is_written(handle) and time.monotonic() < until:
            time.sleep(0.001)
    finally:
        os.close(handle)


def _is_written(handle: int) -> bool:
    """Has somebody this file open for writing? Not known on file systems without leases."""
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def age(started: int) -> float:
    """Seconds since a process started, of which this is the start time; no change of the clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def look(pid: int) -> Process | None:
    """The process with this pid now; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (a hot path)
            line = file.read()
    except OSError:
        return None
    # the second field is the command's name in parentheses and may hold anything, also ')'
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    state, parent, group, session = fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3])
    return Process(pid, state, parent, group, session, int(fields[19]))


def everything() -> dict[int, Process]:
    """All processes that can be seen, by pid."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return {process.pid: process for process in found if process is not None}


def descendants(processes: dict[int, Process], root: int) -> set[int]:
    """Pids below `root` in the tree of parents, without it."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def with_cookie(cookie: str, pids: Iterable[int]) -> set[int]:
    """Those of `pids` started with STEERSMAN_RUN=`cookie`. Processes of other users are not seen."""
    wanted = f"{COOKIE}={cookie}".encode()
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            if wanted in file.read().split(b"\0"):
                found.add(pid)
    return found


def send(process: Process, number: signal.Signals) -> bool:
    """Signals exactly this process, never a later one with its pid. False when it is gone or not ours."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = look(process.pid)
        if now is None or now.started != process.started or not now.alive:
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
