"""Whether this daemon leads its installation or follows another one, as passes, doors and the API see it (design 7.5).

`reconciler.daemon` says it; holds what may only go on while it leads, and what a follower knows of the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reconciler.errors import Transient

T = TypeVar("T")


@dataclass
class Standing:
    """`leads`: it does, until it is told otherwise; alone it always does.

    `leader_seen`: a daemon that leads was seen lately; `seen`: the last event that a follower's snapshot holds;
    `fetched`: the applied commit, once its copy of the spec repository has it; `refreshing`: held by who brings it on.
    """

    leads: bool = True
    leader_seen: bool = True
    seen: int = 0
    fetched: str | None = None
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _carried: set[asyncio.Task[Any]] = field(default_factory=set)

    async def carry(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what only the leader may, and which ends when it leads no more. `Transient`."""
        task = asyncio.ensure_future(work)
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Transient(
                    "LeadLost", "this daemon leads no more; it may or may not have been done"
                ) from None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise

    async def give_up(self) -> None:
        """It leads no more: all that was carried has ended when this returns."""
        self.leads = False
        tasks = list(self._carried)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
