"""Tells the database, every two seconds, that this process is there, and learns who else is (design 7.5).

Every daemon and every worker on a PostgreSQL does so. The lease is renewed by each beat that the database took,
counted from before it was sent: so it is out on this machine before anybody else says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from reconciler.errors import SteersmanError
from reconciler.execution import lease as leases
from reconciler.execution.lease import Lease
from reconciler.store import workers
from reconciler.store.database import Connection, Database
from reconciler.store.workers import Worker

log = structlog.get_logger(__name__)
_EVERY = 2.0
_AGAIN = 0.5


class Presence:
    """`facts()` is what it tells of itself now; `heard(workers)` gets all that there are after each beat."""

    def __init__(
        self,
        database: Database,
        me: Worker,
        lease: Lease | None,
        facts: Callable[[], Mapping[str, Any]],
        heard: Callable[[Sequence[Worker]], None],
    ) -> None:
        self._database = database
        self._me = me
        self._lease = lease
        self._facts = facts
        self._heard = heard

    async def enter(self) -> None:
        """Register, as a process that has just begun."""
        await self._tell(lambda connection: workers.register(connection, self._me))

    async def run(self) -> None:
        """Until cancelled; a database that does not answer is asked again soon."""
        told = False
        while True:
            await asyncio.sleep(_AGAIN if told else _EVERY)
            try:
                await self._tell(self._beat)
            except SteersmanError as error:
                if not told:
                    log.warning("not-heard-of", reason=error.reason, message=error.message)
                told = True
                continue
            if told:
                log.info("heard-of-again")
            told = False

    async def leave(self) -> None:
        """It ends, and nothing of it runs on."""
        await self._database.aside(lambda connection: workers.leave(connection, self._me.id))

    def _beat(self, connection: Connection) -> None:
        if not workers.beat(connection, self._me.id, self._facts()):
            workers.register(connection, self._me)

    async def _tell(self, work: Callable[[Connection], None]) -> None:
        def tell(connection: Connection) -> list[Worker]:
            work(connection)
            return workers.find_all(connection)

        since = leases.uptime()
        found = await self._database.aside(tell)
        if self._lease is not None:
            await asyncio.to_thread(self._lease.renew, since)
        self._heard(found)
