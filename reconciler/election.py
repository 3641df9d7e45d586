"""Tries for the lead of a database, keeps it, and says when it is had and when it is lost (design 7.5).

The lead is a lock of the writer's session (`reconciler.store.ownership`); nothing is decided here but when to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from reconciler.errors import SteersmanError
from reconciler.store.database import Connection, Database

log = structlog.get_logger(__name__)
TRY, PING = 1.0, 2.0  # seconds
Step = Callable[[], Awaitable[None]]


async def stand(
    database: Database, begin: Callable[[Connection], None], won: Step, lost: Step, *, leading: bool
) -> None:
    """Until cancelled. `begin` runs in the transaction of the take-over; `leading`: it has been won already.

    `lost` has ended what only the leader does when it returns.
    """
    while True:
        await asyncio.sleep(PING if leading else TRY)
        leading = await (_keep(database, lost) if leading else _take(database, begin, won, lost))


async def _keep(database: Database, lost: Step) -> bool:
    """Is it still ours? Who is not answered cannot know, and writes nothing meanwhile."""
    try:
        if await database.ping():
            return True
    except SteersmanError as error:
        log.warning("lead-uncertain", reason=error.reason, message=error.message)
        return True
    log.warning("lead-lost")
    await _give_up(database, lost)
    return False


async def _take(database: Database, begin: Callable[[Connection], None], won: Step, lost: Step) -> bool:
    """Is it ours now?"""
    try:
        if not await database.lead(begin):
            return False
        log.info("lead-taken")
        await won()
    except SteersmanError as error:
        log.warning("lead-not-taken", reason=error.reason, message=error.message)
    except Exception as error:
        log.error("lead-not-taken", exc_info=error)
    else:
        return True
    await _give_up(database, lost)
    return False


async def _give_up(database: Database, lost: Step) -> None:
    try:
        await lost()
    except Exception as error:
        log.error("lead-given-up", exc_info=error)
    await database.follow()
