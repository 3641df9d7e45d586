"""What a run of a release has done so far: its scripts and acts as they are stored, each with its name once.

A run calls `script`, `act` and `once` in a straight line. What is stored as done is answered from the store, what was
at work when the daemon died is taken up again, and all else is done now, its outcome and all that follows from it in
one transaction. So a run is gone through from its beginning after each start of the daemon, and does nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from reconciler.errors import SteersmanError
from reconciler.execution.command import Order
from reconciler.execution.ending import Stop, ended_by
from reconciler.execution.single import Single, Tools
from reconciler.model.job import Reason, Script, State
from reconciler.store import executions
from reconciler.store import jobs as rows
from reconciler.store.database import Connection, Write
from reconciler.store.jobs import Ending

T = TypeVar("T")
_DONE = "_done"


class Failed(Exception):
    """The run ends here; `reason` is published, the message is for people."""

    def __init__(self, reason: str, message: str | None = None, state: State = State.FAILED) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.message = message
        self.state = state


class Stopped(Exception):
    """The run is to end; nothing more of it begins."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a script or an act ended. `result` is what an act found out, any JSON."""

    state: State
    reason: str | None
    exit_status: int | None
    result: Any
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def passed(self) -> bool:
        """Without failure."""
        return self.state is State.PASSED


@dataclass(frozen=True, slots=True)
class Found:
    """What an act found out, to be stored: its result, lines for its log, and what else is written with it."""

    result: Any = None
    told: Sequence[str] = ()
    store: Callable[[Write], Any] | None = None
    failed: Failed | None = None


