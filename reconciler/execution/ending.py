"""How a trial's end is judged: exit status, limits, what the launcher told.

Called by `execution.run` when a script has ended or could not start. Pure but for reading the run folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SteersmanError
from reconciler.execution.command import SandboxUnavailableError, ScriptMissingError
from reconciler.execution.configured import VariablesError
from reconciler.execution.supervisor import Exit
from reconciler.model.job import Reason, State
from reconciler.store.jobs import MAIN, Ending

_SMALL = 64 << 10
_FORCED = "forced"
_WAITING = "waiting"
MESSAGES: Mapping[str | None, str] = {
    Reason.TIMEOUT: "it took longer than timeout_seconds",
    Reason.LOST: "its process is gone without a status",
}
"""What there is to say of an end of which only the reason is known."""


class Stop:
    """A request to end a trial; the first one counts."""

    def __init__(self) -> None:
        # set by a request, and by whoever has other news for those that wait for one
        self.news = asyncio.Event()
        self.asked = False
        self.reason = Reason.CANCELLED
        self.message: str | None = None

    def ask(self, reason: Reason, message: str | None) -> None:
        """End it, for this reason."""
        if not self.asked:
            self.asked, self.reason, self.message = True, reason, message
            self.news.set()

    def keep(self, run: Path) -> None:
        """Note it in the run folder: a daemon that takes up the trial must know why its script ends. Blocks."""
        (run / _FORCED).write_text(json.dumps([self.reason.value, self.message]), encoding="utf-8")

    @classmethod
    def kept(cls, run: Path) -> Stop | None:
        """What was noted; None: it ended by itself, or nobody had asked yet. Blocks briefly."""
        try:
            reason, message = json.loads((run / _FORCED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        found = cls()
        found.ask(Reason(reason), message)
        return found

    async def wait(self) -> None:
        """Until somebody asks."""
        await self.news.wait()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of an end: the script's, None when it is lost; who forced it; sentences for the log."""

    found: Exit | None
    forced: Stop | None = None
    notes: tuple[str, ...] = ()


def judge(
    verdict: Verdict, run: Path, sizes: Mapping[str, int], outputs: Mapping[str, str], *, out_of_memory: bool
) -> Ending:
    """The end as it is stored; `sizes` are those of the logs by name of script."""
    passed = verdict.found is not None and verdict.found.status == 0
    forced = verdict.forced or Stop.kept(run)  # by an earlier daemon, or while it ended by itself
    told = None if passed else _told(run, sizes)
    if told is not None and told[0] == _WAITING and (forced is None or forced.reason is not Reason.TIMEOUT):
        told = None
    state, reason, message = _state(verdict.found, forced, told, out_of_memory=out_of_memory)
    status = verdict.found.status if verdict.found is not None else None
    services = {name: size for name, size in sizes.items() if name != MAIN}
    failed = told[1] if told is not None and told[0] in ("service", _WAITING) else None
    return Ending(state, reason, message, status, sizes.get(MAIN, 0), services, failed, outputs)


def refused(error: Exception) -> Ending:
    """A trial that could not be started."""
    if isinstance(error, SandboxUnavailableError):
        return Ending(State.DEFECTIVE, Reason.SANDBOX_UNAVAILABLE, error.message)
    if isinstance(error, ScriptMissingError):
        return Ending(State.FAILED, Reason.SCRIPT_MISSING, error.message)
    if isinstance(error, VariablesError):
        return Ending(State.DEFECTIVE, Reason.CONFIGURATION, error.message)
    message = error.message if isinstance(error, SteersmanError) else str(error)
    return Ending(State.DEFECTIVE, Reason.EXECUTOR_ERROR, message)


def _state(
    found: Exit | None, forced: Stop | None, told: tuple[str, str] | None, *, out_of_memory: bool
) -> tuple[State, str | None, str | None]:
    if forced is not None and (forced.reason is Reason.TIMEOUT or found is None or found.status != 0):
        state, reason, message = ended_by(forced)
        if told is not None and told[0] == _WAITING:
            message = f"{message}, waiting for the service {told[1]} to be ready; its log says more"
        return state, reason, message
    if found is None:
        return State.DEFECTIVE, Reason.LOST, MESSAGES[Reason.LOST]
    if found.over_limit:
        limit = f"{found.log_limit:,} bytes (log_bytes of the executor or the server)"
        message = f"its log grew beyond the limit of {limit}"
        return State.FAILED, Reason.LOG_LIMIT, message
    if found.log_failed:
        message = "its log could not be written, most likely because the disk is full"
        return State.DEFECTIVE, Reason.EXECUTOR_ERROR, message
    if found.status != 0 and out_of_memory:
        message = "it took more memory than limits.memory_bytes of its executor allows, and was ended"
        return State.FAILED, Reason.MEMORY_LIMIT, message
    if found.sandbox_failed:
        message = "the sandbox could not be set up, the script did not run; the log says why"
        return State.DEFECTIVE, Reason.EXECUTOR_ERROR, message
    if told is not None and found.status != 0:
        return _launch_failed(*told)
    if found.status == 0:
        return State.PASSED, None, None
    return State.FAILED, Reason.EXIT_STATUS, None


def ended_by(stop: Stop) -> tuple[State, str | None, str | None]:
    """State, reason and message of what was ended on request."""
    if stop.reason is Reason.TIMEOUT:
        return State.DEFECTIVE, Reason.TIMEOUT, MESSAGES[Reason.TIMEOUT]
    if stop.reason is Reason.DISK_LIMIT:
        return State.FAILED, Reason.DISK_LIMIT, stop.message
    return State.ABORTED, stop.reason, stop.message


def _launch_failed(what: str, name: str) -> tuple[State, str | None, str | None]:
    if what == "service":
        return State.DEFECTIVE, Reason.SERVICE, f"the service {name} was not ready; its log says more"
    if what == "install":
        return State.DEFECTIVE, Reason.INSTALL, "the task's packages could not be installed; the log says why"
    if what == "secret":
        return State.DEFECTIVE, Reason.SECRET, "a PGP key could not be imported by gpg; the log says why"
    return State.DEFECTIVE, Reason.EXECUTOR_ERROR, "the container could not be started; the log says why"


def _told(run: Path, scripts: Mapping[str, int]) -> tuple[str, str] | None:
    """What kept a script from starting, by the launcher: `service`, `install`, `secret` or `container`, and a name.

    `waiting`: for this service, as far as it came.
    """
    words = _words(run)
    waiting = None
    for word in words:
        what, _, name = word.partition(" ")
        if what == "running":
            return None
        if (what == "service" and name in scripts) or word in ("install", "secret"):
            return what, name
        if what == _WAITING:
            waiting = (what, name) if name in scripts else None
    if waiting is not None:
        return waiting
    contained = (run / "containers").is_dir()
    return ("container", "") if contained and "started" not in words else None


def _words(run: Path) -> list[str]:
    """What was told. The script may write there too, or put something else in its place: it is read with care."""
    try:
        handle = os.open(run / "status", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            return file.read(_SMALL).decode(errors="replace").splitlines() if regular else []
    except OSError:
        return []
