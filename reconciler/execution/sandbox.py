"""Builds the bubblewrap command line that a script runs under: what it sees, and nothing else (design 7.3).

Called by `execution.run` before `supervisor.start`. The view is an allow-list: programs and libraries
read-only, of /etc what programs need, a private /tmp and home, the workspace, the paths that the executor
names. It never passes an environment (`supervisor` does, outside of any argv), never starts the script and
never falls back to running bare.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from reconciler.errors import Stalled
from reconciler.execution import etc, memory, seccomp

WORKSPACE = "/workspace"
HOME = "/home/steersman"
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt")
_OWN = ("proc", "dev", "sys", "tmp", "run", "home", WORKSPACE[1:], "root", "lost+found")
_INSTALL_RIGHTS = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP",
)  # fmt: skip
_KEPT = 60
_ETC = threading.Lock()
_REFUSED = ("/proc", "/sys/fs/cgroup", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh")


class SandboxRefused(Stalled):
    """The sandbox cannot be built as declared; the message is a sentence for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__("SandboxRefused", message)


@dataclass(frozen=True, slots=True)
class View:
    """What a script sees beside the system.

    `workspace` is /workspace, writable; `tmp` and `home` are folders of the disk for /tmp and HOME (without them:
    memory). `readable` and `writable` are host paths, at their own place. `files` are single host files and
    `folders` directories with the place inside where they are bound read-only; `outputs` single files or pipes
    that can be written. `root` is a directory with a system of its own in place of the machine's; `copied`: it is
    a private copy, of this trial; `installs`: packages may be installed into it, with the rights that installing needs.
    Nothing of `hidden` (the daemon's data directory) can be seen but what is named here, and `key_file` not at all.
    `memory` are folders inside that are in memory. `survivors`: what the script leaves running outlives it.
    """

    workspace: Path
    hidden: Path
    network: Literal["none", "host"] = "host"
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    folders: tuple[tuple[Path, str], ...] = ()
    outputs: tuple[tuple[Path, str], ...] = ()
    tmp: Path | None = None
    home: Path | None = None
    root: Path | None = None
    copied: bool = False
    installs: bool = False
    survivors: bool = False
    key_file: Path | None = None
    memory: tuple[str, ...] = ()
    start: str = WORKSPACE


@dataclass(frozen=True, slots=True)
class _Found:
    """A bubblewrap that works with these arguments, or the sentence that says why there is none."""

    path: str | None
    privileges: tuple[str, ...] = ()
    why: str = ""


def bubblewrap() -> str | None:
    """Path of a bubblewrap that works here, tried once by running it; None: `why_not` says why."""
    return _found().path


def why_not() -> str:
    """Why there is no sandbox here; empty when there is one."""
    return _found().why


