"""The event log, as pages and live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from reconciler.installation import Installation
from reconciler.model.event import Recorded
from reconciler.store import events

_PAGE = 500


async def page(
    installation: Installation, after: int, limit: int, key: str | None = None, kind: str | None = None
) -> dict[str, Any]:
    """Events after a number, oldest first; `next` is the number to give as `after` while there are more."""
    found = await installation.database.read(lambda c: events.after(c, after, limit + 1, key, kind))
    items = found[:limit]
    return {
        "items": [item.to_dict() for item in items],
        "next": items[-1].seq if len(found) > limit else None,
    }


async def follow(installation: Installation, after: int) -> AsyncIterator[dict[str, Any]]:
    """All events after a number, and then each as it is written."""
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
                yield item.to_dict()
            if len(found) < _PAGE:
                await news.wait()
    finally:
        installation.database.unsubscribe(notice)


async def verify(installation: Installation) -> dict[str, Any]:
    """Check the hash chain of the whole log."""
    count, fault = await installation.database.read(events.verify)
    return {"events": count, "sound": fault is None, "fault": fault}
