"""A wall clock that is set: the times of jobs that are not over are moved along with it (design 15).

The time that a job may still take, the next try of a task, and the order of a job's logs are reckoned from stored
times. With a clock that is set by an hour, jobs would end too early or wait too long, and a log that was given out
would get another order. Called once a second while the daemon leads, and before each look at a job, so that nothing is
decided by times that no longer fit. Schedules and windows mean what the clock says.
"""

from __future__ import annotations

import asyncio

import structlog

from reconciler.errors import Transient
from reconciler.installation import Installation
from reconciler.store import jobs as rows

log = structlog.get_logger(__name__)
_SECONDS = 1.0


async def run(installation: Installation) -> None:
    """Follow the clock until cancelled."""
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            await follow(installation)
        except Transient as error:
            log.warning("store-unavailable", reason=error.reason, message=error.message)


async def follow(installation: Installation) -> None:
    """Move what has to be moved, and look at all jobs again. Transient."""
    wall = installation.wall_clock
    if wall.look() is None:
        return
    async with wall.following:
        found = wall.look()
        if found is None:  # somebody else was faster
            return
        log.warning("clock-set", seconds=round(found.by.total_seconds(), 3))
        by, since, until = found.by, found.since, found.until
        await installation.database.write(lambda w: rows.move_live(w.connection, by, since, until))
        wall.accept(found)
    for name in ("jobs", "limits"):
        installation.wake(name)
