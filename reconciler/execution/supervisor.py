"""Runs scripts that outlive the daemon: starts, waits for, finds again and stops what `supervisor.sh` runs.

Called by `execution.run`, once for each claim of a trial. The files in the run directory are the only memory;
the daemon may be killed at any moment and `attach` says afterwards what became of the claim. RUN/start, made
exclusively either by the supervisor or by `attach`, is the arbiter: a claim starts at most once (design 7.2).
This module knows nothing of trials, the store or masking, builds no sandbox and never removes a run
directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import inf
from pathlib import Path

from reconciler.execution import memory, processes, seccomp
from reconciler.execution.lease import Term
from reconciler.execution.memory import Held
from reconciler.execution.processes import COOKIE, Process

SCRIPT = Path(__file__).with_name("supervisor.sh")
VOID = "void"
_TICK = 1.0
_AGAIN = 0.02
_KILL_AGAIN = 0.25
_HALF_WRITTEN = 0.5
_SWEEPS = 20
_SMALL = 4096
_TOO_LARGE = 128 + signal.SIGXFSZ  # the drain ended by writing beyond its limit


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `environment` is exactly the script's; `argv` begins with bwrap when `sandboxed`.

    `log_limit` counts bytes and is rounded up to a multiple of 512; what is printed goes to RUN/raw.
    Output of services comes by the pipes that are there as RUN/services/NAME/pipe. `groups` are files by which control
    groups are entered, `held` files in memory of a sandbox. With `own_environment` (containers) `argv` runs with that,
    and the script's is written to its standard input as shell assignments. With `survivors` what the script leaves
    running stays (deploys; such a sandbox must be wrapped without --die-with-parent).
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    sandboxed: bool
    log_limit: int
    survivors: bool = False
    groups: tuple[str, ...] = ()
    own_environment: Mapping[str, str] | None = None
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """The script has ended and its whole output is in the log.

    `status` is the shell's: 128+N for signal N. `over_limit`: the log limit, `log_limit` bytes, was exceeded.
    `log_failed`: the log could not be written for another reason, such as a full disk. `sandbox_failed`: the status is
    bubblewrap's own, which never came to run the script; its message is in the log.
    """

    status: int | None
    over_limit: bool = False
    log_limit: int = 0
    log_failed: bool = False
    sandbox_failed: bool = False


@dataclass(frozen=True, slots=True)
class Supervised:
    """A running supervisor. A value only: it holds no descriptor and may be kept, copied or dropped.

    `child`: of this process, so that its pid stays its own until it is reaped.
    """

    run: Path
    pid: int
    started: int
    sandboxed: bool
    survivors: bool = False
    child: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """It was started and is gone without a status. What it left running has been killed."""


@dataclass(frozen=True, slots=True)
class NotStarted:
    """It was never started, and from now on never can be."""


@dataclass(frozen=True, slots=True)
class _Start:
    """RUN/start in parts."""

    pid: int
    started: int
    boot: str
    sandboxed: bool
    survivors: bool
    limit: int


@lru_cache(maxsize=1024)
def cookie(run: Path) -> str:
    """Identity of a run directory, carried by its processes; a digest, so that scripts learn no path."""
    return hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:32]


# -- starting


@cache
def _tools() -> tuple[str, ...]:
    """Absolute paths: the script's own PATH must not choose what the supervisor runs."""
    found = {name: shutil.which(name) or shutil.which(name, path=os.defpath) for name in _TOOLS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"running scripts needs the programs {', '.join(missing)}, which are not installed"
        )
    return tuple(path for path in found.values() if path is not None)


_TOOLS = ("cat", "setsid", "sleep")


def start(run: Path, command: Command, term: Term | None = None) -> Supervised:
    """Starts the script of one claim; returns at once (about a millisecond, blocking).

    `run` is fresh, or is made here; `term`: of the lease that it ends with. OSError
    when no process can be made (also an environment that is too
    large), ValueError when a value holds a NUL.
    """
    run = run.absolute()
    if not os.path.isdir(run):  # noqa: PTH112  (a hot path)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = {COOKIE: cookie(run)}
    full = {**command.environment, **identity}
    # the supervisor, bubblewrap and podman run outside: no LD_PRELOAD or PATH of the script's reaches them, and none of
    # its variables is taken for one of the supervisor's own
    own = {"PATH": os.defpath} if command.own_environment is None else command.own_environment
    handles = [_in_memory(_settings(full) if command.sandboxed else _assignments(full))]
    argv = command.argv
    try:
        if command.sandboxed:
            argv = _handed(argv, command.held, handles)
        return _spawn(run, command, term, argv, {**own, **identity}, *handles)
    finally:
        for handle in handles:
            os.close(handle)


