"""A wall clock that is set: the times of jobs and runs that are not over are moved along with it, and what waits for
its time is looked at again (design 15).

The time that a job may still take, the next try of a task, and the order of a job's logs are reckoned from stored
times. With a clock that is set by an hour, jobs would end too early or wait too long, and a log that was given out
would get another order. Called once a second while the daemon leads, and before each look at a job, so that nothing is
decided by times that no longer fit. Cron times and windows mean what the clock says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import structlog

from reconciler.errors import Transient
from reconciler.installation import Installation
from reconciler.store import jobs, pipelines
from reconciler.store.database import Write
from reconciler.wall_clock import WallClock

log = structlog.get_logger(__name__)
_SECONDS = 1.0


async def run(installation: Installation, rouse: Callable[[], None]) -> None:
    """Follow the clock until cancelled; `rouse()` looks at all that waits for a time.

    Timers wait by a clock that nobody sets and that stands still while the machine is suspended.
    """
    timers = WallClock(time.monotonic)
    told = ""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            await follow(installation)
        except Transient as error:
            log.warning("store-unavailable", reason=error.reason, message=error.message)
            continue
        except Exception as error:  # a fault of ours in what is moved is no reason to wake nobody
            if repr(error) != told:
                log.exception("clock-not-followed")
            told = repr(error)
        found = timers.look()
        if found is not None:
            timers.accept(found)
            rouse()


async def follow(installation: Installation) -> None:
    """Move what has to be moved. Transient."""
    wall = installation.wall_clock
    if wall.look() is None:
        return
    async with wall.following:
        found = wall.look()
        if found is None:  # somebody else was faster
            return
        log.warning("clock-set", seconds=round(found.by.total_seconds(), 3))
        by, since, until = found.by, found.since, found.until
        await installation.database.write(partial(_move, by, since, until))
        wall.accept(found)


def _move(by: timedelta, since: datetime, until: datetime, write: Write) -> None:
    jobs.move_live(write.connection, by, since, until)
    for run in pipelines.live(write.connection):
        pipelines.save(write.connection, run.moved(by, since, until), write.version)
