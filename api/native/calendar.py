"""`/reconciler/calendar` and `…calendar.ics`: all that is declared with a time, on one calendar (design 8.3)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Response, get
from litestar.params import QueryParameter

from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import calendar

_MEDIA_TYPE = "text/calendar"
_BUSY = frozenset({"freeze"})

From = Annotated[
    str | None, QueryParameter(name="from", description="a time with an offset, or a day; now if absent")
]
To = Annotated[str | None, QueryParameter(name="to", description="the same; 30 days later if absent")]


@get("/reconciler/calendar", summary="Freezes, windows, last days of service, and schedules")
async def entries(
    installation: Installation, caller: Caller, begin: From = None, until: To = None
) -> dict[str, Any]:
    """Entries by their start. A schedule that starts more than three times on a day is one entry, from its first start
    of that day to the last, with their `count`. Of starts at most 30,000 are shown; `cut`: more follow.
    """
    return await calendar.between(installation, caller, begin, until)


@get("/reconciler/calendar.ics", media_type=_MEDIA_TYPE, summary="The same for calendar programs")
async def feed(
    installation: Installation, caller: Caller, begin: From = None, until: To = None
) -> Response[bytes]:
    """iCalendar (RFC 5545); programs give the token as the password of Basic authentication."""
    found = await calendar.between(installation, caller, begin, until)
    content = await asyncio.to_thread(_written, found, installation.url)
    return Response(content, media_type=_MEDIA_TYPE)


def _written(found: Mapping[str, Any], url: str) -> bytes:
    import icalendar  # 100 ms and some memory, only for who asks

    whole = icalendar.Calendar()
    whole.add("prodid", "-//Steersman//Calendar//EN")
    whole.add("version", "2.0")
    whole.add("x-wr-calname", "Steersman")
    stamp = datetime.now(UTC)
    for item in found["items"]:
        event = icalendar.Event()
        start, end = (datetime.fromisoformat(item[name]).astimezone(UTC) for name in ("start", "end"))
        mark = hashlib.sha256(f"{item['kind']} {item['key']} {start} {item['title']}".encode()).hexdigest()
        event.add("uid", f"{mark[:32]}@{url.partition('://')[2]}")
        event.add("dtstamp", stamp)
        event.add("dtstart", start.date() if item["kind"] == "service-end" else start)
        if item["kind"] == "service-end":
            event.add("dtend", end.date())
        elif end > start:
            event.add("dtend", end)
        often = f", {item['count']} times" if item["count"] > 1 else ""
        event.add("summary", item["title"] + often)
        event.add("description", f"{item['key']} at {item['where']}")
        event.add("categories", [item["kind"]])
        event.add("transp", "OPAQUE" if item["kind"] in _BUSY else "TRANSPARENT")
        whole.add_component(event)
    written: bytes = whole.to_ical()
    return written
