"""Control groups that bound the processes and memory of one script, where the system offers them (design 7.2).

Called by `execution.run`: `make` before a script starts, `supervisor.sh` puts the script in, `finish` after. Both
versions of the kernel's interface; without rights to make groups (no root, nothing delegated) there are none, and
`why_not` says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.execution import processes

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "steersman-"
_OURS = "steersman-daemon"
_NEEDED = ("pids", "memory")
_TRIES = 50
_LOOKING = threading.Lock()
_FOUND: list[_Tree] = []


@dataclass(frozen=True, slots=True)
class _Tree:
    """Where groups can be made: folder by controller; `unified`: one folder serves all."""

    folders: Mapping[str, Path]
    unified: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group saw: `out_of_memory`, a process was ended because the limit on memory was reached."""

    out_of_memory: bool


def offered() -> frozenset[str]:
    """Of `pids` and `memory` those that can be bounded here."""
    return frozenset(_tree().folders)


def why_not() -> str:
    """Why some of them cannot; empty when all can."""
    return _tree().why


def make(name: str, pids: int | None, memory_bytes: int | None) -> tuple[str, ...]:
    """Make the groups of one script; the files that a process writes 0 into to enter them. Blocks briefly."""
    tree = _tree()
    wanted = {"pids": pids, "memory": memory_bytes}
    entrances: dict[str, None] = {}
    for controller, limit in wanted.items():
        if limit is None or controller not in tree.folders:
            continue
        group = tree.folders[controller] / f"{_PREFIX}{name}"
        with contextlib.suppress(FileExistsError):
            group.mkdir()
        _bound(group, controller, limit, tree.unified)
        # a shell is one thread: to move that alone spares version 1 a lock over the whole machine, ten times as slow
        entrances[str(group / ("cgroup.procs" if tree.unified else "tasks"))] = None
    return tuple(entrances)


def end(name: str) -> None:
    """End what an ended script left in its groups. Blocks briefly.

    What left its session and its environment is found here. The groups may have been made by an earlier daemon.
    """
    for group in _made(name):
        _end(group)


def finish(name: str) -> Outcome:
    """The same, and remove the groups; only the first time it is known what they saw."""
    killed = False
    for group in _made(name):
        killed = killed or _killed(group)
        _remove(group)
    return Outcome(killed)


def _made(name: str) -> list[Path]:
    folders = dict.fromkeys(_tree().folders.values())
    return [group for folder in folders if (group := folder / f"{_PREFIX}{name}").is_dir()]


def _tree() -> _Tree:
    """Looked for once, by one thread: another one's probe would make it seem that there is none."""
    if not _FOUND:
        with _LOOKING:
            if not _FOUND:
                _FOUND.append(_look())
    return _FOUND[0]


def _look() -> _Tree:
    try:
        mounted = {}
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            mounted[controllers] = path.lstrip("/")
        if (_ROOT / "cgroup.controllers").is_file():
            return _unified(_ROOT / mounted.get("", ""))
        return _separate(mounted)
    except (OSError, ValueError) as error:
        return _Tree({}, False, f"control groups cannot be used here: {error}")


def _separate(mounted: Mapping[str, str]) -> _Tree:
    """One hierarchy a controller (version 1)."""
    folders, missing = {}, []
    for controller in _NEEDED:
        path = mounted.get(controller)
        folder = None if path is None else _ROOT / controller / path
        if folder is not None and _can_make(folder):
            folders[controller] = folder
        else:
            missing.append(controller)
    why = f"no control group for {' and '.join(missing)} can be made here" if missing else ""
    return _Tree(folders, False, why)


def _unified(own: Path) -> _Tree:
    """One hierarchy for all (version 2): a group with processes cannot hand controllers down, so ours moves aside."""
    if own.name == _OURS:  # an earlier daemon's move, inherited by a restart in place
        own = own.parent
    ours = own / _OURS
    ours.mkdir(exist_ok=True)
    everything = processes.everything()
    for pid in {os.getpid()} | processes.descendants(everything, os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            (ours / "cgroup.procs").write_text(str(pid), encoding="ascii")
    offered = (own / "cgroup.controllers").read_text(encoding="ascii").split()
    found = [controller for controller in _NEEDED if controller in offered]
    (own / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in found), encoding="ascii")
    missing = [controller for controller in _NEEDED if controller not in found]
    why = f"no control group for {' and '.join(missing)} can be made here" if missing else ""
    return _Tree(dict.fromkeys(found, own), True, why)


def _can_make(folder: Path) -> bool:
    trial = folder / f"{_PREFIX}probe-{os.getpid()}"
    try:
        trial.mkdir(exist_ok=True)
        trial.rmdir()
    except OSError:
        return False
    return True


def _bound(group: Path, controller: str, limit: int, unified: bool) -> None:
    if controller == "pids":
        _set(group, "pids.max", limit)
        return
    if unified:
        _set(group, "memory.max", limit)
        with contextlib.suppress(OSError):  # where there is no swap there is no such file
            _set(group, "memory.swap.max", 0)
        return
    _set(group, "memory.limit_in_bytes", limit)
    with contextlib.suppress(OSError):
        _set(group, "memory.memsw.limit_in_bytes", limit)


def _set(group: Path, name: str, value: int) -> None:
    handle = os.open(f"{group}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(handle, b"%d" % value)
    finally:
        os.close(handle)


def _killed(group: Path) -> bool:
    if "memory" not in _tree().folders:
        return False
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError):
            for line in (group / name).read_text(encoding="ascii").splitlines():
                word, _, number = line.partition(" ")
                if word == "oom_kill" and number.strip() != "0":
                    return True
    return False


def _end(group: Path) -> None:
    for _ in range(_TRIES):
        with open(f"{group}/cgroup.procs", "rb") as file:  # noqa: PTH123  (a hot path)
            left = file.read().split()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.005)


def _remove(group: Path) -> None:
    """The kernel lets go of a group shortly after its last process has ended."""
    _end(group)
    for _ in range(_TRIES):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
