"""`/ui/calendar`: freezes, windows, last days of service and schedules, a month or a day at a time (design 8.3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get

from api.dashboard.shell import PAGE, page
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import calendar

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])", re.ASCII)
_ONE = timedelta(days=1)
_MOST = 6
"""So many lines of a day are shown in a month …"""

_MOST_LINES = 1_000
"""… and so many on the day's own page."""

_KINDS = ("freeze", "service-end", "window", "start")


@get("/ui/calendar", **PAGE)
async def calendar_page(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    month: str = "",
    day: str = "",
) -> Response[bytes]:
    """The month `YYYY-MM`, or this one, in the server's time zone, in whole weeks; or the day `YYYY-MM-DD`."""
    zone = ZoneInfo(installation.settings.timezone)
    today = installation.now().astimezone(zone).date()
    if one := _day(day):
        return await _day_page(installation, caller, request, one)
    given = _MONTH.fullmatch(month)
    first = date(int(given[1]), int(given[2]), 1) if given else today.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    begin = first - timedelta(days=first.weekday())
    end = following + timedelta(days=-following.weekday() % 7)
    found = await calendar.between(installation, caller, begin.isoformat(), end.isoformat())
    every = [begin + timedelta(days=count) for count in range((end - begin).days)]
    return page(
        request,
        "calendar",
        first=first,
        weeks=[every[at : at + 7] for at in range(0, len(every), 7)],
        days=await asyncio.to_thread(_by_day, found["items"], begin, end, zone),
        today=today,
        before=(first - _ONE).strftime("%Y-%m"),
        following=following.strftime("%Y-%m"),
        zone=installation.settings.timezone,
        most=_MOST,
        cut=found["cut"],
    )


async def _day_page(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], day: date
) -> Response[bytes]:
    zone = ZoneInfo(installation.settings.timezone)
    found = await calendar.between(installation, caller, day.isoformat(), (day + _ONE).isoformat())
    lines = _by_day(found["items"], day, day + _ONE, zone).get(day, [])
    return page(
        request,
        "calendar-day",
        day=day,
        lines=lines[:_MOST_LINES],
        left=len(lines) - _MOST_LINES,
        cut=found["cut"],
        zone=installation.settings.timezone,
    )


def _day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 2000 <= found.year < 2100 else None


def _by_day(
    items: Sequence[Mapping[str, Any]], begin: date, end: date, zone: ZoneInfo
) -> dict[date, list[dict[str, Any]]]:
    """What there is on each day: first what holds or lets through, then starts, those of one KEY as one line with their
    `count`, by their time.
    """
    found: dict[date, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for item in items:
        start, stop = (datetime.fromisoformat(item[name]).astimezone(zone) for name in ("start", "end"))
        last = (stop - timedelta(microseconds=1)).date() if stop > start else start.date()
        day = max(start.date(), begin)
        while day <= last and day < end:
            mark = (item["kind"], item["key"], item["title"] if item["kind"] != "start" else "")
            at = f"{start:%H:%M}" if start.date() == day and item["kind"] != "service-end" else ""
            line = found.setdefault(day, {}).setdefault(mark, {**item, "at": at, "count": 0})
            line["count"] += item["count"]
            day += timedelta(days=1)
    return {
        day: sorted(lines.values(), key=lambda line: _KINDS.index(line["kind"]))
        for day, lines in found.items()
    }
