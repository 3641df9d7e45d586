"""Runs claimed trials: workspace, claim, supervised script, attachments, end; and takes them up again after a restart.

One asyncio task a trial. The store decides: a script starts only after `begin` changed exactly one row, and every
later write carries the claim's epoch. A daemon that stops leaves scripts running; `recover` finds them again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from reconciler.errors import SteersmanError, Transient
from reconciler.execution import processes, sandbox, supervisor, workspace
from reconciler.execution.attachments import AttachmentStore, Kept
from reconciler.execution.supervisor import Command, Exit, Lost, NotStarted, Supervised
from reconciler.execution.workspace import WorkspaceError
from reconciler.model.job import Checkout, Job, Reason, State
from reconciler.settings import Settings
from reconciler.source.mirrors import Mirrors
from reconciler.store import attachments as attachment_rows
from reconciler.store import jobs as rows
from reconciler.store.database import Database, Write
from reconciler.store.jobs import Ending, LiveTrial

log = structlog.get_logger(__name__)
_EMBEDDED = "embedded@"
_INSIDE = "/workspace"
_SCRIPT = "/run/steersman/script"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Ended = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial runs: an executor's specification in force; `declared` False: the built-in `local`."""

    key: str
    spec: Mapping[str, Any]
    declared: bool = True


