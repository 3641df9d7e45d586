"""Who ends while it is still connecting ends: nothing of its connections lives on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from reconciler.execution.carry import Carrier
from tests import databases


def test_a_carrier_that_is_cancelled_at_any_moment_leaves_nothing_that_goes_on() -> None:
    """A process waits at its end for all its tasks, and some of a pool's take a cancel for a failure to connect."""
    carrier = Carrier(databases.internal(databases.new_postgresql()))

    async def nothing(_: str) -> None:
        """No trial comes."""

    async def work() -> None:
        for moment in range(0, 60, 2):
            listening = asyncio.create_task(carrier.work("aa", nothing, nothing))
            await asyncio.sleep(moment / 1000)
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            _, stuck = await asyncio.wait(left, timeout=10) if left else (None, set())
            assert stuck == set(), f"after {moment} ms"

    asyncio.run(work())
