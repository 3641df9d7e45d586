"""Runs the scripts of one trial that wait for each other, each supervised on its own, in one workspace and home.

Called by `execution.run` for a task that has `scripts` instead of one of its own. `controllers.scripts` decides what is
to be done; here it is done, stored in a transaction of its own, and asked about again. After a restart it goes on from
the stored states: a script that was at work is found by its run folder, DATA/runs/TRIAL/EPOCH/scripts/NNN.N.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from reconciler.controllers.scripts import Outcome, Part, parts, step, verdict
from reconciler.execution.command import Order
from reconciler.execution.ending import MESSAGES, Stop
from reconciler.execution.single import Single, Tools
from reconciler.model.job import Reason, Script, State
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import Ending, LiveTrial
from specs.executor import resolve_image

_CANCELS = (Reason.CANCELLED, Reason.SUPERSEDED, Reason.PRUNED)
_FIELDS = ("run", "timeout_seconds", "environment_variables", "template_environment_variables")
"""What a script says itself, in the place of its task."""


@dataclass(slots=True)
class _Running:
    """A script at work, or on its way there."""

    task: asyncio.Task[None]
    stop: Stop


class Several:
    """The scripts of one claim. `order` is that of the task; `known` are its scripts as they are stored."""

    def __init__(self, tools: Tools, order: Order, stop: Stop, known: Sequence[Script]) -> None:
        self._tools = tools
        self._single = Single(tools, order.trial)
        self._order = order
        self._trial = order.trial
        self._known = tuple(known)
        self._stop = stop
        self._parts = parts(order.policy)
        self._specs = {spec["name"]: spec for spec in order.policy["scripts"]}
        self._places = {script.name: place for place, script in enumerate(known)}
        self._runs = {script.name: script.run for script in known}
        self._found: dict[str, Outcome] = {script.name: (script.state, script.reason) for script in known}
        self._errors: list[str] = []
        self._running: dict[str, _Running] = {}
        # a script that passed has left the mark that the rest need not run
        self._completed = False
        # something follows from: a state, an end, a stop
        self._news = asyncio.Event()

    async def carry_out(self) -> Ending:
        """Until none runs, and none will; how the trial ended by them."""
        stopping = asyncio.ensure_future(self._stop.wait())
        stopping.add_done_callback(lambda _: self._news.set())
        limit = self._limit()
        try:
            resumed = [name for name, (state, _) in self._found.items() if state is State.EXECUTING]
            for name in resumed:
                self._begin(name, self._resumed(name))
            if not resumed:
                self._completed = await asyncio.to_thread(self._was_completed)
            while not await self._advance():
                await self._news.wait()
                self._news.clear()
                self._settle()
        except Exception:
            # what nobody minds any more must not run on
            self._stop.ask(Reason.EXECUTOR_ERROR, None)
            for running in self._running.values():
                running.stop.ask(Reason.EXECUTOR_ERROR, None)
            await asyncio.gather(*(each.task for each in self._running.values()), return_exceptions=True)
            raise
        finally:
            stopping.cancel()
            if limit is not None:
                limit.cancel()
            for running in self._running.values():
                running.task.cancel()
            await asyncio.gather(*(each.task for each in self._running.values()), return_exceptions=True)
        state, reason = verdict(self._parts, self._found)
        outputs = await asyncio.to_thread(self._outputs)
        return Ending(state, reason, self._why(), outputs=outputs)

    def _why(self) -> str | None:
        """What went wrong first, also before a restart, when only its reason was stored."""
        if self._errors:
            return self._errors[0]
        told = (
            f"{name}: {MESSAGES[reason]}" for name, (_, reason) in self._found.items() if reason in MESSAGES
        )
        return next(told, None)

    async def _advance(self) -> bool:
        """Do what follows from the states, until something must be waited for; True: nothing is left to do."""
        while True:
            known = self._bound_to_end()
            todo = step(known, self._found, stopping=self._stop.asked, completed=self._completed)
            for part in known if self._stop.asked else ():
                if part.name in self._running and not part.ignore_abort:
                    self._running[part.name].stop.ask(self._stop.reason, self._stop.message)
            for name in todo.end:
                if name in self._running:
                    self._running[name].stop.ask(Reason.EXIT_STATUS, None)  # it ends by its own status
            # one that was chosen is on its way, and no more skipped
            skips = [each for each in todo.skip if each[0] not in self._running]
            for name, reason in skips:
                await self._move(name, State.SKIPPED, reason)
            for name in todo.start:
                if name not in self._running:
                    self._begin(name, self._fresh(name))
            if not skips:
                return todo.over and not self._running

    def _begin(self, name: str, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._news.set())
        self._running[name] = _Running(task, Stop())

    def _settle(self) -> None:
        """Forget those that are over; a fault of ours comes out here."""
        for name, running in list(self._running.items()):
            if running.task.done():
                del self._running[name]
                running.task.result()

    def _bound_to_end(self) -> tuple[Part, ...]:
        """What ignores a cancel ignores nothing else: no limit, and no fault of ours."""
        if not self._stop.asked or self._stop.reason in _CANCELS:
            return self._parts
        return tuple(replace(part, ignore_abort=False) for part in self._parts)

    def _limit(self) -> asyncio.TimerHandle | None:
        """The task's own time, from the start of its first script."""
        seconds = self._order.policy.get("timeout_seconds")
        if seconds is None:
            return None
        began = [script.started_at for script in self._known if script.started_at is not None]
        passed = (datetime.now(UTC) - min(began)).total_seconds() if began else 0.0
        later = max(0.0, float(seconds) - passed)
        return asyncio.get_running_loop().call_later(later, self._stop.ask, Reason.TIMEOUT, None)

    def _was_completed(self) -> bool:
        """Before a restart: the mark is there, and what ended last has passed. Blocks."""
        ended = [found[0] for found in self._found.values() if found[0] in (State.PASSED, State.FAILED)]
        return bool(ended) and ended[-1] is State.PASSED and self._is_marked()

    def _is_marked(self) -> bool:
        """Is there the file that says that the rest need not run? Blocks."""
        mark = self._order.policy.get("completed_by")
        return bool(mark) and (self._order.folder.home / str(mark)).is_file()

    async def _move(self, name: str, state: State, reason: str | None = None, **values: Any) -> bool:
        """Store where a script is now. False: the trial is somebody else's by now, so all of it ends here."""

        def work(write: Write) -> bool:
            given = write.connection, self._trial, name, state, write.now, write.version
            # not where it was: stored by a commit whose answer did not come, unless the claim is lost
            moved = rows.move_script(*given, reason=reason, **values)
            return moved or rows.is_claimed(write.connection, self._trial)

        self._found[name] = state, reason
        ours: bool = await self._tools.persist(work)
        if not ours:
            self._stop.ask(Reason.CANCELLED, None)
        self._news.set()
        return ours

    # -- one script

    async def _fresh(self, name: str) -> None:
        """From the start of a script to its end."""
        lock = self._specs[name].get("exclusive")
        if lock is None:
            await self._once(name)
            return
        held = self._tools.lock(lock)
        taking = asyncio.ensure_future(held.acquire())
        stopping = asyncio.ensure_future(self._running[name].stop.wait())
        try:
            await asyncio.sleep(0)  # what is free is had by now
            if not taking.done() and self._found[name][0] is State.PENDING:
                await self._move(name, State.WAITING)
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                await self._once(name)
            else:
                await self._move(name, State.SKIPPED, Reason.NOT_REACHED)
        finally:
            stopping.cancel()
            if taking.done() and not taking.cancelled():
                held.release()
            else:
                taking.cancel()

    async def _once(self, name: str) -> None:
        run = await asyncio.to_thread(self._single.new_folder, self._places[name])
        term = self._tools.term()
        if not await self._move(name, State.EXECUTING, run=run):
            self._found[name] = State.ABORTED, None
            return
        self._runs[name] = run
        order = replace(self._order_of(name, run), term=term)
        await self._ended(name, await self._single.run(order, self._running[name].stop))

    async def _resumed(self, name: str) -> None:
        """From wherever the last daemon left it; its lock is taken already."""
        lock = self._specs[name].get("exclusive")
        run = self._runs[name]
        ending = None
        try:
            if run is not None:
                ending = await self._single.resume(self._order_of(name, run), self._running[name].stop)
            if ending is not None:
                await self._ended(name, ending)
                return
        finally:
            self._release(lock)
        await self._move(name, State.PENDING, run=None, started_at=None)
        if self._stop.asked:
            await self._move(name, State.SKIPPED, Reason.NOT_REACHED)
        else:
            await self._fresh(name)

    def _release(self, lock: str | None) -> None:
        if lock is not None and (held := self._tools.lock(lock)).locked():
            held.release()

    def _order_of(self, name: str, run: str) -> Order:
        """The task's order with what the script says itself."""
        spec, policy = self._specs[name], dict(self._order.policy)
        own = dict(policy.get("environment_variables") or {}) | dict(spec.get("environment_variables") or {})
        policy |= {field: spec.get(field) for field in _FIELDS} | {"environment_variables": own}
        image = resolve_image(self._order.place.spec, policy.get("image"))
        if self._places[name] and (image is None or image["type"] != "container"):
            policy |= {"packages": [], "repositories": {}}  # the first one has installed them for all
        trial = replace(self._trial, policy=policy)
        return replace(self._order, trial=trial, run=self._tools.path(run))

    def _outputs(self) -> Mapping[str, str]:
        """What all scripts wrote, also before a restart; of equal names the later script's counts. Blocks."""
        values: dict[str, str] = {}
        for part in self._parts:
            run = self._runs.get(part.name)
            values |= self._single.written(self._order_of(part.name, run)).values if run is not None else {}
        return values

    async def _ended(self, name: str, ending: Ending) -> None:
        if ending.error is not None:
            self._errors.append(f"{name}: {ending.error}")
        if ending.state is State.PASSED and self._order.policy.get("completed_by"):
            self._completed = await asyncio.to_thread(self._is_marked)
        values = {"exit_status": ending.exit_status, "log_offset": ending.log_size}
        await self._move(name, ending.state, ending.reason, **values)


def begun(known: Sequence[Script]) -> bool:
    """Has any of them been started?"""
    return any(script.state not in (State.PENDING, State.WAITING) for script in known)


def held(trial: LiveTrial, known: Sequence[Script]) -> list[str]:
    """The locks of those that are at work."""
    locks = {spec["name"]: spec.get("exclusive") for spec in trial.policy.get("scripts") or ()}
    return [lock for script in known if script.state is State.EXECUTING and (lock := locks.get(script.name))]


def folders(known: Sequence[Script]) -> list[str]:
    """The run folders of those that were started."""
    return [script.run for script in known if script.run is not None]