@cache
def _found() -> _Found:
    path = shutil.which("bwrap") or shutil.which("bwrap", path=os.defpath)
    if path is None:
        return _Found(None, why="bubblewrap (the program bwrap) is not installed")
    answer = ""
    for privileges in _privileges():
        argv = (
            path,
            *privileges,
            *_namespaces("none"),
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        )
        handle = memory.descriptor(seccomp.FILTER, "filter")
        filtered = ("--seccomp", str(handle)) if seccomp.FILTER else ()
        try:
            done = subprocess.run(
                (*argv, *filtered, "--", "/bin/sh", "-c", ":"),
                capture_output=True,
                timeout=20,
                pass_fds=(handle,),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return _Found(None, why=f"{path} cannot be run: {error}")
        finally:
            os.close(handle)
        if done.returncode == 0:
            return _Found(path, privileges)
        answer = done.stderr.decode(errors="replace").strip()
    return _Found(None, why=f"{path} does not work on this machine: {answer}")


def _privileges() -> tuple[tuple[str, ...], ...]:
    """Ways to drop rights, the best first. Root in a container may need a user namespace for the others."""
    if os.geteuid() == 0:
        return (("--cap-drop", "ALL"), ("--unshare-user", "--cap-drop", "ALL"))
    return (("--unshare-user",),)


def _namespaces(network: str) -> tuple[str, ...]:
    names = ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session")
    return (*names, "--unshare-net") if network == "none" else names


def wrap(argv: Sequence[str], view: View) -> tuple[str, ...]:
    """The command line that runs `argv` in the view. SandboxRefused with a sentence when that cannot be.

    Descriptor 3 receives bubblewrap's reports; `supervisor.start` adds the environment, and files in memory before
    --chdir. HOME has to be set to `sandbox.HOME` by the caller, /tmp is the place for temporary files.
    """
    found = _found()
    if found.path is None:
        raise SandboxRefused(f"scripts cannot be isolated: {found.why}")
    ours = (view.hidden,) if view.key_file is None else (view.hidden, view.key_file)
    asked = [*_asked(view.readable, "--ro-bind", ours), *_asked(view.writable, "--bind", ours)]
    system = _machine(view) if view.root is None else _root(view.root, view)
    return (
        found.path,
        *("--json-status-fd", "3"),
        *(() if view.survivors else ("--die-with-parent",)),
        *found.privileges,
        *(_installing() if view.installs else ()),
        *_namespaces(view.network),
        *("--hostname", "steersman"),
        *system,
        *("--proc", "/proc", "--dev", "/dev"),
        *_settled(),
        *(word for path in ours for word in _covered(path)),
        *_scratch(view),
        *asked,
        *("--bind", str(view.workspace.absolute()), WORKSPACE),
        *_singles(view.files, "--ro-bind"),
        *_folders(view.folders),
        *_singles(view.outputs, "--bind"),
        *(word for place in view.memory for word in ("--perms", "0700", "--tmpfs", place)),
        *("--chdir", view.start),
        *(() if view.installs else ("--remount-ro", "/")),
        "--",
        *argv,
    )


def _scratch(view: View) -> Iterator[str]:
    """Private /tmp and home: on the disk, where limits count them, or in memory."""
    if view.tmp is None:
        yield from ("--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108
    else:
        yield from ("--bind", str(view.tmp.absolute()), "/tmp")  # noqa: S108
    if view.root is None:
        yield from ("--symlink", "/tmp", "/var/tmp")  # noqa: S108
    yield from ("--dir", "/run")
    if view.home is None:
        yield from ("--tmpfs", "/home", "--dir", HOME)
    else:
        yield from ("--bind", str(view.home.absolute()), HOME)


def _installing() -> tuple[str, ...]:
    """What package tools need, inside of a copy that nobody else uses."""
    as_root = () if os.geteuid() == 0 else ("--uid", "0", "--gid", "0")
    return (*as_root, *(word for right in _INSTALL_RIGHTS for word in ("--cap-add", right)))


def _etc(hidden: Path, network: str) -> Path:
    """The copy of /etc, looked after once a minute; the first trials wait for one, and do not each make it."""
    with _ETC:
        return _etc_now(hidden, network, int(time.monotonic() // _KEPT))


@lru_cache(maxsize=4)
def _etc_now(hidden: Path, network: str, _minute: int) -> Path:
    """Comparing it takes a hundred looks at the disk."""
    return etc.copy(hidden.absolute() / "sandbox", network=network == "host")


def _settled() -> tuple[str, ...]:
    """Keeps the kernel's settings from root: even without any right it may write /proc/sys/kernel/core_pattern."""
    return ("--remount-ro", "/proc") if os.geteuid() == 0 else ()


def _machine(view: View) -> Iterator[str]:
    """The machine's programs and libraries, and of its /etc what programs need."""
    yield from _system()
    yield from ("--ro-bind", str(_etc(view.hidden, view.network)), "/etc")


def _root(root: Path, view: View) -> Iterator[str]:
    """A directory's own system, but for what every sandbox has of its own."""
    if not root.is_dir():
        raise SandboxRefused(f"the image's root {str(root)!r} is no directory of this machine")
    for path in () if view.copied else (view.hidden, *((view.key_file,) if view.key_file else ())):
        ours = path.resolve()
        if _contains(root.resolve(), ours) or _contains(ours, root.resolve()):
            raise SandboxRefused(f"the image's root {str(root)!r} would show the daemon's own {ours}")
    if view.installs:
        yield from ("--bind", str(root.absolute()), "/")
    for path in sorted(root.iterdir() if not view.installs else ()):
        if path.name in _OWN:
            continue
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), f"/{path.name}")
        else:
            yield from ("--ro-bind", str(path.absolute()), f"/{path.name}")
    if view.network == "host" and (root / "etc/resolv.conf").is_file():
        yield from ("--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf")


@cache
def _system() -> tuple[str, ...]:
    """Programs and libraries, arranged as on the host: a merged /usr has links at the root."""
    words: list[str] = []
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            words += ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            words += ("--ro-bind", str(path), str(path))
    return tuple(words)


@lru_cache(maxsize=16)
def _covered(hidden: Path) -> tuple[str, ...]:
    """Hides a data directory, or a key file, that lies among the programs, as /opt/steersman/data would."""
    ours = hidden.resolve()
    if not any(_contains(Path("/", name).resolve(), ours) for name in _SYSTEM):
        return ()
    return ("--ro-bind", "/dev/null", str(ours)) if ours.is_file() else ("--tmpfs", str(ours))


def shown(executor: Mapping[str, Any], ours: Sequence[Path]) -> Iterator[tuple[Path, str, bool]]:
    """The host paths that an executor shows: (path, place inside, writable); refused as in `wrap`."""
    for field, writable in (("readable", False), ("writable", True)):
        for text in executor.get(field) or ():
            yield _allowed(text, ours), os.path.normpath(text), writable


def _asked(paths: tuple[str, ...], how: str, ours: Sequence[Path]) -> Iterator[str]:
    for text in paths:
        yield from (how, str(_allowed(text, ours)), os.path.normpath(text))


def _allowed(text: str, hidden: Sequence[Path]) -> Path:
    """The real place of a path that an executor names; refused when missing or when it would show ours."""
    if not text.startswith("/") or "\0" in text:
        raise SandboxRefused(f"{text!r} cannot be shown to scripts: it is no absolute path")
    if ".." in Path(text).parts:
        raise SandboxRefused(f"{text!r} cannot be shown to scripts: it has '..' in it")
    real = Path(text).resolve()
    if not real.exists():
        raise SandboxRefused(f"{text!r} cannot be shown to scripts: it does not exist on this machine")
    for ours, what in zip((path.resolve() for path in hidden), ("data directory", "key file"), strict=False):
        if _contains(real, ours) or _contains(ours, real):
            raise SandboxRefused(
                f"{text!r} cannot be shown to scripts: it would show the daemon's {what} {ours}"
            )
    for refused in map(Path, _REFUSED):
        if _contains(real, refused) or _contains(refused, real):
            raise SandboxRefused(f"{text!r} cannot be shown to scripts: it would show {refused}")
    for place in ("/proc", "/dev", WORKSPACE):
        if _contains(Path(place), Path(os.path.normpath(text))):
            raise SandboxRefused(f"{text!r} cannot be shown to scripts: the sandbox has its own {place}")
    return real


def _contains(outer: Path, inner: Path) -> bool:
    return inner == outer or outer in inner.parents


def _singles(files: tuple[tuple[Path, str], ...], how: str) -> Iterator[str]:
    for source, place in files:
        yield from (how, os.path.abspath(source), place)  # noqa: PTH100


def _folders(folders: tuple[tuple[Path, str], ...]) -> Iterator[str]:
    for source, place in folders:
        yield from ("--ro-bind", str(source.absolute()), place)