def _handed(argv: tuple[str, ...], files: tuple[Held, ...], handles: list[int]) -> tuple[str, ...]:
    """bubblewrap's arguments with what it reads from descriptors, which are added to `handles`; it closes them.

    The environment, the filter of system calls, and files that it copies into memory.
    """
    first = ["--args", "4"]
    if seccomp.FILTER:
        handles.append(memory.descriptor(seccomp.FILTER, "filter"))
        first += ("--seccomp", str(handles[-1]))
    last: list[str] = []
    for file in files:
        handles.append(memory.descriptor(file.content))
        last += ("--perms", f"{file.mode:04o}", "--bind-data", str(handles[-1]), file.place)
    begin, end = argv.index("--json-status-fd"), argv.index("--chdir")
    return (*argv[:begin], *first, *argv[begin:end], *last, *argv[end:])


def _settings(environment: Mapping[str, str]) -> bytes:
    """bubblewrap's arguments that set the environment."""
    words = ["--clearenv"]
    for name, value in _checked(environment):
        words += ("--setenv", name, value)
    return os.fsencode("\0".join(words) + "\0")


def _assignments(environment: Mapping[str, str]) -> bytes:
    """A shell's assignments that set the environment; names that no shell takes are left out."""
    # `command`: a name that the shell of an image keeps for itself, as bash does UID, is told, and ends nothing
    lines = [
        f"command export {name}={shlex.quote(value)}\n"
        for name, value in _checked(environment)
        if name.isidentifier() and name.isascii()
    ]
    return os.fsencode("".join(lines))


