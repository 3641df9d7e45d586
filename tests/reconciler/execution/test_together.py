"""What comes within a moment goes to one thread together."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from reconciler.execution.together import Together


def test_each_gets_its_own_result_or_error() -> None:
    """All in one thread, in order; one that fails harms no other."""

    async def work() -> None:
        together, threads = Together(0.05), []

        def errand(number: int) -> int:
            threads.append(threading.get_ident())
            if number == 2:
                raise OSError("full")
            return number

        results = await asyncio.gather(
            *(together.run(lambda n=n: errand(n), wait=True) for n in range(5)), return_exceptions=True
        )
        assert [str(result) for result in results] == ["0", "1", "full", "3", "4"]
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()

    asyncio.run(work())


def test_who_does_not_wait_takes_the_waiting_along() -> None:
    """And nothing is left behind for the end of the moment."""

    async def work() -> None:
        together = Together(30)
        waiting = asyncio.ensure_future(together.run(lambda: "a", wait=True))
        await asyncio.sleep(0)
        assert await together.run(lambda: "b", wait=False) == "b"
        assert await asyncio.wait_for(waiting, 5) == "a"

    asyncio.run(work())


def test_cancelled_it_still_waits_for_the_work() -> None:
    """What it works on must not be touched by another meanwhile."""

    async def work() -> None:
        together, done = Together(0), []

        def slow() -> None:
            time.sleep(0.3)
            done.append(1)

        task = asyncio.ensure_future(together.run(slow, wait=False))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [1]

    asyncio.run(work())
