"""Daemons as an ordinary user, or on a small disk of their own, in a mount namespace that is theirs alone.

Used by the end-to-end tests. What an ordinary user cannot reach (an interpreter under a home of mode 0700) is bound
there in that namespace; no mode or mount of the machine is changed, and all of it goes with the daemon's last process.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from reconciler.execution import groups
from reconciler.execution.supervisor import cookie
from tests.support import Process, database_for, once, stop

TREE = Path(__file__).parents[1]
SERVE = ("-c", "from api.cli import main; main()", "serve")
# covers what is closed with an empty directory and binds what is needed back into it; then a small disk; then the user
_ENTER = r"""
set -e
user=$1 disk=$2 size=$3
shift 3
hold=$(mktemp -d)
mount -t tmpfs none "$hold"
number=0
for path in $NEEDED; do
    number=$((number + 1))
    mkdir "$hold/$number"
    mount --bind "$path" "$hold/$number"
done
for path in $CLOSED; do
    mount -t tmpfs -o mode=755,size=1m none "$path"
done
number=0
for path in $NEEDED; do
    number=$((number + 1))
    mkdir -p "$path"
    mount --bind "$hold/$number" "$path"
    umount "$hold/$number"
done
umount "$hold"
rmdir "$hold"
if [ -n "$disk" ]; then
    mount -t tmpfs -o "$size" none "$disk"
    chown "${user:-0}" "$disk"
fi
unset NEEDED CLOSED
[ -z "$user" ] && exec "$@"
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"""


@dataclass(frozen=True)
class User:
    """Whom a daemon runs as: `uid` None, whoever runs the tests."""

    name: str
    uid: int | None = None

    @property
    def root(self) -> bool:
        return self.uid is None and os.geteuid() == 0


def users() -> list[User]:
    """Root and an ordinary user, where the tests run as root; else just the one that runs them."""
    if os.geteuid() != 0:
        return [User("ordinary")]
    return [User("root"), User("ordinary", 200_000 + os.getpid() % 50_000)]


@cache
def trouble() -> str:
    """Why no private mount namespace can be made here; empty if one can."""
    missing = [name for name in ("unshare", "mount", "setpriv") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    done = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no mount namespace can be made here: {done.stderr.strip()}"


def _unshare() -> tuple[str, ...]:
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *own, "--mount", "--propagation", "private")


def _closed(path: Path) -> Path | None:
    """The first directory above a path that not everybody may enter."""
    for above in reversed(path.parents):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None


@dataclass
class Disk:
    """A small disk for the data directory: options of the tmpfs."""

    options: str


@dataclass
class Arrangement:
    """How a daemon is started; `program` are the interpreter's arguments instead of `steersman serve`."""

    user: User = field(default_factory=lambda: User("own"))
    disk: Disk | None = None
    program: Sequence[str] = SERVE


def start(repo: Path | str, data: Path, how: Arrangement, **environment: str) -> Process:
    """Start a daemon and wait until it answers. Everything below `data.parent` becomes the user's."""
    ready, errors = data.parent / f"{data.name}.ready", data.parent / f"{data.name}.err"
    ready.unlink(missing_ok=True)
    data.mkdir(exist_ok=True, mode=0o700)
    errors.touch()
    if how.user.uid is not None:
        _give(data.parent, how.user.uid)
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
    own |= {"STEERSMAN_READY_FILE": str(ready), "STEERSMAN_ALLOW_LOCAL_REPOSITORIES": "1"}
    own |= database_for(data)
    own |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(TREE), "HOME": str(data.parent)} | environment
    command = [sys.executable, *how.program, "--repo", str(repo), "--data", str(data), "--port", "0"]
    if how.user.uid is not None or how.disk is not None:
        command, own = _entered(command, own, data, how)
    with errors.open("ab") as output:
        popen = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=output, cwd=data.parent)
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.read_text().endswith("\n")):
        if popen.poll() is not None or time.monotonic() > deadline:
            popen.kill()
            popen.wait()
            raise AssertionError(f"the daemon did not start: {errors.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)
    seen = data if how.disk is None else Path(f"/proc/{popen.pid}/root", *data.parts[1:])
    return Process(popen, ready.read_text().strip(), (seen / "admin.token").read_text().strip(), seen)


def _entered(
    command: list[str], environment: dict[str, str], data: Path, how: Arrangement
) -> tuple[list[str], dict[str, str]]:
    """The same inside of a mount namespace of its own."""
    needed = {
        Path(sys.base_prefix),
        Path(sys.prefix),
        Path(sys.executable).resolve().parents[1],
        TREE,
        data.parent,
    }
    closed = {path: _closed(path) for path in sorted(needed)} if how.user.uid is not None else {}
    lists = {
        "NEEDED": " ".join(str(path) for path, above in closed.items() if above is not None),
        "CLOSED": " ".join(sorted({str(above) for above in closed.values() if above is not None})),
    }
    uid = "" if how.user.uid is None else str(how.user.uid)
    disk = ("", "") if how.disk is None else (str(data), how.disk.options)
    return [*_unshare(), "/bin/sh", "-c", _ENTER, "enter", uid, *disk, *command], environment | lists


def _give(folder: Path, uid: int) -> None:
    os.chown(folder, uid, uid)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                os.chown(os.path.join(place, name), uid, uid, follow_symlinks=False)


@contextmanager
def running(repo: Path | str, data: Path, how: Arrangement, **environment: str) -> Iterator[Process]:
    """A daemon that is ended with all that its scripts left."""
    made = start(repo, data, how, **environment)
    try:
        yield made
    finally:
        end(made, data)
        # what a failed test leaves may be too deep for pytest's own tidying
        subprocess.run(["rm", "-rf", "--", data / "workspaces"], check=False)


def end(made: Process, data: Path) -> None:
    """Also of a daemon that is stopped by a signal, and when its data directory is gone with it."""
    with suppress(ProcessLookupError):
        made.popen.send_signal(signal.SIGCONT)
    runs = [run.relative_to(made.data) for run in made.data.glob("runs/*/*")]
    stop(made)
    for _ in range(50):
        if not [process.kill() for process in of(data) if process.is_running()]:
            break
        time.sleep(0.02)
    for run in runs:  # groups of scripts that were at work to the end
        groups.finish(cookie(data / run))


def of(data: Path) -> list[psutil.Process]:
    """Living processes whose command line names something below a data directory, or it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if process.status() != psutil.STATUS_ZOMBIE and any(str(data) in word for word in words):
                found.append(process)
    return found


def until(check: Callable[[], object], seconds: float = 30.0, told: object = "") -> object:
    """The first true value of `check`; `told` is shown when there is none."""
    return once(check, bool, seconds, lambda: f"{check} {told}")