def _checked(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(
                f"environment variable {name!r} has a name or value that no program can be given"
            )
        yield name, value


def _in_memory(content: bytes) -> int:
    """A file in memory: no secret is in an argv or on disk."""
    handle = os.memfd_create("environment")
    with open(handle, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def _spawn(
    run: Path,
    command: Command,
    term: Term | None,
    argv: tuple[str, ...],
    environment: dict[str, str],
    stdin: int,
    *more: int,
) -> Supervised:
    mode = "sandboxed" if command.sandboxed else "bare" if command.own_environment is None else "container"
    leftovers = "keep" if command.survivors else "end"
    limit = str(max(command.log_limit, 512))
    groups, lease = "\n".join(command.groups), ("", "", "") if term is None else term.words
    errors = os.open(run / "supervisor.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            ("/bin/sh", str(SCRIPT), str(run), limit, mode, leftovers, groups, *lease, *_tools(), *argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd=command.directory,
            start_new_session=True,
            pass_fds=more,
        )
    finally:
        os.close(errors)
    if process.stdout is not None:
        process.stdout.close()  # the supervisor opens the pipe's reading end itself
    # _watching() reaps by pidfd; without this the object would complain when it is dropped
    process.returncode = 0
    found = processes.look(process.pid)
    started = found.started if found else 0
    return Supervised(run, process.pid, started, command.sandboxed, command.survivors, child=True)


# -- waiting


async def wait(supervised: Supervised) -> Exit | None:
    """Waits until the script has ended and its output is in the log. None: gone without a status (lost)."""
    await ended(supervised, asyncio.Event())
    return await asyncio.to_thread(outcome, supervised)


def outcome(supervised: Supervised) -> Exit | None:
    """How it ended, once it has; None: gone without a status (lost). Blocks for milliseconds."""
    found: Exit | Supervised | Lost | NotStarted | None = _exit(supervised.run)
    while not isinstance(found, Exit | Lost | NotStarted):
        found = attach(supervised.run)
        if found == supervised:
            return None
        if isinstance(found, Supervised):
            time.sleep(_AGAIN)  # another supervisor had the claim before ours came, which then ended at once
    return found if isinstance(found, Exit) else None


async def ended(supervised: Supervised, news: asyncio.Event, seconds: float = inf) -> bool:
    """Waits for the script's end, but no longer than `seconds`, or than somebody else sets `news`.

    True: it has ended. One event for all that may come: a task for each would cost more than starting the script.
    """
    until = time.monotonic() + seconds
    async with _watching(supervised, news) as end:
        while not news.is_set():
            left = until - time.monotonic()
            if left <= 0:
                break
            if not await _within(news, min(left, _TICK)) and not supervised.survivors:
                await _end_stragglers(supervised, news)
        return end.seen


async def _end_stragglers(supervised: Supervised, news: asyncio.Event) -> None:
    """The script has ended, but something still holds the pipe.

    Bare, that is what made a session of its own; in a sandbox, the first process of a bubblewrap that died early.
    """
    if (supervised.run / "code").exists() and not await _within(news, _AGAIN):
        await asyncio.to_thread(_signal_tree, supervised, signal.SIGKILL)


@dataclass(slots=True)
class _End:
    """Has the supervisor ended?"""

    seen: bool = False


@contextlib.asynccontextmanager
async def _watching(supervised: Supervised, news: asyncio.Event) -> AsyncIterator[_End]:
    """Sets `news` when the supervisor has ended; reaps it when it was our child."""
    end = _End()
    handle = _open(supervised)
    if handle is None:
        end.seen = True
        news.set()
        yield end
        return
    loop = asyncio.get_running_loop()

    def notice() -> None:
        loop.remove_reader(handle)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
        end.seen = True
        news.set()

    loop.add_reader(handle, notice)
    try:
        yield end
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _open(supervised: Supervised) -> int | None:
    """A pidfd of exactly this supervisor, or None when it is gone."""
    try:
        handle = os.pidfd_open(supervised.pid)
    except ProcessLookupError:
        return None
    found = None if supervised.child else processes.look(supervised.pid)
    if supervised.child or (found is not None and found.started == supervised.started):
        return handle
    os.close(handle)
    return None


async def _within(ended: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return ended.is_set()
    return True


# -- what the run directory says


def attach(run: Path, *, claimed_boot: str | None = None) -> Supervised | Exit | Lost | NotStarted:
    """What became of the claim that `run` was made for; asked after a restart. Blocks for milliseconds.

    Makes RUN/start itself when it is not there: then the script has not run and never will. With
    `claimed_boot` (the boot id kept with the claim) a claim of an earlier boot is Lost instead, since a power
    cut may have taken the file.
    """
    run = run.absolute()
    text = _arbitrate(run)
    if text == VOID:
        earlier = claimed_boot is not None and claimed_boot != processes.boot_id()
        return Lost() if earlier else NotStarted()
    start = _parse(text)
    # alive is asked first: whoever is found gone has left its status before
    if start is not None and _alive(start):
        return _exit(run) or Supervised(run, start.pid, start.started, start.sandboxed, start.survivors)
    result = _exit(run)
    if result is None:
        _kill_all(cookie(run))
        return Lost()
    return result


def _arbitrate(run: Path) -> str:
    """Text of RUN/start, made here with the word void when nobody has. Empty: its maker died over it."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), open(run / "start", "x", encoding="ascii") as file:  # noqa: PTH123
        file.write(VOID + "\n")
    until = time.monotonic() + _HALF_WRITTEN
    while True:
        text = (run / "start").read_text(encoding="ascii", errors="replace")
        if text.endswith("\n") or time.monotonic() > until:
            return text.strip()
        time.sleep(0.005)


def _parse(text: str) -> _Start | None:
    words = text.split()
    try:
        pid, started, boot, mode, leftovers, limit = words
        return _Start(int(pid), int(started), boot, mode == "sandboxed", leftovers == "keep", int(limit))
    except ValueError:
        return None


def _alive(start: _Start) -> bool:
    found = processes.look(start.pid)
    same = found is not None and found.alive and found.started == start.started
    return same and start.boot == processes.boot_id()


def _exit(run: Path) -> Exit | None:
    """The status that the supervisor left; a file that a power cut left empty is none, nor what a lease's end made."""
    status = _number(run / "exit")
    if status is None or os.path.exists(f"{run}/expired"):  # noqa: PTH110  (a hot path)
        return None
    over = _number(run / "over")
    full = over == _TOO_LARGE
    failed = status == 1 and _sandbox_failed(run)
    start = _parse(_text(run / "start")) if full else None
    limit = start.limit if start is not None else 0
    return Exit(status, full, limit, log_failed=over is not None and not full, sandbox_failed=failed)


def overfull(run: Path, services: Iterable[str]) -> tuple[str, ...]:
    """Sentences about services whose log grew beyond the limit, which ended them. Blocks briefly."""
    return tuple(
        f"the service {name} was ended: its log grew beyond the limit of log_bytes"
        for name in services
        if _number(run / "services" / name / "over") == _TOO_LARGE
    )


def _sandbox_failed(run: Path) -> bool:
    """bubblewrap reports the exit code of what it ran; it has not when its own setup failed."""
    return (run / "sandbox").exists() and '"exit-code"' not in _text(run / "sandbox")


def _text(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(handle, _SMALL).decode("ascii", errors="replace")
    finally:
        os.close(handle)


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None


# -- stopping


async def stop(supervised: Supervised, *, grace: float = 30.0) -> None:
    """Ends the script: TERM to the whole tree, KILL after `grace` seconds; returns when it has ended.

    The supervisor and bubblewrap's outer process are left alone, so the status is written as ever.
    """
    ended = asyncio.Event()
    async with _watching(supervised, ended):
        if grace > 0:
            try:
                async with asyncio.timeout(grace):
                    await _repeat(supervised, ended, signal.SIGTERM)
                    await ended.wait()
            except TimeoutError:
                pass
        while not ended.is_set():
            await asyncio.to_thread(_signal_tree, supervised, signal.SIGKILL)
            await _within(ended, _KILL_AGAIN)


async def kill(supervised: Supervised) -> None:
    """KILL to the whole tree, until nothing of it is left. Not waited for is the supervisor, which may wait for us."""
    for _ in range(_SWEEPS):
        if not await asyncio.to_thread(_signal_tree, supervised, signal.SIGKILL):
            return
        await asyncio.sleep(_AGAIN)


async def _repeat(supervised: Supervised, ended: asyncio.Event, number: signal.Signals) -> None:
    """Signals once, but not before there is a script that can be reached: it may still be starting."""
    while not ended.is_set() and not await asyncio.to_thread(_signal_tree, supervised, number):
        await _within(ended, _AGAIN)


def _signal_tree(supervised: Supervised, number: signal.Signals) -> bool:
    """Signals the script's group at one stroke, then what is outside of it. False: nobody was there yet."""
    found = processes.everything()
    supervisor = found.get(supervised.pid)
    if supervisor is None or supervisor.started != supervised.started:
        return True
    below = processes.descendants(found, supervised.pid)
    leader = _leader(supervised, found, below)
    if supervised.sandboxed and number == signal.SIGKILL and leader is not None:
        # the first process of the namespace: all others end with it
        return processes.send(leader, number)
    members = _members(supervised, found, below, leader)
    grouped = leader is not None and any(member.group == leader.pid for member in members)
    if leader is not None and grouped:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader.pid, number)
    rest = [member for member in members if leader is None or member.group != leader.pid]
    return _send_all(rest, number) or grouped


def _leader(supervised: Supervised, found: dict[int, Process], below: set[int]) -> Process | None:
    """The script's group leader, or the first process of its sandbox, while it is below the supervisor."""
    pid = _sandbox_pid(supervised.run) if supervised.sandboxed else _number(supervised.run / "script")
    return found[pid] if pid is not None and pid in below else None


def _sandbox_pid(run: Path) -> int | None:
    _, label, rest = _text(run / "sandbox").partition('"child-pid":')
    digits = rest.split(",")[0].split("}")[0].strip()
    return int(digits) if label and digits.isdigit() else None


def _members(
    supervised: Supervised, found: dict[int, Process], below: set[int], leader: Process | None
) -> list[Process]:
    """The script's processes. Not the supervisor's session, nor the sandbox's first, which hears no TERM."""
    kept = below | processes.with_cookie(cookie(supervised.run), found.keys())
    if leader is not None and not supervised.sandboxed:
        kept |= {process.pid for process in found.values() if process.session == leader.pid}
    first = leader.pid if leader is not None and supervised.sandboxed else 0
    return [
        found[pid]
        for pid in sorted(kept - {supervised.pid, first})
        if found[pid].alive and not (pid in below and found[pid].session == supervised.pid)
    ]


def _send_all(members: Iterable[Process], number: signal.Signals) -> bool:
    sent = [processes.send(member, number) for member in members]
    return any(sent)


# -- sweeping


def sweep(cookie: str) -> list[int]:
    """Pids of the living processes that carry this cookie; the run's own supervisor is one of them."""
    return [process.pid for process in _carriers(cookie)]


def _carriers(cookie: str) -> list[Process]:
    found = processes.everything()
    return [found[pid] for pid in sorted(processes.with_cookie(cookie, found.keys())) if found[pid].alive]


def _kill_all(cookie: str) -> None:
    """Kills what carries the cookie, several times over: it may be forking meanwhile."""
    for _ in range(_SWEEPS):
        if not _send_all(_carriers(cookie), signal.SIGKILL):
            return
        time.sleep(0.005)