class Journal:
    """Of one claim. `order` is that of the task, `record` what its execution tells so far (kept up by who runs it)."""

    def __init__(
        self, tools: Tools, order: Order, stop: Stop, known: Sequence[Script], record: dict[str, Any]
    ) -> None:
        self._tools = tools
        self._order = order
        self._trial = order.trial
        self._stop = stop
        self._single = Single(tools, order.trial)
        self._known = {script.name: script for script in known}
        self._positions = {script.name: position for position, script in enumerate(known)}
        self.record = record

    @property
    def known(self) -> frozenset[str]:
        """Names of all that was begun."""
        return frozenset(self._known)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Look into the store."""
        found: T = await self._tools.read(work)
        return found

    async def write(self, work: Callable[[Write], T]) -> T:
        """A transaction that may be done again."""
        found: T = await self._tools.persist(work)
        return found

    def result(self, name: str) -> Any:
        """What an act found out."""
        return self._known[name].result

    async def once(self, name: str, store: Callable[[Write], Any], *, stopping: bool = False) -> None:
        """A transaction that counts once. `stopping`: also of a run that is to end."""
        done = self.record.setdefault(_DONE, [])
        if name in done:
            return
        if not stopping:
            self.go_on()

        def work(write: Write) -> bool:
            store(write)
            if name not in done:
                done.append(name)
            return True

        await self._write(work)

    async def script(
        self,
        name: str,
        order: Order,
        *,
        begun: Callable[[Write], Any] | None = None,
        ended: Callable[[Write, Done], Any] | None = None,
        final: bool = False,
    ) -> Done:
        """Run a script. `begun` and `ended` are written together with its start and its end; the latter may fail it
        (`Failed`). `final`: it also runs when the run is to end.
        """
        script = self._known.get(name)
        if script is not None and script.state.finished:
            return _done(script)
        stop = Stop()
        told = None if final else asyncio.ensure_future(self._tell(stop))
        try:
            ending = await self._ended(name, order, stop, begun, final=final)
        finally:
            if told is not None:
                told.cancel()
        if not final and self._stop.asked and ending.state is not State.PASSED:
            state, reason, message = ended_by(self._stop)
            ending = Ending(state, reason, message, ending.exit_status, ending.log_size)
        return await self._store_end(name, ending, ended)

    async def _tell(self, stop: Stop) -> None:
        """A script is asked to end when its run is."""
        await self._stop.wait()
        stop.ask(self._stop.reason, self._stop.message)

    async def _ended(
        self, name: str, order: Order, stop: Stop, begun: Callable[[Write], Any] | None, *, final: bool
    ) -> Ending:
        script, ending = self._known.get(name), None
        if script is not None and script.state is State.EXECUTING and script.run is not None:
            ending = await self._single.resume(self._placed(order, script.run), stop)
        if ending is None:
            if not final:
                self.go_on()
            term = self._tools.term()
            run = await self._start(name, begun)
            ending = await self._single.run(replace(self._placed(order, run), term=term), stop)
        return ending

    async def act(self, name: str, work: Callable[[], Awaitable[Found]]) -> Done:
        """Something that this server does itself. It may be done again after a kill, until its outcome is stored."""
        script = self._known.get(name)
        if script is not None and script.state.finished:
            return _done(script)
        self.go_on()
        run = script.run if script is not None and script.run else await self._start(name, None)
        try:
            found = await work()
        except Failed as error:
            found = Found(failed=error)
        except (SteersmanError, OSError, ValueError) as error:
            told = error.message if isinstance(error, SteersmanError) else str(error)
            found = Found(failed=Failed(Reason.EXECUTOR_ERROR, told, State.DEFECTIVE))
        lines = [*found.told, *([found.failed.message] if found.failed and found.failed.message else [])]
        size = await self._tools.patiently(partial(_tell, self._tools.path(run), lines))
        await self._tools.shipping.complete(run)
        failed = found.failed
        ending = Ending(
            failed.state if failed else State.PASSED,
            failed.reason if failed else None,
            failed.message if failed else None,
            log_size=size,
        )
        return await self._store_end(
            name, ending, lambda write, _: found.store(write) if found.store else None, found.result
        )

    async def open_log(self, name: str) -> Path:
        """The folder for the log of what somebody else carries out. The record, which is theirs, is not written."""
        script = self._known.get(name)
        if script is None or script.run is None:
            run = await asyncio.to_thread(self._single.new_folder, 0)
            script = await self.write(lambda w: rows.begin_script(w, self._trial, name, 0, run))
            self._known[name] = script
        folder = self._tools.path(str(script.run))
        await asyncio.to_thread(partial(folder.mkdir, parents=True, mode=0o700, exist_ok=True))
        return folder

    async def close_log(self, name: str, ending: Ending) -> None:
        """It has ended."""
        await self.write(lambda w: rows.end_script(w, self._trial, name, ending, None))

    @property
    def cancelled(self) -> bool:
        """Has somebody cancelled it?"""
        return self._stop.asked and self._stop.reason is Reason.CANCELLED

    def go_on(self) -> None:
        """Stopped, if it was asked for."""
        if self._stop.asked:
            raise Stopped

    async def lasting(self, work: Awaitable[T]) -> T:
        """Wait for something, unless the run is to end meanwhile."""
        self.go_on()
        waiting = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Stopped
            return waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    # -- stored

    def _placed(self, order: Order, run: str) -> Order:
        return replace(order, run=self._tools.path(run))

    async def _start(self, name: str, begun: Callable[[Write], Any] | None) -> str:
        position = self._positions.setdefault(name, len(self._positions))
        run = await asyncio.to_thread(self._single.new_folder, position)

        def work(write: Write) -> Script:
            if begun is not None:
                begun(write)
            return rows.begin_script(write, self._trial, name, position, run)

        self._known[name] = await self._write(work)
        return run

    async def _store_end(
        self, name: str, ending: Ending, ended: Callable[[Write, Done], Any] | None, result: Any = None
    ) -> Done:
        told = {"error": ending.error} if ending.error is not None else result

        def work(write: Write) -> Script:
            nonlocal ending, told
            done = Done(ending.state, ending.reason, ending.exit_status, result, None, write.now)
            if ended is not None:
                try:
                    ended(write, done)
                except Failed as error:
                    ending = Ending(
                        State.FAILED, error.reason, error.message, ending.exit_status, ending.log_size
                    )
                    told = {"error": error.message}
            return rows.end_script(write, self._trial, name, ending, told)

        self._known[name] = await self._write(work)
        return _done(self._known[name])

    async def _write(self, work: Callable[[Write], T]) -> T:
        """In a transaction that also stores the record. Stopped where the claim is somebody else's by now."""

        def whole(write: Write) -> T | None:
            if not rows.is_claimed(write.connection, self._trial):
                return None
            found = work(write)
            executions.save_record(write.connection, self._trial.job, self.record)
            rows.touch(write.connection, self._trial.job, write.version)
            return found

        made = await self._tools.persist(whole)
        if made is None:
            self._stop.ask(Reason.CANCELLED, None)
            raise Stopped
        found: T = made
        return found


def _done(script: Script) -> Done:
    return Done(
        script.state, script.reason, script.exit_status, script.result, script.started_at, script.finished_at
    )


def _tell(folder: Path, lines: Sequence[str]) -> int:
    """The log of an act. Blocks."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    text = "".join(f"{line}\n" for line in lines).encode()
    (folder / "log").write_bytes(text)
    return len(text)
