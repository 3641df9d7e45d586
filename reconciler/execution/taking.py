"""Takes up the trials that were claimed for this process by the daemon that leads, and ends those that it wants ended.

`Taking` is run by every worker, and by every daemon on PostgreSQL. What `execution.carry` brings is an id: the store
says whether it is to be run here. So it also looks by itself at every start, after each gap, and now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from reconciler.errors import Transient
from reconciler.execution.carry import Carrier
from reconciler.execution.command import LOCAL, Place, builtin
from reconciler.execution.run import Runs
from reconciler.execution.secrets import Handed
from reconciler.model.job import Job, State
from reconciler.store import jobs as rows
from reconciler.store import orders, resources
from reconciler.store.database import Connection, Database, Write
from reconciler.store.jobs import LiveTrial

log = structlog.get_logger(__name__)
T = TypeVar("T")
_LOOK = 15.0  # seconds
_KNOWN = 5.0  # seconds by which who leads knows that this process is leaving
_AGAIN, _LONGEST = 0.2, 5.0


class Taking:
    """`handed`: where what came with a trial is put; None: this process knows all secrets itself."""

    def __init__(self, database: Database, runs: Runs, carrier: Carrier, handed: Handed | None) -> None:
        self._database = database
        self._runs = runs
        self._carrier = carrier
        self._handed = handed
        self.leaving = False

    async def recover(self) -> int:
        """After a start: what was at work here is taken up again. Gives how many."""
        await self._take_orders()
        places = await self._database.read(places_of)
        return await self._runs.recover(lambda key: places.get(key or "") or vanished(key))

    async def run(self) -> None:
        """Until cancelled."""
        looking = asyncio.create_task(self._look(), name="claims")
        try:
            await self._carrier.work(self._runs.instance, self._run, self._stop)
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """The net under what is carried."""
        unminded: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(_LOOK)
            try:
                unminded = await self.compare(unminded)
            except Transient:
                continue
            except Exception as error:  # there is no other net
                log.error("claims-not-compared", exc_info=error)

    async def compare(self, unminded: frozenset[str]) -> frozenset[str]:
        """What is at work here with what was claimed for here, where each may have changed without the other.

        Gives the claims that have begun and that nobody here minds: their commit's answer may be on its way. Those that
        are so for the second time are taken up, as after a start.
        """
        at_work = self._runs.at_work
        claimed = await self._database.read(lambda c: rows.claimed_for(c, self._runs.instance))
        for trial in at_work - {each.id for each in claimed}:
            await self._end_foreign(trial)
        found: set[str] = set()
        for each in claimed:
            if each.state is State.DISPATCHING:
                await self._run_again(each.id)
            elif each.id in at_work:
                if each.state is State.ABORTING:
                    self._runs.stop(each.id)
            elif each.id in unminded:
                await self._take_up(each)
            else:
                found.add(each.id)
        return frozenset(found)

    async def _run_again(self, trial: str) -> None:
        """What is wrong with one keeps none of the others from being begun."""
        try:
            await self._run(trial)
        except Exception as error:
            log.error("trial-not-begun", trial=trial, exc_info=error)

    async def _end_foreign(self, trial: str) -> None:
        """It has ended, or was given up, by the word of who leads, while this process was not to be reached."""
        found = await self._database.read(lambda c: rows.live_trials(c, trial))
        if not any(self._runs.is_ours(each.worker) for each in found):
            self._runs.stop(trial)

    async def _take_up(self, trial: LiveTrial) -> None:
        """It was begun by a commit whose answer did not come, so that nothing has followed from it."""
        await self._take_orders()
        key = trial.executor or ""
        place = await self._database.read(lambda c: place_of(c, key))
        log.warning("trial-unminded", trial=trial.id, job=trial.job)
        self._runs.take_up(trial, place or vanished(key))

    async def _run(self, trial: str) -> None:
        """Begin it, if it is still to begin, and here; who is leaving lets others have it."""
        if self.leaving:
            await asyncio.sleep(_KNOWN)  # else it came back at once
            await _steadily(lambda: self._database.write(lambda write: self._give_back(write, trial)))
            return
        found = await _steadily(lambda: self._database.read(lambda c: self._find(c, trial)))
        if found is None:
            return
        if self.leaving:
            return  # it is given back when it is looked at next, or when this process is gone
        live, job, place, text = found
        if self._handed is not None and text is not None:
            self._handed.take(trial, text)
        self._runs.begin(live, job, place)

    def _give_back(self, write: Write, trial: str) -> None:
        for live in rows.live_trials(write.connection, trial):
            if self._runs.is_ours(live.worker) and rows.give_back(write.connection, live, write.version):
                write.wake("dispatch")

    def _find(self, connection: Connection, trial: str) -> tuple[LiveTrial, Job, Place, str | None] | None:
        for live in rows.live_trials(connection, trial):
            job = rows.load(connection, live.job)
            if live.state is State.DISPATCHING and self._runs.is_ours(live.worker) and job is not None:
                key = live.executor or ""
                place = place_of(connection, key) or vanished(key)
                return live, job, place, orders.load(connection, trial)
        return None

    async def _stop(self, trial: str) -> None:
        """End it; where nothing of it runs, its end is stored at once."""
        if not self._runs.stop(trial):
            await _steadily(lambda: self._runs.abandon(trial))

    async def _take_orders(self) -> None:
        handed = self._handed
        if handed is None:
            return

        def find(connection: Connection) -> dict[str, str | None]:
            found = rows.claimed_for(connection, self._runs.instance)
            return {trial.id: orders.load(connection, trial.id) for trial in found}

        for trial, text in (await self._database.read(find)).items():
            if text is not None:
                handed.take(trial, text)


def place_of(connection: Connection, key: str) -> Place | None:
    """An executor by its KEY, as it is declared; `local` also where none is."""
    resource = resources.load(connection, key)
    if resource is not None:
        return Place(key, resource.spec or {})
    return builtin() if key == LOCAL else None


def places_of(connection: Connection) -> dict[str, Place]:
    """All executors that are declared; without any there is `local` (own-kinds, "Executor")."""
    found = {r.key: Place(r.key, r.spec or {}) for r in resources.load_kind(connection, "Executor") if r.spec}
    return found or {LOCAL: builtin()}


def vanished(key: str | None) -> Place:
    """An executor that is no longer declared: what runs there goes on under the strictest rules."""
    return Place(key or "", {"sandbox": "required", "network": "none"})


async def _steadily(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, and again while the database does not answer."""
    delay = _AGAIN
    while True:
        try:
            return await work()
        except Transient:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST)
