"""The calendar as one caller sees it: what is declared with a time, between two instants (design 8.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.access import Caller
from reconciler.controllers import calendar as controller
from reconciler.controllers.calendar import Calendar, Entry
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from specs.freeze import moment
from specs.product import day

_USUAL = timedelta(days=30)
_LONGEST = timedelta(days=366)


async def between(
    installation: Installation, caller: Caller, begin: str | None = None, until: str | None = None
) -> dict[str, Any]:
    """Entries from a time on, now if it is not given, to before another, 30 days later. Refused (BadRange).

    A schedule that starts often on a day is one entry of that day, with `count`. `cut`: there are more starts.
    Times have an offset; a day alone is its midnight in the server's time zone.
    """
    zone = ZoneInfo(installation.settings.timezone)
    start = installation.now() if begin is None else _instant("from", begin, zone)
    end = start + _USUAL if until is None else _instant("to", until, zone)
    if not timedelta(0) < end - start <= _LONGEST:
        raise Refused("BadRange", f"`to` must be after `from`, by at most {_LONGEST.days} days")
    resources = installation.snapshot.current.of_kinds(controller.KINDS)
    seen = [each for key, each in resources.items() if each.spec is not None and caller.sees(key)]
    found, items = await asyncio.to_thread(_read, seen, start, end, zone)
    return {
        "from": start.isoformat(timespec="seconds"),
        "to": end.isoformat(timespec="seconds"),
        "items": items,
        "cut": found.cut,
    }


def _read(
    resources: Sequence[Resource], start: datetime, end: datetime, zone: ZoneInfo
) -> tuple[Calendar, list[dict[str, Any]]]:
    found = controller.calendar(resources, start, end, zone.key)
    return found, [_shown(entry, zone) for entry in found.entries]


def _shown(entry: Entry, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "start": entry.start.astimezone(zone).isoformat(timespec="seconds"),
        "end": entry.end.astimezone(zone).isoformat(timespec="seconds"),
        "kind": entry.kind,
        "key": entry.key,
        "title": entry.title,
        "where": entry.where,
        "count": entry.count,
    }


def _instant(name: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.combine(day(text), time(), zone) if len(text) == len("2026-11-26") else moment(text)
    except ValueError as error:
        raise Refused("BadRange", f"`{name}` {error}") from error
    if not 1900 <= found.year <= 9000:  # where no time zone leads out of what can be written
        raise Refused("BadRange", f"`{name}` must be between the years 1900 and 9000")
    return found
