"""The reconcile loop: names in a queue, due times, back-off; the one place that turns errors into conditions.

A wake-up carries a name, never content: each pass reads both sides afresh. A name is never passed twice at the same
time, and a wake-up during its pass makes it pass again. APScheduler is the only timer: one date job a name, for its
earliest due time (design 6, 12).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from reconciler.errors import Stalled, SteersmanError, Transient, Waiting

log = structlog.get_logger(__name__)
Pass = Callable[[str], Awaitable[datetime | None]]
Trouble = Callable[[str, tuple[str, str] | None], None]
MAX_SLOW = 16
FIRST_DELAY = 0.5
MAX_DELAY = 300.0


class Loop:
    """`run_pass(name)` gives the time at which to look again; `trouble(name, fact)` is told of errors and their end.

    Of the names that `slow` says may wait for others (a remote repository), so many pass at once; all others never
    wait for a place.
    """

    def __init__(
        self, run_pass: Pass, trouble: Trouble, slow: Callable[[str], bool] = lambda _name: False
    ) -> None:
        self._run_pass = run_pass
        self._trouble = trouble
        self._slow = slow
        self._ready: dict[str, float] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._due: dict[str, datetime] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        # of the slow ones: those that wait for a place, and how many places are taken
        self._queued: dict[str, None] = {}
        self._taken = 0
        self._context: Context | None = None
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._closed = False
        self.passes = 0

    def wake(self, name: str, at: datetime | None = None) -> None:
        """Queue a name, now or at a time; the earliest time wins."""
        if self._closed:
            return
        if at is not None and at > datetime.now(UTC):
            self._later(name, at)
            return
        self._idle.clear()
        if name in self._busy:
            self._again.add(name)
        elif name not in self._ready:
            self._ready[name] = time.monotonic()
            self._begin(name)

    def rouse(self) -> None:
        """Look now at all that waits for its time: the clock by which that was reckoned shows another one. What passes
        at the moment may have read it before, and passes again.
        """
        for name in {*self._due, *self._busy}:
            self.wake(name)

    async def run_now(self, name: str) -> None:
        """Queue a name and wait for a pass of it that begins after this call; its errors stay in the loop."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(name, []).append(waiter)
        self.wake(name)
        await waiter

    async def run(self) -> None:
        """Go on until `close`."""
        self._scheduler.start()
        self._context = copy_context()
        for name in self._ready:
            self._begin(name)
        await self._closing.wait()

    def _begin(self, name: str) -> None:
        """Pass a name next; before `run` none, of the slow ones no more than there are places."""
        if self._context is None or self._closed:
            return
        if self._slow(name):
            if self._taken >= MAX_SLOW:
                self._queued[name] = None
                return
            self._taken += 1
        # in a context of its own: that of whoever woke it is nothing to it
        task = asyncio.create_task(self._one(name), name=f"pass {name}", context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leave(self, name: str) -> None:
        """A pass has ended: the name may pass again, or another one takes its place."""
        self._busy.discard(name)
        if self._slow(name):
            self._taken -= 1
        if name in self._again:
            self._again.discard(name)
            self.wake(name)
        if self._queued and self._taken < MAX_SLOW:
            following = next(iter(self._queued))
            del self._queued[following]
            self._begin(following)
        if not self._busy and not self._ready:
            self._idle.set()

    async def idle(self) -> None:
        """Until nothing is queued or passing (what is due later does not count)."""
        await self._idle.wait()

    @property
    def depth(self) -> int:
        """Names queued or passing."""
        return len(self._ready) + len(self._busy)

    @property
    def oldest(self) -> tuple[str, float] | None:
        """The name that has been queued longest, with its seconds; health is judged by it."""
        if not self._ready:
            return None
        name = min(self._ready, key=self._ready.__getitem__)
        return name, time.monotonic() - self._ready[name]

    @property
    def next_due(self) -> dict[str, datetime]:
        """Names with the time at which they will be looked at."""
        return dict(self._due)

    async def close(self) -> None:
        """Stop taking names, and wait for the passes at work."""
        self._closed = True
        self._closing.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, name: str) -> None:
        del self._ready[name]
        due = self._due.pop(name, None)  # it sees what it was due for, and says when it is due again
        self._busy.add(name)
        waiters = self._waiters.pop(name, [])
        try:
            at = await self._run_pass(name)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if due is not None and due > datetime.now(UTC):
                self._later(name, due)
            self._failed(name, error)
        else:
            if self._failures.pop(name, None):
                self._trouble(name, None)
            if at is not None:
                self._later(name, at)
        finally:
            self.passes += 1
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._leave(name)

    def _failed(self, name: str, error: Exception) -> None:
        """What happens next is said by the error's type, and nowhere else."""
        count = self._failures[name] = self._failures.get(name, 0) + 1
        now = datetime.now(UTC)
        if isinstance(error, SteersmanError):
            log.warning("pass-failed", name=name, reason=error.reason, message=error.message)
            fact = (error.reason, error.message)
        else:
            log.error("pass-crashed", name=name, exc_info=error)
            fact = ("InternalError", f"{type(error).__name__}: see the daemon's log")
        self._trouble(name, fact)
        if isinstance(error, Waiting) and error.after is not None:
            self._later(name, now + error.after)
        elif isinstance(error, Stalled):
            self._later(name, now + timedelta(seconds=MAX_DELAY))
        else:
            slow = 1.0 if isinstance(error, Transient) else 4.0
            delay = min(FIRST_DELAY * slow * 2 ** min(count - 1, 10), MAX_DELAY)
            self._later(name, now + timedelta(seconds=delay * random.uniform(0.8, 1.2)))  # noqa: S311 - jitter

    def _later(self, name: str, at: datetime) -> None:
        due = self._due.get(name)
        if due is not None and due <= datetime.now(UTC):
            self.wake(name)  # its timer has not come yet; the pass says when it is due again
            return
        if due is not None and due <= at:
            return
        self._due[name] = at
        self._scheduler.add_job(
            self._fire,
            "date",
            run_date=at,
            args=[name, at],
            id=name,
            replace_existing=True,
            misfire_grace_time=None,
            max_instances=1000,
        )

    async def _fire(self, name: str, at: datetime) -> None:
        """A coroutine, so that APScheduler calls it on the event loop; a plain function would run in a thread."""
        if self._due.get(name) == at:
            self.wake(name)
