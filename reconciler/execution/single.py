"""One script of a claim that has several: started, watched to its end, judged. Stores nothing.

Called by `execution.several` and `execution.stages`, which know what comes before and after it. Each start has a run
folder of its own, DATA/runs/TRIAL/EPOCH/scripts/NNN.N: what was claimed once is never started again there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from reconciler.errors import SteersmanError
from reconciler.execution import command, containers, groups, handover, processes, supervisor
from reconciler.execution.command import Order
from reconciler.execution.ending import Stop, Verdict, judge, refused
from reconciler.execution.handover import Outputs
from reconciler.execution.lease import Term
from reconciler.execution.masking import Masker
from reconciler.execution.recorder import Recorder
from reconciler.execution.secrets import SecretError
from reconciler.execution.shipping import Shipping
from reconciler.execution.supervisor import Exit, Lost, NotStarted, Supervised
from reconciler.model.job import Reason
from reconciler.settings import Settings
from reconciler.store.database import Connection, Write
from reconciler.store.jobs import MAIN, Ending, LiveTrial


@dataclass(frozen=True, slots=True)
class Tools:
    """What `execution.run` lends: its ways to store, to open secrets, to mask logs, to end processes, to take a lock.

    `with_secrets`, `masker` and `path` block; `path` is of a run folder by its name below DATA/runs.
    """

    settings: Settings
    path: Callable[[str], Path]
    with_secrets: Callable[[Order], Order]
    masker: Callable[[LiveTrial, Path], Masker]
    watch_disk: Callable[[LiveTrial, Supervised], None]
    lock: Callable[[str], asyncio.Lock]
    term: Callable[[], Term | None]
    end: Callable[[Supervised, Stop], Awaitable[None]]
    give_up: Callable[[Supervised], Awaitable[None]]
    read: Callable[[Callable[[Connection], Any]], Awaitable[Any]]
    persist: Callable[[Callable[[Write], Any]], Awaitable[Any]]
    patiently: Callable[[Callable[[], Any]], Awaitable[Any]]
    shipping: Shipping


class Single:
    """Scripts of one claim, one at a time or beside each other."""

    def __init__(self, tools: Tools, trial: LiveTrial) -> None:
        self._tools = tools
        self._trial = trial

    def new_folder(self, position: int) -> str:
        """The name of a fresh run folder for the script at this position, below DATA/runs. Blocks."""
        place = f"{self._trial.run}/scripts/{position:03}"
        number = 0
        while self._tools.path(f"{place}.{number}").exists():
            number += 1
        return f"{place}.{number}"

    async def run(self, order: Order, stop: Stop) -> Ending:
        """From its start to its end, its time limit, or a stop."""
        try:
            handle, notes = await asyncio.to_thread(self._started, order)
        except SecretError as error:
            return await self._unstarted(order, secret(error))
        except (SteersmanError, OSError, ValueError) as error:
            return await self._unstarted(order, refused(error))
        return await self._watch(order, stop, handle, notes)

    async def resume(self, order: Order, stop: Stop) -> Ending | None:
        """From wherever the last daemon left it; None: it never began, and never will in this folder."""
        boot = ((self._trial.worker or "") + "@@").split("@")[2]
        found = await asyncio.to_thread(supervisor.attach, order.run, claimed_boot=boot or None)
        if isinstance(found, NotStarted):
            return None
        if isinstance(found, Supervised):
            return await self._watch(order, stop, found, ())
        if isinstance(found, Lost):
            await self._tools.shipping.restore(self._name(order))
        ended = None if isinstance(found, Lost) else found
        return await self._conclude(order, Verdict(ended), None, None)

    def written(self, order: Order) -> Outputs:
        """The outputs that it wrote to $STEERSMAN_OUTPUTS. Blocks."""
        found = handover.read_outputs(command.outputs_path(order.run))
        return handover.without_secrets(found, partial(self._tools.masker, self._trial, order.run))

    def _started(self, order: Order) -> tuple[Supervised, tuple[str, ...]]:
        """Blocks."""
        made, notes = command.build(self._tools.with_secrets(order), self._tools.settings)
        return supervisor.start(order.run, made, order.term), (*order.notes, *notes)

    async def _watch(self, order: Order, stop: Stop, handle: Supervised, notes: tuple[str, ...]) -> Ending:
        limit = order.policy.get("timeout_seconds")
        left = inf if limit is None else max(0.0, float(limit) - processes.age(handle.started))
        self._tools.watch_disk(self._trial, handle)
        recorder = self._recorder(order)
        following = asyncio.ensure_future(recorder.follow())
        self._tools.shipping.begin(self._name(order))
        try:
            ended = await supervisor.ended(handle, stop.news, left)
            if not ended:
                stop.ask(Reason.TIMEOUT, None)  # unless it was asked before
                if stop.reason is not Reason.EXIT_STATUS:
                    await asyncio.to_thread(stop.keep, order.run)
                await self._tools.end(handle, stop)
        except Exception:
            await self._tools.give_up(handle)
            raise
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        forced = None if ended or stop.reason is Reason.EXIT_STATUS else stop
        return await self._conclude(order, Verdict(None, forced, notes), recorder, handle)

    def _recorder(self, order: Order) -> Recorder:
        masker = partial(self._tools.masker, self._trial, order.run)
        return Recorder(order.run, masker, lasting=order.survivors)

    async def _conclude(
        self, order: Order, known: Verdict, recorder: Recorder | None, handle: Supervised | None
    ) -> Ending:
        """Complete its log, judge it. Every step may be done again after a kill."""
        ending: Ending = await self._tools.patiently(partial(self._gather, order, known, recorder, handle))
        await self._tools.shipping.complete(self._name(order))
        return ending

    async def _unstarted(self, order: Order, ending: Ending) -> Ending:
        told = await asyncio.to_thread(_unstarted, order, ending)
        await self._tools.shipping.complete(self._name(order))
        return told

    def _name(self, order: Order) -> str:
        """Its run folder, below DATA/runs."""
        return str(order.run.relative_to(self._tools.path("")))

    def _gather(
        self, order: Order, known: Verdict, recorder: Recorder | None, handle: Supervised | None
    ) -> Ending:
        """What it left, and how it is judged. Blocks."""
        run, mark = order.run, supervisor.cookie(order.run)
        found: Exit | None = known.found if handle is None else supervisor.outcome(handle)
        recorder = recorder or self._recorder(order)
        survivors = order.survivors and found is not None and found.status == 0
        if not survivors:
            containers.remove(run)
            groups.end(mark)
        complaints = self.written(order).complaints
        size = recorder.finish((*known.notes, *complaints))
        memory = False if survivors else groups.finish(mark).out_of_memory
        return judge(replace(known, found=found), run, {MAIN: size}, {}, out_of_memory=memory)


def secret(error: SecretError) -> Ending:
    """A script that was not started for want of a secret."""
    return replace(refused(error), reason=error.reason)


def _unstarted(order: Order, ending: Ending) -> Ending:
    """Its log says why. Blocks."""
    order.run.mkdir(parents=True, mode=0o700, exist_ok=True)
    if ending.error is None:
        return ending
    text = f"steersman: {ending.error}\n".encode()
    (order.run / "log").write_bytes(text)
    return replace(ending, log_size=len(text))
