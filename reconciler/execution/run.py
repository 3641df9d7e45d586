"""Runs claimed trials: workspace, claim, supervised script, attachments, end; and takes them up again after a restart.

One asyncio task a trial. The store decides: a script starts only after its claim, or `begin`, changed exactly one row,
and every later write carries the claim's epoch. A daemon that stops leaves scripts running; `recover` finds them
again. What is started is made by `execution.command`, how an end is judged by `execution.ending`.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from reconciler.errors import SteersmanError, Transient
from reconciler.execution import (
    command,
    configured,
    containers,
    groups,
    handover,
    leavings,
    processes,
    several,
    supervisor,
    workspace,
)
from reconciler.execution.archive import compress
from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.caches import Cache, CacheError, Caches, note, noted, resolve
from reconciler.execution.command import Order, Place, service_names
from reconciler.execution.disk import DiskGuard
from reconciler.execution.ending import Stop, Verdict, ended_by, judge, refused
from reconciler.execution.lease import Lease, Term
from reconciler.execution.leavings import Left, Lot
from reconciler.execution.leftovers import tidy
from reconciler.execution.masking import Masker, Unmaskable
from reconciler.execution.memory import Memory
from reconciler.execution.recorder import Recorder, to_the_end
from reconciler.execution.remote_logs import RemoteLogs
from reconciler.execution.secrets import SecretError, Secrets, uses
from reconciler.execution.shipping import Shipping
from reconciler.execution.single import Tools
from reconciler.execution.stages import build as build_steps
from reconciler.execution.stages import deploy as deploy_stages
from reconciler.execution.stages import worker
from reconciler.execution.stages.journal import Journal
from reconciler.execution.stages.world import Around, Run
from reconciler.execution.supervisor import Exit, Lost, NotStarted, Supervised
from reconciler.execution.together import Together
from reconciler.execution.workspace import Folder, WorkspaceError
from reconciler.model.job import Checkout, Job, Reason, Script, State
from reconciler.settings import Settings
from reconciler.source.mirrors import Mirrors
from reconciler.store import attachments as attachment_rows
from reconciler.store import executions, history, shipped_logs, trials
from reconciler.store import jobs as rows
from reconciler.store.attachments import Attachment
from reconciler.store.database import Connection, Database, Write
from reconciler.store.jobs import Ending, LiveTrial
from reconciler.store.shipped_logs import End

log = structlog.get_logger(__name__)
T = TypeVar("T")
_RETRY_SECONDS = 0.2
_LONGEST_RETRY_SECONDS = 5.0
_TOGETHER = 0.02  # so much later the end of a script may be stored while others are at work
_SHORT = 0.05  # what has ended by then had nobody follow its log
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class Progress(Protocol):
    """How a job goes on; carried out by what lies above."""

    def begins(self, write: Write, job: int) -> None:
        """One of its trials begins in this transaction."""

    def advance(self, write: Write, job: int) -> Any:
        """Decide on a job inside a transaction; what was decided."""

    def begun(self, job: Job) -> None:
        """One of its scripts begins."""

    def ended(self, job: int, trial: str) -> None:
        """Nothing of a trial runs any more; what it left is still to be stored."""

    async def settle(self, job: int, outcome: Any) -> None:
        """What follows from it, after the commit."""


class Runs:
    """All trials at work in this process.

    `progress` lets a job go on in the very transaction in which one of its trials begins or ends; `wake(name)` is
    called when there is room again; `around` is what runs of releases see, and has to be set before there are any.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        mirrors: Mirrors,
        store: AttachmentStore,
        given: Secrets,
        progress: Progress,
        wake: Callable[[str], None],
    ) -> None:
        self.around: Around | None = None
        # its scripts end with it; None: they outlive this process, however long it is away
        self.lease: Lease | None = None
        self.kind = "embedded"
        self._settings = settings
        self._database = database
        self._mirrors = mirrors
        self._store = store
        self._secrets = given
        self._progress = progress
        self._wake = wake
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, Stop] = {}
        # by trial and run folder; a text: why it cannot be masked any more
        self._maskers: dict[str, dict[Path, Masker | str]] = {}
        self._ended: dict[str, Folder] = {}
        # held by scripts of several trials, by executor and name
        self._locks: dict[tuple[str | None, str], asyncio.Lock] = {}
        self._gathering = Together(_TOGETHER)
        self._tidying = Together(_TOGETHER)
        # why the ends of trials cannot be stored now: (reason, message)
        self.unstored: tuple[str, str] | None = None
        self._instance = _instance(settings.data)
        self._memory = Memory.of(self._instance)
        self._runs = settings.data / "runs"
        self._workspaces = settings.data / "workspaces"
        self.shipping = Shipping(self._runs, database, store.contents)
        self.remote_logs = RemoteLogs(self._runs, database, store.contents, self.is_ours)
        self.caches = Caches(settings.data / "caches", settings.cache_bytes)
        self._disk = DiskGuard(
            settings.data, settings.disk_reserve_bytes, self._end_greedy, partial(_disk_changed, wake)
        )

    def begin(self, trial: LiveTrial, job: Job, place: Place, term: Term | None = None) -> None:
        """Start a claimed trial in the background, unless it is at work already; `job` with its tasks where this one
        needs any. `term`: as it was before a claim that is a beginning as well.
        """
        if trial.id not in self._tasks:
            self._spawn(trial, self._fresh(trial, job, place, term))

    def take_up(self, trial: LiveTrial, place: Place) -> None:
        """Go on with a claim that has begun, from wherever it is, unless it is at work already."""
        if trial.id not in self._tasks:
            self._spawn(trial, self._again(trial, place))

    def stop(self, trial: str, reason: Reason = Reason.CANCELLED, message: str | None = None) -> bool:
        """End a trial's processes (TERM, then KILL); False if it is not at work here."""
        found = self._stops.get(trial)
        if found is not None:
            found.ask(reason, message)
        return found is not None

    def log_folder(self, run: str) -> Path:
        """Where the log of a script lies whose run folder is `run`."""
        return self._runs / run

    @property
    def worker(self) -> str:
        """How claims are signed: with the data directory and the boot, since a claim relies on files there."""
        return f"{self.kind}@{self._instance}@{processes.boot_id()}"

    @property
    def instance(self) -> str:
        """What tells this data directory from others."""
        return self._instance

    @property
    def term(self) -> Term | None:
        """Of the lease, as it stands now."""
        return None if self.lease is None else self.lease.term

    @property
    def closed(self) -> tuple[str, str] | None:
        """Why nothing may start here now: (reason, message); None: it may."""
        return self._disk.closed

    async def abandon(self, trial: str) -> None:
        """End a trial that is at work nowhere: nothing else would."""
        for current in await self._database.read(lambda c: rows.live_trials(c, trial)):
            if trial not in self._tasks and current.state is State.ABORTING:
                await self._finish(current, current.epoch, Ending(State.ABORTED, Reason.CANCELLED), ())

    async def idle(self) -> None:
        """Until nothing is at work here; what begins meanwhile is waited for as well."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    @property
    def at_work(self) -> frozenset[str]:
        """Ids of the trials that are."""
        return frozenset(self._tasks)

    @property
    def active(self) -> int:
        """Trials at work here."""
        return len(self._tasks)

    async def guard(self) -> None:
        """Watch over the disk until cancelled."""
        await self._disk.run()

    async def recover(self, places: Callable[[str | None], Place]) -> int:
        """After a start: take up every trial that was at work here. Gives how many.

        Those of others are theirs, or given up by who leads; on SQLite there are no others.
        """
        trials = [t for t in await self._database.read(rows.live_trials) if t.state is not State.PENDING]
        if not self._database.sqlite:
            trials = [trial for trial in trials if self.is_ours(trial.worker)]
        known: list[Script] = []
        for trial in trials:
            scripts = await self._scripts_of(trial)
            for name in several.held(trial, scripts) if self.is_ours(trial.worker) else ():
                if not (lock := self._lock(trial, name)).locked():
                    await lock.acquire()  # before anything new can ask for it
            known += scripts
        folders = [self._run(trial) for trial in trials] + [
            self.log_folder(r) for r in several.folders(known)
        ]
        live = {supervisor.cookie(folder) for folder in folders}
        await asyncio.to_thread(self._memory.sweep, live)
        for trial in trials:
            self._spawn(trial, self._again(trial, places(trial.executor)))
        return len(trials)

    async def close(self) -> None:
        """Let go of all trials; their scripts go on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shipping.close()
        self._memory.close()

    def _spawn(self, trial: LiveTrial, work: Coroutine[Any, Any, None]) -> None:
        self._stops[trial.id] = Stop()
        task = asyncio.create_task(self._guarded(trial, work), name=f"trial {trial.id}")
        self._tasks[trial.id] = task
        task.add_done_callback(lambda done: self._done(trial, done))

    def _done(self, trial: LiveTrial, task: asyncio.Task[None]) -> None:
        self._tasks.pop(trial.id, None)
        self._stops.pop(trial.id, None)
        self._maskers.pop(trial.id, None)
        self._ended.pop(trial.id, None)
        self._disk.forget(trial.id)
        self._secrets.forget(trial.id)

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
                ends = await self.shipping.all(trial.run)
                await self._finish(trial, current.epoch, ending, (), ends)

    def _folder(self, trial: LiveTrial, epoch: int) -> Folder:
        return Folder(self._workspaces / f"{trial.id}-{epoch}")

    # -- from the claim to the end

    async def _fresh(self, trial: LiveTrial, job: Job, place: Place, term: Term | None = None) -> None:
        folder, epoch, started = self._folder(trial, trial.epoch), trial.epoch, False
        self._disk.watch(trial.id, (folder.path,), _disk_bytes(place))
        try:
            if trial.state is State.DISPATCHING:
                ready = await self._checked_out(trial, folder, job.checkout)
                term = self.term
                if not (ready and await self._begin(trial)):
                    await self._finish(trial, epoch, Ending(*ended_by(self._stops[trial.id])), ())
                    return
            self._progress.begun(job)
            order, files = await self._order(job, trial, place, folder)
            order = replace(order, term=term)
            if trial.several:
                await asyncio.to_thread(self._prepared, order, files)
                started = True
                await self._minded(folder, self._several(order))
                return
            begun = await asyncio.to_thread(self._started, order, files)
            if begun is None:
                await self._finish(trial, epoch, Ending(*ended_by(self._stops[trial.id])), ())
                return
            handle, notes = begun
        except (WorkspaceError, SecretError) as error:
            await self._finish(trial, epoch, Ending(State.DEFECTIVE, error.reason, error.message), ())
        except (SteersmanError, OSError, ValueError) as error:
            await self._finish(trial, epoch, refused(error), ())
        else:
            started = True
            await self._minded(folder, self._watch(trial, handle, place, notes))
        finally:
            if not started and not _cancelled():
                await asyncio.to_thread(self._undo, trial, folder)

    async def _checked_out(self, trial: LiveTrial, folder: Folder, checkout: Checkout) -> bool:
        """Make the workspace from a commit, if there is one, unless the trial is stopped meanwhile."""
        if checkout.commit is None or trial.handed:
            return True
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

    async def _order(
        self, job: Job, trial: LiveTrial, place: Place, folder: Folder
    ) -> tuple[Order, list[Attachment]]:
        """What is to be started, and the files that it is handed."""
        givers = handover.givers(job, trial.policy.get("needs") or ())
        chosen = [giver.id for giver in givers.values()]
        files = await self._database.read(lambda c: attachment_rows.of_trials(c, chosen)) if chosen else []
        token, server = self._secrets.token(trial.job, trial.id), self._secrets.server
        order = Order(job, trial, place, folder, self._run(trial), handover.variables(givers), token, server)
        if configured.is_configured(job):
            order = replace(order, known=await self._database.read(partial(_known, job, trial)))
        return order, files

    def _with_secrets(self, order: Order) -> Order:
        """Opened now, and noted, as its log must not show them. Blocks."""
        opened = self._secrets.open(order.job.key, order.policy, order.sensitive, trial=order.trial.id)
        if not opened:
            return order
        order.run.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._secrets.keep(order.run, opened)
        return replace(order, secrets=opened, memory=self._memory)

    def _prepared(self, order: Order, files: Sequence[Attachment]) -> tuple[str, ...]:
        """All that it finds in its workspace and that is not a checkout; sentences for its log. Blocks.

        Half of it, once it is stopped: nothing may start then.
        """
        if order.job.checkout.commit is None or order.trial.handed:
            workspace.make_empty(order.folder)
        if order.policy.get("needs"):
            order.folder.needs.mkdir(parents=True, exist_ok=True)
        share = order.place.spec.get("sandbox", "required") == "required"
        stop = self._stops[order.trial.id]

        def stopped() -> bool:
            return stop.asked

        handover.place(order.folder.needs, files, self._store, share=share, stopped=stopped)
        return self._restore(order, stopped)

    def _started(
        self, order: Order, files: Sequence[Attachment]
    ) -> tuple[Supervised, tuple[str, ...]] | None:
        """Prepared and started, in one go; None: it was stopped before. Blocks."""
        stop = self._stops[order.trial.id]
        notes = self._prepared(order, files)
        if stop.asked:
            return None
        made, more = command.build(self._with_secrets(order), self._settings)
        if stop.asked:
            return None
        return supervisor.start(order.run, made, order.term), (*notes, *more)

    async def _begin(self, trial: LiveTrial) -> bool:
        """False: it was cancelled."""
        tried = False

        def begin(write: Write) -> bool:
            nonlocal tried
            run = None if trial.several else trial.run
            self._progress.begins(write, trial.job)
            again, tried = tried, True
            if rows.begin(write.connection, trial.id, trial.epoch, run, write.now, write.version):
                return True
            # begun by our own commit, whose answer did not come
            return again and rows.has_begun(write.connection, trial.id, trial.epoch)

        begun: bool = await self._persist(begin)
        return begun

    async def _again(self, trial: LiveTrial, place: Place) -> None:
        """From wherever the last daemon left it."""
        run = self._run(trial)
        self._disk.watch(trial.id, (self._folder(trial, trial.epoch).path,), _disk_bytes(place))
        known = await self._scripts_of(trial)
        if several.begun(known) and self.is_ours(trial.worker):
            if trial.state is State.ABORTING:
                self.stop(trial.id)
            job = await self._database.read(lambda c: rows.load(c, trial.job))
            if job is not None:
                order, _ = await self._order(job, trial, place, self._folder(trial, trial.epoch))
                await self._minded(order.folder, self._several(order))
            return
        found = await asyncio.to_thread(self._found, trial, run)
        if isinstance(found, NotStarted):
            await asyncio.to_thread(self._undo, trial, self._folder(trial, trial.epoch))
            if trial.state is State.ABORTING:
                await self._finish(trial, trial.epoch, Ending(State.ABORTED, Reason.CANCELLED), ())
                return
            claim = partial(_reclaim, trial, self.worker)
            if (again := await self._persist(claim)) is not None:
                await self._fresh(again[0], again[1], place)
            return
        if isinstance(found, Supervised):
            if trial.state is State.ABORTING:
                self.stop(trial.id)
            rest = self._watch(trial, found, place, ())
        else:
            if isinstance(found, Lost) and self.is_ours(trial.worker):
                for each in _logs_of(trial):
                    await self.shipping.restore(each)
            rest = self._conclude(trial, Verdict(None if isinstance(found, Lost) else found), {})
        await self._minded(self._folder(trial, trial.epoch), rest)

    def _found(self, trial: LiveTrial, run: Path) -> Supervised | Exit | Lost | NotStarted:
        """What became of a claim. One that was signed in another data directory cannot be seen from here."""
        if trial.state is State.DISPATCHING:
            return NotStarted()
        if not self.is_ours(trial.worker):
            return Lost()
        if trial.several:
            return NotStarted()
        boot = ((trial.worker or "") + "@@").split("@")[2]
        return supervisor.attach(run, claimed_boot=boot or None)

    def is_ours(self, worker: str | None) -> bool:
        """Was a claim with this signature made for this data directory?"""
        return rows.instance_of(worker) in ("", self._instance)

    async def _scripts_of(self, trial: LiveTrial) -> list[Script]:
        """Its scripts as they are stored, where it has several."""
        if not trial.several:
            return []
        return await self._database.read(lambda c: rows.scripts_of_trial(c, trial.id))

    async def _minded(self, folder: Folder, rest: Coroutine[Any, Any, None]) -> None:
        """From the start to the end; what it worked in goes also after a fault of ours."""
        try:
            await rest
        except Exception:
            await workspace.remove(folder.path)
            raise

    async def _several(self, order: Order) -> None:
        """Run the scripts of a trial one after the other, or beside each other, and store its end."""
        trial, stop = order.trial, self._stops[order.trial.id]
        disk_bytes = _disk_bytes(order.place)
        tools = Tools(
            settings=self._settings,
            path=self.log_folder,
            with_secrets=self._with_secrets,
            masker=self._masker,
            watch_disk=lambda trial, handle: self._disk.watch(
                trial.id, _written_by(handle.run), disk_bytes, handle
            ),
            lock=partial(self._lock, trial),
            term=lambda: self.term,
            end=self._end,
            give_up=self._give_up,
            read=lambda work: self._steadily(lambda: self._database.read(work)),
            persist=self._persist,
            patiently=lambda work: self._patiently(work, light=False),
            shipping=self.shipping,
        )
        known = await self._scripts_of(trial)
        if trial.staged:
            ending = await self._stages(Journal(tools, order, stop, known, await self._record(trial)), order)
        else:
            ending = await several.Several(tools, order, stop, known).carry_out()
        if stop.asked and ending.state is not State.PASSED:
            state, reason, message = ended_by(stop)
            ending = replace(ending, state=state, reason=reason, error=message)
        if stop.reason is Reason.DISK_LIMIT:
            await workspace.remove(order.folder.path)  # else there may be no room to store its end
        self._ended[trial.id] = order.folder
        left = await self._patiently(partial(self._left, order), light=False)
        ending = _with_left(ending, left, required=bool(order.policy.get("attachments_required")))
        if ending.state is State.PASSED:
            await self._keep_caches(trial, order.folder)
        await self._finish(trial, trial.epoch, ending, left.lots)
        await asyncio.to_thread(self._after, trial, order.folder)
        known = await self._scripts_of(trial) if self.shipping.on else []
        await self.shipping.pack(several.folders(known))

    async def _record(self, trial: LiveTrial) -> dict[str, Any]:
        """What a run of a release has told so far."""
        found: dict[str, Any] = await self._steadily(
            lambda: self._database.read(lambda c: executions.record_of(c, trial.job))
        )
        return found

    async def _stages(self, journal: Journal, order: Order) -> Ending:
        """A run of a release, gone through from its beginning."""
        if self.around is None:
            raise RuntimeError("nobody has said what is around a run of a release")
        run = Run(order, journal, self.around, {"ESCAPE_API_SERVER": self._settings.url} | _own_token(order))
        carry_out = build_steps.carry_out if run.wanted["type"] == "build" else deploy_stages.carry_out
        carry_out = worker.carry_out if run.wanted.get("worker") else carry_out
        limit = order.policy.get("timeout_seconds")
        timer = None
        if limit is not None:
            left = max(0.0, float(limit) - await self._age(order.trial))
            timer = asyncio.get_running_loop().call_later(
                left, self._stops[order.trial.id].ask, Reason.TIMEOUT, None
            )
        try:
            return await carry_out(run)
        finally:
            if timer is not None:
                timer.cancel()

    async def _age(self, trial: LiveTrial) -> float:
        """Seconds since its first script began."""
        began = [
            script.started_at for script in await self._scripts_of(trial) if script.started_at is not None
        ]
        return (datetime.now(UTC) - min(began)).total_seconds() if began else 0.0

    def _lock(self, trial: LiveTrial, name: str) -> asyncio.Lock:
        """One at a time on the trial's executor."""
        return self._locks.setdefault((trial.executor, name), asyncio.Lock())

    def _left(self, order: Order) -> Left:
        """What is kept of what it left, and what is wrong with that; nothing of its scripts runs. Blocks."""
        trial, run, policy = order.trial, self._run(order.trial), order.policy
        for claimed in run.glob("scripts/*"):
            groups.finish(supervisor.cookie(claimed))  # also of one that a kill kept from its start
        start = order.folder.home if order.at_home else order.folder.workspace
        if not start.is_dir():
            return Left()
        lots, complaints = self._by_patterns(trial, start)
        by_rules = leavings.by_rules(self._store, start, order.job, trial, self._stopped(trial))
        found: Any = None
        told: tuple[str, ...] = ()
        if name := policy.get("result"):
            found, told = leavings.result(start, name, partial(self._masker, trial, run))
        return Left((*lots, *by_rules.lots), found, (*complaints, *by_rules.complaints, *told))

    def _by_patterns(self, trial: LiveTrial, start: Path) -> tuple[tuple[Lot, ...], list[str]]:
        """Its `attachments`, and what is wrong with them. Blocks."""
        patterns = list(trial.policy.get("attachments") or ())
        stopped = self._stopped(trial)
        kept, complaints = self._store.keep(start, patterns, stopped) if patterns else ([], [])
        return (leavings.lot_of(trial.id, kept, self._settings.retention_days),), complaints

    def _stopped(self, trial: LiveTrial) -> Callable[[], bool]:
        """Says whether anybody has asked for its end; one that has been asked for already changes nothing."""
        stop = self._stops[trial.id]
        return (lambda: False) if stop.asked else (lambda: stop.asked)

    # -- while it runs

    async def _watch(
        self, trial: LiveTrial, handle: Supervised, place: Place, notes: tuple[str, ...]
    ) -> None:
        """Wait for the script's end, its time limit, or a stop."""
        limit = trial.policy.get("timeout_seconds")
        left = inf if limit is None else max(0.0, float(limit) - processes.age(handle.started))
        stop = self._stops[trial.id]
        recorders: dict[str, Recorder] = {}
        self._disk.watch(trial.id, _written_by(handle.run), _disk_bytes(place), handle)
        recording: list[asyncio.Future[None]] = []
        try:
            ended = await supervisor.ended(handle, stop.news, min(left, _SHORT))
            if not ended and not stop.asked and left > _SHORT:
                recorders = self._recorders(trial)
                recording += [asyncio.ensure_future(recorder.follow()) for recorder in recorders.values()]
                for run in _logs_of(trial):
                    self.shipping.begin(run)
                ended = await supervisor.ended(handle, stop.news, left - _SHORT)
            if not ended:
                stop.ask(Reason.TIMEOUT, None)  # unless it was asked before
                await asyncio.to_thread(stop.keep, handle.run)
                await self._end(handle, stop)
        except Exception:
            # a trial that nobody minds must not hold its locks, or run on without them
            await self._give_up(handle)
            raise
        finally:
            for task in recording:
                task.cancel()
            await asyncio.gather(*recording, return_exceptions=True)
        verdict = Verdict(None, None if ended else stop, notes)
        await self._conclude(trial, verdict, recorders, handle)

    async def _give_up(self, handle: Supervised) -> None:
        """End it whatever the trouble is, and try again while that itself cannot be done."""
        delay = _RETRY_SECONDS
        while True:
            try:
                await asyncio.to_thread(containers.remove, handle.run)
                await supervisor.stop(handle, grace=0)
                return
            except Exception as error:
                log.error("script-not-ended", run=str(handle.run), exc_info=error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    async def _end(self, handle: Supervised, stop: Stop) -> None:
        """TERM, and KILL after a while; what fills the disk has no while."""
        grace = 0.0 if stop.reason is Reason.DISK_LIMIT else self._settings.stop_grace_seconds
        ending = asyncio.ensure_future(supervisor.stop(handle, grace=grace))
        try:
            if (handle.run / "containers").is_dir():
                await asyncio.wait({ending}, timeout=grace)
                if not ending.done():
                    await asyncio.to_thread(containers.remove, handle.run)
            await ending
        finally:
            ending.cancel()

    def _end_greedy(self, trial: str, reason: Reason, message: str) -> None:
        """End what fills the disk. Where its script has ended by itself, what it left goes: its end needs the room."""
        self.stop(trial, reason, message)
        if trial in self._ended:
            asyncio.get_running_loop().run_in_executor(None, workspace.remove_now, self._ended[trial].path)

    def _recorders(self, trial: LiveTrial) -> dict[str, Recorder]:
        """Who keeps the logs of a trial's scripts, by name of script."""
        run = self._run(trial)
        folders = {rows.MAIN: run} | {name: run / "services" / name for name in service_names(trial.policy)}
        masker = partial(self._masker, trial, run)
        return {name: Recorder(path, masker) for name, path in folders.items()}

    def _masker(self, trial: LiveTrial, run: Path) -> Masker:
        """Masks the trial's secrets, noted in `run`, its token, and what an unsandboxed script could have read of ours.

        Unmaskable: what the scripts were given cannot be opened any more. Blocks.
        """
        found = self._maskers.setdefault(trial.id, {})
        if run not in found:
            found[run] = self._masking(trial, run)
        known = found[run]
        if isinstance(known, str):
            raise Unmaskable(known)
        return known

    def _masking(self, trial: LiveTrial, run: Path) -> Masker | str:
        """As a value, or why there is none."""
        try:
            own = [value for folder in self._opened(trial, run) for value in self._secrets.kept(folder)]
            token = self._secrets.token(trial.job, trial.id)
        except SecretError as error:
            log.warning("log-dropped", trial=trial.id, job=trial.job, message=error.message)
            return error.message
        return Masker([*own, token, *command.server_secrets(self._settings)])

    def _opened(self, trial: LiveTrial, run: Path) -> list[Path]:
        """Run folders in which it is noted what was opened: of a script, and of all that share its home."""
        if not trial.several:
            return [run] if uses(trial.policy) else []
        return [path.parent for path in sorted(self._run(trial).glob("scripts/*/secrets"))]

    def _run(self, trial: LiveTrial) -> Path:
        return self._runs / trial.run

    # -- the end

    async def _conclude(
        self,
        trial: LiveTrial,
        verdict: Verdict,
        recorders: Mapping[str, Recorder],
        handle: Supervised | None = None,
    ) -> None:
        """Keep what it left, complete its logs, store the end. Every step may be done again after a kill."""
        folder = self._folder(trial, trial.epoch)
        if self._stops[trial.id].reason is Reason.DISK_LIMIT:
            await workspace.remove(folder.path)  # else there may be no room to store its end
        self._ended[trial.id] = folder
        if handle is not None and handle.sandboxed:
            self._progress.ended(trial.job, trial.id)
            await asyncio.sleep(0)  # who waits for its place goes first
        gather = partial(self._gather, trial, verdict, recorders, handle)
        ending, kept, (ends, large) = await self._patiently(gather, light=_light(trial, handle))
        if large:
            ends += await self.shipping.rest(large)
        for each in _logs_of(trial):
            self.shipping.leave(each)
        if ending.state is State.PASSED:
            await self._keep_caches(trial, folder)
        await self._finish(trial, trial.epoch, ending, kept, ends)
        after = partial(self._after, trial, folder)
        if _light(trial, handle):
            await self._tidying.run(after, wait=True)
        else:
            await asyncio.to_thread(after)
        await self.shipping.pack(large)

    def _gather(
        self,
        trial: LiveTrial,
        verdict: Verdict,
        recorders: Mapping[str, Recorder],
        handle: Supervised | None,
    ) -> tuple[Ending, tuple[Lot, ...], tuple[tuple[End, ...], tuple[str, ...]]]:
        """Everything that an ended script left, and how it is judged; its logs, small and large. Blocks."""
        run = self._run(trial)
        folder = self._folder(trial, trial.epoch)
        found = verdict.found if handle is None else supervisor.outcome(handle)
        recorders = recorders or self._recorders(trial)
        containers.remove(run)
        groups.end(supervisor.cookie(run))
        outputs = handover.read_outputs(command.outputs_path(run))
        outputs = handover.without_secrets(outputs, partial(self._masker, trial, run))
        kept: tuple[Lot, ...] = ()
        complaints: list[str] = []
        if trial.policy.get("attachments") and found is not None and folder.workspace.is_dir():
            kept, complaints = self._by_patterns(trial, folder.workspace)
        full = supervisor.overfull(run, service_names(trial.policy))
        notes = (*verdict.notes, *outputs.complaints, *complaints, *full)
        sizes = {name: r.finish(notes if name == rows.MAIN else ()) for name, r in recorders.items()}
        written = self.shipping.small(_logs_of(trial))
        # last, as it cannot be asked twice: what is above may fail on a full disk, and is done again
        bounded = groups.finish(supervisor.cookie(run))
        known = replace(verdict, found=found)
        ending = judge(known, run, sizes, outputs.values, out_of_memory=bounded.out_of_memory)
        return ending, kept, written

    async def _patiently(self, work: Callable[[], T], *, light: bool) -> T:
        """Do it in a thread, and again while the disk does not take it; what is light, with others."""
        delay = _RETRY_SECONDS
        while True:
            try:
                if light:
                    result = await self._gathering.run(work, wait=self.active > 1)
                else:
                    result = await to_the_end(work)
                if delay > _RETRY_SECONDS:
                    self.unstored = None
                return result
            except OSError as error:
                if error.errno not in _DISK_FULL:
                    raise
                log.warning("disk-full", message=str(error))
            except Transient as error:
                self.unstored = (error.reason, error.message)
                log.warning("store-unavailable", reason=error.reason, message=error.message)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_RETRY_SECONDS)

    def _undo(self, trial: LiveTrial, folder: Folder) -> None:
        """What was prepared for a claim that never started goes; RUN/start stays, so that it never will. Blocks."""
        run = self._run(trial)
        workspace.remove_now(folder.path)
        groups.finish(supervisor.cookie(run))
        self._forget(trial, run)
        tidy(run)

    def _after(self, trial: LiveTrial, folder: Folder) -> None:
        """What is no more needed goes; large logs are compressed. Blocks."""
        run = self._run(trial)
        workspace.remove_now(folder.path)
        self._forget(trial, run)
        tidy(run)
        scripts = run.glob("scripts/*") if trial.several else ()
        for log_folder in (run, *(run / "services" / name for name in service_names(trial.policy)), *scripts):
            compress(log_folder)

    def _forget(self, trial: LiveTrial, run: Path) -> None:
        """Secrets that were put in memory for it."""
        for folder in [run] if uses(trial.policy) else []:
            self._memory.remove(supervisor.cookie(folder))
        for folder in run.glob("scripts/*") if trial.several else ():
            self._memory.remove(supervisor.cookie(folder))

    async def _finish(
        self,
        trial: LiveTrial,
        epoch: int,
        ending: Ending,
        kept: Sequence[Lot],
        ends: Sequence[End] = (),
    ) -> None:
        def store(write: Write, *, go_on: bool) -> Any:
            connection = write.connection
            shipped_logs.end(connection, ends)  # also of a claim that was given up
            if rows.finish(connection, trial.id, epoch, ending, write.now, several=trial.several) is None:
                return None
            rows.touch(connection, trial.job, write.version)  # also where nothing follows from it
            for lot in kept:
                expires = write.now + timedelta(days=lot.days)
                attachment_rows.save(connection, lot.owner, lot.files, write.now, expires)
            if go_on:
                return self._progress.advance(write, trial.job)
            return None

        try:
            outcome = await self._persist(partial(store, go_on=True))
        except Exception as error:  # what is wrong with its job must not keep a trial's end from being stored
            log.error("job-not-advanced", job=trial.job, exc_info=error)
            await self._persist(partial(store, go_on=False))
            self._wake(f"job/{trial.job}")
            return
        if outcome is None:  # it was stored before, by a commit whose answer did not come
            self._wake(f"job/{trial.job}")
            self._wake("dispatch")
        await self._progress.settle(trial.job, outcome)

    # -- caches

    def _restore(self, order: Order, stopped: Callable[[], bool]) -> tuple[str, ...]:
        """Put caches back into the workspace; sentences about those that could not be. Blocks."""
        job, trial, folder = order.job, order.trial, order.folder
        disk_bytes = _disk_bytes(order.place)
        notes, caches = [], []
        for entry in trial.policy.get("cache") or ():
            # no branch has a colon in its name
            own = f"tag:{job.checkout.tag}" if job.checkout.tag and not job.checkout.branch else job.ref or ""
            scopes = [own, str(job.specification.get("branch") or own)]
            cache = Cache(
                tuple(dict.fromkeys(f"{job.key}\n{scope}" for scope in scopes)),
                resolve(entry["key"], folder.workspace),
                tuple(entry["paths"]),
            )
            room = None if disk_bytes is None else max(0, disk_bytes - workspace.usage(folder.path))
            try:
                self.caches.restore(folder.workspace, cache, room, stopped)
                caches.append(cache)
            except CacheError as error:
                # not noted: what its script makes without it may be another thing
                notes.append(str(error))
        if caches:
            note(order.run, caches)
        return tuple(notes)

    async def _keep_caches(self, trial: LiveTrial, folder: Folder) -> None:
        """Before its end is stored: what starts because it has passed finds them, and a kill forgets none."""
        if not trial.policy.get("cache"):
            return
        stopped = self._stopped(trial)
        for cache in await asyncio.to_thread(noted, self._run(trial)):
            try:
                await asyncio.to_thread(self.caches.keep, folder.workspace, cache, stopped)
            except (CacheError, OSError) as error:  # a full disk: what has passed has passed
                log.info("cache-not-kept", job=trial.job, task=trial.task, message=str(error))

    # -- the store

    async def _persist(self, work: Callable[[Write], Any]) -> Any:
        """Write, and write again while the database does not answer: an end must not be forgotten."""
        return await self._steadily(lambda: self._database.write(work))

    async def _steadily(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do it, and again while the database does not answer."""
        delay = _RETRY_SECONDS
        while True:
            try:
                result = await work()
                self.unstored = None
                return result
            except Transient as error:
                self.unstored = (error.reason, error.message)
                log.warning("store-unavailable", reason=error.reason, message=error.message)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)


def _own_token(order: Order) -> dict[str, str]:
    """The token of the execution, unless the Build has one of its own for its tools."""
    given = (order.policy.get("environment_variables") or {}).get("ESCAPE_AUTH_TOKEN")
    return {} if given else {"ESCAPE_AUTH_TOKEN": order.token}


def _disk_bytes(place: Place) -> int | None:
    """That a trial may take of the disk; None: as much as there is."""
    limit: int | None = (place.spec.get("limits") or {}).get("disk_bytes")
    return limit


def _written_by(run: Path) -> tuple[Path, ...]:
    """Files of a run folder that its script writes."""
    return command.outputs_path(run), run / "status"


def _logs_of(trial: LiveTrial) -> list[str]:
    """The run folders of the logs that one script and its services write."""
    return [trial.run, *(f"{trial.run}/services/{name}" for name in service_names(trial.policy))]


def _light(trial: LiveTrial, handle: Supervised | None) -> bool:
    """Its end takes no time: there is nothing to copy, and nobody to wait for. It keeps no place meanwhile."""
    known = trial.policy.keys() & {"attachments", "services", "cache"}
    plain = not any(trial.policy[name] for name in known) and not uses(trial.policy)
    return handle is not None and handle.sandboxed and plain


def _with_left(ending: Ending, left: Left, *, required: bool) -> Ending:
    """The end with what was left. What could not be kept is noted where nothing else is; `required`: it must be."""
    ending = replace(ending, result=left.result)
    why = "; ".join(left.complaints)
    if why and required and ending.state is State.PASSED:
        return replace(ending, state=State.FAILED, reason=Reason.ATTACHMENT, error=why)
    return replace(ending, error=why) if why and not required and ending.error is None else ending


def _known(job: Job, trial: LiveTrial, connection: Connection) -> dict[str, str]:
    """What the scripts of a trial of a project configuration are told."""
    heads = history.heads_with(connection, str(job.trigger.get("repository")), job.checkout.tree or "")
    task = trials.task_of(connection, trial.id)
    return configured.known(job, trial, task, heads)


def _reclaim(trial: LiveTrial, worker: str, write: Write) -> tuple[LiveTrial, Job] | None:
    epoch = rows.reclaim(write.connection, trial.id, trial.epoch, worker)
    job = rows.load(write.connection, trial.job)
    if epoch is None or job is None:
        return None
    return replace(trial, epoch=epoch, state=State.DISPATCHING), job


def _instance(data: Path) -> str:
    """What tells this data directory from others; made once."""
    path = data / "instance"
    if not path.exists():
        path.write_text(secrets.token_hex(8) + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def _cancelled() -> bool:
    """Is the current task being let go (the daemon stops), so that its script must keep its workspace?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _disk_changed(wake: Callable[[str], None]) -> None:
    """Whether anything may start here."""
    for name in ("dispatch", "executors"):
        wake(name)
