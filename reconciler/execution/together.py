"""Runs what several trials ask for in one thread, one after the other: going there and back costs more than the work.

Called by `execution.run` for what is short. It knows nothing of trials.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
_LONG = 0.02  # what has taken longer is told before the rest is done


@dataclass(slots=True)
class _Errand:
    """Something to do, and what came of it."""

    work: Callable[[], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Together:
    """What comes within so many seconds goes together."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: list[_Errand] = []

    async def run(self, work: Callable[[], T], *, wait: bool) -> T:
        """Do it in a thread; without `wait` now, with all that waits. Cancelled, it still waits for it."""
        loop = asyncio.get_running_loop()
        errand = _Errand(work, loop.create_future())
        self._waiting.append(errand)
        if not wait:
            self._go()
        elif len(self._waiting) == 1:
            loop.call_later(self._seconds, self._go)
        try:
            result: T = await asyncio.shield(errand.done)
        except asyncio.CancelledError:
            await asyncio.wait({errand.done})
            raise
        return result

    def _go(self) -> None:
        """All that waits, to a thread."""
        errands, self._waiting = self._waiting, []
        if errands:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, _do, errands, loop)


def _do(errands: list[_Errand], loop: asyncio.AbstractEventLoop) -> None:
    begun = time.monotonic()
    done: list[_Errand] = []
    for errand in errands:
        try:
            errand.result = errand.work()
        except Exception as error:
            errand.error = error
        done.append(errand)
        if time.monotonic() - begun > _LONG or errand is errands[-1]:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, done)
            done = []


def _tell(errands: list[_Errand]) -> None:
    for errand in errands:
        if errand.done.done():
            continue
        if errand.error is not None:
            errand.done.set_exception(errand.error)
        else:
            errand.done.set_result(errand.result)
