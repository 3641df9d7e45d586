"""The event log, as pages and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from reconciler.access import Caller, require_level
from reconciler.installation import Installation
from reconciler.model.event import Recorded
from reconciler.model.rights import Level
from reconciler.store import events

_PAGE = 500
_LOOKED = 5_000


async def page(
    installation: Installation,
    caller: Caller,
    after: int,
    limit: int,
    key: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """Events after a number that the caller sees, oldest first.

    `next` is the number to give as `after` while there may be more; a page looks through a bounded part of the log.
    """
    looked = limit if caller.sees_all else max(limit, _LOOKED)
    found = await installation.database.read(lambda c: events.after(c, after, looked + 1, key, kind))
    seen = [item for item in found[:looked] if _shown(caller, item)]
    items = seen[:limit]
    last = items[-1].seq if len(seen) > limit else found[looked - 1].seq if len(found) > looked else None
    return {"items": [item.to_dict() for item in items], "next": last}


async def newest(
    installation: Installation,
    caller: Caller,
    before: int | None,
    limit: int,
    key: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """Events before a number that the caller sees, newest first; `next` is the number to go on before."""
    looked = limit if caller.sees_all else max(limit, _LOOKED)
    found = await installation.database.read(lambda c: events.before(c, before, looked + 1, key, kind))
    seen = [item for item in found[:looked] if _shown(caller, item)]
    items = seen[:limit]
    last = items[-1].seq if len(seen) > limit else found[looked - 1].seq if len(found) > looked else None
    return {"items": [item.to_dict() for item in items], "next": last}


def _shown(caller: Caller, item: Recorded) -> bool:
    """What concerns no resource tells of all of them: it is for those who see everything."""
    return caller.sees_all if item.event.key is None else caller.sees(item.event.key)


async def follow(installation: Installation, caller: Caller, after: int) -> AsyncIterator[dict[str, Any]]:
    """All events after a number that the caller sees, and then each as it is written."""
    news = asyncio.Event()

    def notice(_version: int, recorded: Recorded | None) -> None:
        if recorded is not None:
            news.set()

    installation.database.subscribe(notice)
    try:
        while True:
            news.clear()
            found = await installation.database.read(partial(events.after, seq=after, limit=_PAGE))
            for item in found:
                after = item.seq
                if _shown(caller, item):
                    yield item.to_dict()
            if len(found) < _PAGE:
                await news.wait()
    finally:
        installation.database.unsubscribe(notice)


async def changes(installation: Installation) -> AsyncIterator[int]:
    """The version of the store now, and again whenever it has become another; those in between are left out."""
    news = asyncio.Event()

    def notice(_version: int, _recorded: Recorded | None) -> None:
        news.set()

    installation.database.subscribe(notice)
    try:
        while True:
            news.clear()
            yield installation.version
            await news.wait()
    finally:
        installation.database.unsubscribe(notice)


async def verify(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Check the hash chain of the whole log."""
    require_level(caller, Level.OWNER, "checking the event log")
    count, fault = await installation.database.read(events.verify)
    return {"events": count, "sound": fault is None, "fault": fault}
