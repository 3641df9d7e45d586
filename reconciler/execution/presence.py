"""Tells the database, every two seconds, that this process is there, and learns who else is (design 7.5).

Every daemon and every worker on a PostgreSQL does so. The lease is renewed by each beat that the database took,
counted from before it was sent: so it is out on this machine before anybody else says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from reconciler.errors import Stalled
from reconciler.execution import lease as leases
from reconciler.execution.lease import Lease
from reconciler.store import workers
from reconciler.store.database import Connection, Database
from reconciler.store.workers import Worker

log = structlog.get_logger(__name__)
_EVERY = 2.0
_AGAIN = 0.5
_FRESH = 5.0  # seconds in which one that works is seen again
_PATIENCE = 8.0
_HEARD = 6.0  # seconds: one of which three heart-beats did not come is given nothing more


class Presence:
    """`facts()` is what it tells of itself now; `heard(workers)` gets all that there are after each beat, where anybody
    wants to know: each worker that read the rows of all the others would cost their number, squared.

    `silent()` is called when the database did not answer for so long that its connections must be taken for dead.
    """

    def __init__(
        self,
        database: Database,
        me: Worker,
        lease: Lease | None,
        facts: Callable[[], Mapping[str, Any]],
        heard: Callable[[Sequence[Worker]], None] | None = None,
        silent: Callable[[], None] = lambda: None,
    ) -> None:
        self._silent = silent
        self._database = database
        self._me = me
        self._lease = lease
        self._facts = facts
        self._heard = heard
        self._sights = Sights()
        self._left = False

    async def enter(self) -> None:
        """Register, as a process that has just begun. `Stalled` where another machine has a copy of its data directory:
        both would take each other's trials for their own.
        """
        before = await self._twin()
        if before is not None and before.boot != self._me.boot and before.age < _FRESH:
            await asyncio.sleep(_FRESH)  # this machine, started anew, or another one that is still seen
            after = await self._twin()
            if after is not None and after.seen_at != before.seen_at:
                told = f"{before.name} works with a copy of this data directory, and so with its identity"
                raise Stalled("DataDirectoryCopied", f"{told}: give this process a directory of its own")
        await self._tell(lambda connection: workers.register(connection, self._me))

    async def run(self) -> None:
        """Until cancelled; a database that does not answer is asked again soon.

        After a silence all connections are ended: some may wait for answers that were lost, and would for ever.
        """
        failing_since: float | None = None
        while True:
            await asyncio.sleep(_EVERY if failing_since is None else _AGAIN)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._tell(self._beat)
            except Exception as error:  # a full disk that takes no lease, too: one that is silent is worse
                if failing_since is None:
                    failing_since = begun
                    log.warning("not-heard-of", message=str(error) or "the database is silent")
                if isinstance(error, TimeoutError):
                    self._hang_up()
                continue
            if failing_since is not None:
                log.info("heard-of-again")
                if time.monotonic() - failing_since > _PATIENCE:
                    self._hang_up()
            failing_since = None

    def _hang_up(self) -> None:
        self._database.hang_up()
        self._silent()

    async def leave(self) -> None:
        """It ends, and nothing of it runs on."""
        self._left = True  # a beat that comes later would enter it again
        await self._database.aside(lambda connection: workers.leave(connection, self._me.id))

    def _beat(self, connection: Connection) -> None:
        if not workers.beat(connection, self._me.id, self._facts()) and not self._left:
            workers.register(connection, self._me)

    async def _twin(self) -> Worker | None:
        """As it is registered now."""
        return await self._database.read(lambda connection: workers.find(connection, self._me.id))

    async def _tell(self, work: Callable[[Connection], None]) -> None:
        def tell(connection: Connection) -> list[Worker]:
            work(connection)
            return [] if self._heard is None else workers.find_all(connection)

        since = leases.uptime()
        found = await self._database.aside(tell)
        if self._lease is not None:
            await asyncio.to_thread(self._lease.renew, since)
        if self._heard is not None:
            self._heard(self._sights.note(found, clock()))


def clock() -> float:
    """Seconds that nobody sets, and which also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def silence(worker: Worker) -> float:
    """Seconds in which nothing was heard of one that `Presence` has told of: by the database's clock, which knows of
    what was before we looked, or by our own, where that was set back.
    """
    return max(worker.age, clock() - worker.heard_at)


class Sights:
    """When this process learned of the last beat of each, by its own clock: the database's may be set meanwhile, and
    nobody is given up for that.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[datetime | None, float]] = {}

    def note(self, found: Sequence[Worker], now: float) -> list[Worker]:
        """The same, each with `heard_at` and `unheard`; `now` in seconds of `clock`.

        Whether one is unheard is said here, once a beat: asked at any other moment, it could have become so and be
        heard again between two beats, and what was not given to it meanwhile would wait without anybody being woken.
        """
        known = {worker.id: self._sight(worker, now) for worker in found}
        self._known = known
        return [
            replace(worker, heard_at=at, unheard=max(worker.age, now - at) > _HEARD)
            for worker in found
            for at in (known[worker.id][1],)
        ]

    def _sight(self, worker: Worker, now: float) -> tuple[datetime | None, float]:
        before = self._known.get(worker.id)
        if before is not None and before[0] == worker.seen_at:
            return before
        # it was that long ago, if the database's clock was not set since; more than a beat's time is not believed
        return worker.seen_at, now - min(max(worker.age, 0.0), _EVERY)