class Runs:
    """All trials at work in this process. `ended(job, key)` is called after each stored start and end."""

    def __init__(
        self, settings: Settings, database: Database, mirrors: Mirrors, store: AttachmentStore, ended: Ended
    ) -> None:
        self._settings = settings
        self._database = database
        self._mirrors = mirrors
        self._store = store
        self._ended = ended
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, asyncio.Event] = {}
        self._instance = _instance(settings.data)
        self._runs = settings.data / "runs"
        self._workspaces = settings.data / "workspaces"

    def begin(self, trial: LiveTrial, epoch: int, place: Place) -> None:
        """Start a claimed trial in the background."""
        self._spawn(trial, self._fresh(trial, epoch, place))

    def stop(self, trial: str) -> bool:
        """End a trial's processes (TERM, then KILL); False if it is not at work here."""
        event = self._stops.get(trial)
        if event is not None:
            event.set()
        return event is not None

    def log_path(self, run: str) -> Path:
        """The log of a script whose run folder is `run`."""
        return self._runs / run / "log"

    @property
    def worker(self) -> str:
        """How claims are signed: with the data directory and the boot, since a claim relies on files there."""
        return f"{_EMBEDDED}{self._instance}@{processes.boot_id()}"

    async def abandon(self, trial: str) -> None:
        """End a trial that is at work nowhere: nothing else would."""
        for current in await self._database.read(lambda c: rows.live_trials(c, trial)):
            if trial not in self._tasks and current.state is State.ABORTING:
                await self._finish(current, current.epoch, Ending(State.ABORTED, Reason.CANCELLED), ())
                self._ended(current.job, current.key)

    @property
    def active(self) -> int:
        """Trials at work here."""
        return len(self._tasks)

    async def recover(self, places: Callable[[str | None], Place]) -> int:
        """After a start: take up every trial that was at work. Gives how many."""
        trials = [t for t in await self._database.read(rows.live_trials) if t.state is not State.PENDING]
        for trial in trials:
            self._spawn(trial, self._again(trial, places(trial.executor)))
        return len(trials)

    async def close(self) -> None:
        """Let go of all trials; their scripts go on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, trial: LiveTrial, work: Coroutine[Any, Any, None]) -> None:
        self._stops[trial.id] = asyncio.Event()
        task = asyncio.create_task(self._guarded(trial, work), name=f"trial {trial.id}")
        self._tasks[trial.id] = task
        task.add_done_callback(lambda done: self._done(trial, done))

    def _done(self, trial: LiveTrial, task: asyncio.Task[None]) -> None:
        self._tasks.pop(trial.id, None)
        self._stops.pop(trial.id, None)
        if not task.cancelled():
            self._ended(trial.job, trial.key)

    async def _guarded(self, trial: LiveTrial, work: Coroutine[Any, Any, None]) -> None:
        """A fault of ours, or of the machine, ends this trial only, and is told."""
        try:
            await work
        except Exception as error:
            log.error("trial-crashed", trial=trial.id, job=trial.job, exc_info=error)
            message = f"{type(error).__name__}: {error}"
            for current in await self._steadily(
                lambda: self._database.read(lambda c: rows.live_trials(c, trial.id))
            ):
                ending = Ending(State.DEFECTIVE, Reason.EXECUTOR_ERROR, message)
                await self._finish(trial, current.epoch, ending, ())

    async def _fresh(self, trial: LiveTrial, epoch: int, place: Place) -> None:
        """From the claim to the end."""
        folder = self._workspaces / f"{trial.id}-{epoch}"
        run = f"{trial.id}/{epoch}"
        try:
            job = await self._steadily(lambda: self._database.read(lambda c: rows.load(c, trial.job)))
            if job is None or not await self._prepared(trial, folder, job.checkout):
                await self._finish(trial, epoch, Ending(State.ABORTED, Reason.CANCELLED), ())
                return
            command = await asyncio.to_thread(self._command, job, trial, epoch, place, folder)
        except WorkspaceError as error:
            await self._finish(trial, epoch, Ending(State.DEFECTIVE, error.reason, error.message), ())
        except (SteersmanError, OSError, ValueError) as error:
            await self._finish(trial, epoch, _refused(error), ())
        else:
            if await self._begin(trial, epoch, run):
                handle = supervisor.start(self._runs / run, command)
                self._ended(trial.job, trial.key)
                await self._watch(trial, epoch, handle, time.time())
        finally:
            if not _cancelled():
                await workspace.remove(folder)

    async def _prepared(self, trial: LiveTrial, folder: Path, checkout: Checkout) -> bool:
        """Make the workspace, unless the trial is stopped meanwhile."""
        making = asyncio.ensure_future(workspace.prepare(folder, checkout, self._mirrors))
        stopping = asyncio.ensure_future(self._stops[trial.id].wait())
        try:
            await asyncio.wait({making, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not making.done():
                return False
            await making
            return True
        finally:
            making.cancel()
            stopping.cancel()

    async def _begin(self, trial: LiveTrial, epoch: int, run: str) -> bool:
        def claim(write: Write) -> bool:
            if not rows.begin(write.connection, trial.id, epoch, run, write.now):
                return False
            rows.touch(write.connection, trial.job, write.version)
            return True

        if await self._persist(claim):
            return True
        await self._finish(trial, epoch, Ending(State.ABORTED, Reason.CANCELLED), ())
        return False

    async def _again(self, trial: LiveTrial, place: Place) -> None:
        """From wherever the last daemon left it."""
        run = self._runs / trial.id / str(trial.epoch)
        found = await asyncio.to_thread(self._found, trial, run)
        if isinstance(found, NotStarted):
            if trial.state is State.ABORTING:
                await self._finish(trial, trial.epoch, Ending(State.ABORTED, Reason.CANCELLED), ())
                return
            epoch = await self._persist(
                lambda w: rows.reclaim(w.connection, trial.id, trial.epoch, self.worker)
            )
            if epoch is not None:
                await self._fresh(trial, epoch, place)
            return
        folder = self._workspaces / f"{trial.id}-{trial.epoch}"
        try:
            if isinstance(found, Supervised):
                if trial.state is State.ABORTING:
                    self.stop(trial.id)
                await self._watch(trial, trial.epoch, found, _started(run))
            else:
                await self._conclude(trial, trial.epoch, None if isinstance(found, Lost) else found, None)
        finally:
            if not _cancelled():
                await workspace.remove(folder)

    def _found(self, trial: LiveTrial, run: Path) -> Supervised | Exit | Lost | NotStarted:
        """What became of a claim. One that was signed in another data directory cannot be seen from here."""
        if trial.state is State.DISPATCHING:
            return NotStarted()
        _, instance, boot = ((trial.worker or "") + "@@").split("@")[:3]
        if instance and instance != self._instance:
            return Lost()
        return supervisor.attach(run, claimed_boot=boot or None)

    async def _watch(self, trial: LiveTrial, epoch: int, handle: Supervised, started: float) -> None:
        """Wait for the script's end, its time limit, or a stop."""
        limit = trial.policy.get("timeout_seconds")
        left = None if limit is None else max(0.0, started + float(limit) - time.time())
        waiting = asyncio.ensure_future(supervisor.wait(handle))
        stopping = asyncio.ensure_future(self._stops[trial.id].wait())
        try:
            done, _ = await asyncio.wait(
                {waiting, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            forced = None
            if waiting not in done:
                forced = Reason.CANCELLED if stopping in done else Reason.TIMEOUT
                await supervisor.stop(handle, grace=self._settings.stop_grace_seconds)
            await self._conclude(trial, epoch, await waiting, forced)
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _conclude(
        self, trial: LiveTrial, epoch: int, found: Exit | None, forced: Reason | None
    ) -> None:
        """Keep the attachments and store the end."""
        folder = self._workspaces / f"{trial.id}-{epoch}"
        run = self._runs / trial.id / str(epoch)
        kept: list[Kept] = []
        patterns = list(trial.policy.get("attachments") or ())
        if patterns and found is not None and folder.is_dir():
            kept, complaints = await asyncio.to_thread(self._store.keep, folder, patterns)
            await asyncio.to_thread(_append, run / "log", complaints)
        size = await asyncio.to_thread(_size, run / "log")
        await self._finish(trial, epoch, _ending(found, forced, size), kept)
        await asyncio.to_thread(_tidy, run)

    async def _finish(self, trial: LiveTrial, epoch: int, ending: Ending, kept: Any) -> None:
        expires = timedelta(days=self._settings.retention_days)

        def store(write: Write) -> None:
            connection = write.connection
            if rows.finish(connection, trial.id, epoch, ending, write.now) is None:
                return
            files = [(item.path, item.digest, item.size) for item in kept]
            attachment_rows.save(connection, trial.id, files, write.now, write.now + expires)
            rows.touch(connection, trial.job, write.version)

        await self._persist(store)

    async def _persist(self, work: Callable[[Write], Any]) -> Any:
        """Write, and write again while the database does not answer: an end must not be forgotten."""
        return await self._steadily(lambda: self._database.write(work))

    async def _steadily(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do it, and again while the database does not answer."""
        delay = 0.2
        while True:
            try:
                return await work()
            except Transient as error:
                log.warning("store-unavailable", reason=error.reason, message=error.message)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    def _command(self, job: Job, trial: LiveTrial, epoch: int, place: Place, folder: Path) -> Command:
        """The whole command line and environment of a trial's script."""
        policy = trial.policy
        run = self._runs / trial.id / str(epoch)
        run.mkdir(parents=True, mode=0o700, exist_ok=True)
        boxed = self._sandboxed(place)
        script = _script_file(policy, folder, run)
        environment = _environment(job, trial, self._settings)
        limits = place.spec.get("limits") or {}
        limit = min(int(limits.get("log_bytes") or self._settings.log_bytes), self._settings.log_bytes)
        if not boxed:
            home = run / "home"
            home.mkdir(exist_ok=True)
            environment |= {"HOME": str(home), "STEERSMAN_WORKSPACE": str(folder)}
            return Command(_interpreter(script, script), environment, folder, False, limit)
        inside = _SCRIPT if script.parent == run else f"{_INSIDE}/{script.relative_to(folder)}"
        view = sandbox.View(
            workspace=folder,
            network=policy.get("network") or place.spec.get("network") or "host",
            readable=tuple(place.spec.get("readable") or ()),
            writable=tuple(place.spec.get("writable") or ()),
            files=((script, _SCRIPT),) if script.parent == run else (),
            hidden=self._settings.data,
        )
        environment |= {"HOME": "/home/steersman", "STEERSMAN_WORKSPACE": _INSIDE}
        return Command(sandbox.wrap(_interpreter(script, inside), view), environment, folder, True, limit)

    def _sandboxed(self, place: Place) -> bool:
        wanted = place.spec.get("sandbox", "required")
        if wanted == "required":
            if sandbox.bubblewrap() is not None:
                return True
            if not place.declared and self._settings.allow_unsandboxed:
                return False  # the undeclared executor, where bubblewrap is absent (design 14.5)
            raise SandboxUnavailableError(
                "SandboxUnavailable",
                f"scripts are refused: {sandbox.why_not()}; install bubblewrap, or set allow_unsandboxed "
                "(STEERSMAN_ALLOW_UNSANDBOXED=1) and `sandbox: off` on declared executors",
            )
        if not self._settings.allow_unsandboxed:
            raise SandboxUnavailableError(
                "SandboxUnavailable",
                f"{place.key} says `sandbox: off`, which needs the setting allow_unsandboxed "
                "(STEERSMAN_ALLOW_UNSANDBOXED=1)",
            )
        return False


class SandboxUnavailableError(SteersmanError):
    """Scripts may not run here as things are."""


class ScriptMissingError(SteersmanError):
    """`script:` names a file that the checkout does not hold."""


def _instance(data: Path) -> str:
    """What tells this data directory from others; made once."""
    path = data / "instance"
    if not path.exists():
        path.write_text(secrets.token_hex(8) + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def _refused(error: Exception) -> Ending:
    if isinstance(error, SandboxUnavailableError):
        return Ending(State.DEFECTIVE, Reason.SANDBOX_UNAVAILABLE, error.message)
    if isinstance(error, ScriptMissingError):
        return Ending(State.FAILED, Reason.SCRIPT_MISSING, error.message)
    message = error.message if isinstance(error, SteersmanError) else str(error)
    return Ending(State.DEFECTIVE, Reason.EXECUTOR_ERROR, message)


def _ending(found: Exit | None, forced: Reason | None, size: int) -> Ending:
    if found is None and forced is None:
        return Ending(State.DEFECTIVE, Reason.LOST, "its process is gone without a status", None, size)
    status = found.status if found is not None else None
    if forced is Reason.TIMEOUT:
        return Ending(State.DEFECTIVE, Reason.TIMEOUT, "it took longer than timeout_seconds", status, size)
    if forced is not None and status != 0:
        return Ending(State.ABORTED, forced, None, status, size)
    if found is not None and found.over_limit:
        message = f"its log grew beyond the limit of {size:,} bytes (log_bytes of the executor or the server)"
        return Ending(State.FAILED, Reason.LOG_LIMIT, message, status, size)
    if found is not None and found.log_failed:
        message = "its log could not be written, most likely because the disk is full"
        return Ending(State.DEFECTIVE, Reason.EXECUTOR_ERROR, message, status, size)
    if found is not None and found.sandbox_failed:
        message = "the sandbox could not be set up, the script did not run; the log says why"
        return Ending(State.DEFECTIVE, Reason.EXECUTOR_ERROR, message, status, size)
    if status == 0:
        return Ending(State.PASSED, None, None, 0, size)
    return Ending(State.FAILED, Reason.EXIT_STATUS, None, status, size)


def _script_file(policy: Mapping[str, Any], folder: Path, run: Path) -> Path:
    """The host path of the script: the inline text as a file of the run, or a file of the checkout."""
    text = policy.get("run")
    if text is not None:
        path = run / "run.sh"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if text.startswith("#!") else 0o644)
        return path
    name = str(policy["script"])
    path = folder / name
    resolved = path.resolve()
    if not resolved.is_relative_to(folder.resolve()) or not resolved.is_file():
        raise ScriptMissingError("ScriptMissing", f"script {name} is not a file of the checkout")
    return folder / resolved.relative_to(folder.resolve())


def _interpreter(script: Path, inside: Path | str) -> tuple[str, ...]:
    """A script that names its interpreter runs by itself, any other with `sh -e`."""
    with script.open("rb") as file:
        own = file.read(2) == b"#!" and os.access(script, os.X_OK)
    return (str(inside),) if own else ("/bin/sh", "-e", str(inside))


def _environment(job: Job, trial: LiveTrial, settings: Settings) -> dict[str, str]:
    """What a script sees (own-kinds, escape-state 8.3); exactly this, nothing of the daemon's own."""
    kind, project, environment, name = job.key.split("/", 3)
    facts = {
        "STEERSMAN_PROJECT": project,
        "STEERSMAN_ENVIRONMENT": "" if environment == "_" else environment,
        f"STEERSMAN_{kind.upper()}": name,
        "STEERSMAN_JOB": str(job.number),
        "STEERSMAN_EXECUTION_ID": job.id,
        "STEERSMAN_TASK": trial.task,
        "STEERSMAN_TRIAL": trial.id,
        "STEERSMAN_COMMIT": job.checkout.commit or "",
        "STEERSMAN_BRANCH": job.checkout.branch or "",
        "STEERSMAN_TAG": job.checkout.tag or "",
        "STEERSMAN_TRIGGER": str(job.trigger.get("type", "")),
        "STEERSMAN_DUE": str(job.trigger.get("due", "")),
    }
    base = {"PATH": _PATH, "LANG": "C.UTF-8", "CI": "true", "USER": "steersman", "TZ": settings.timezone}
    own = {str(k): str(v) for k, v in (trial.policy.get("environment_variables") or {}).items()}
    return base | own | {f"INPUT_{name}": value for name, value in job.inputs.items()} | facts


def _append(path: Path, complaints: list[str]) -> None:
    if complaints and path.exists():
        with path.open("ab") as file:
            file.writelines(f"steersman: {line}\n".encode() for line in complaints)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _started(run: Path) -> float:
    """When a supervisor wrote its start file: the time limit counts from there."""
    try:
        return (run / "start").stat().st_mtime
    except OSError:
        return time.time()


def _tidy(run: Path) -> None:
    """After the end only the log is kept."""
    for path in run.iterdir() if run.is_dir() else ():
        if path.name == "home":
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in ("log", "start", "exit"):
            path.unlink(missing_ok=True)


def _cancelled() -> bool:
    """Is the current task being let go (the daemon stops), so that its script must keep its workspace?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
