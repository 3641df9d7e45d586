"""The calendar as one caller sees it: what is declared with a time, between two instants (design 8.3)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.access import Caller
from reconciler.controllers import calendar as controller
from reconciler.controllers.calendar import Entry
from reconciler.errors import Refused
from reconciler.installation import Installation
from specs.freeze import moment
from specs.product import day

_USUAL = timedelta(days=30)
_LONGEST = timedelta(days=366)


async def between(
    installation: Installation, caller: Caller, begin: str | None = None, until: str | None = None
) -> dict[str, Any]:
    """Entries from a time on, now if it is not given, to before another, 30 days later. Refused (BadRange).

    Times have an offset; a day alone is its midnight in the server's time zone.
    """
    zone = ZoneInfo(installation.settings.timezone)
    start = installation.now() if begin is None else _instant("from", begin, zone)
    end = start + _USUAL if until is None else _instant("to", until, zone)
    if not timedelta(0) < end - start <= _LONGEST:
        raise Refused("BadRange", f"`to` must be after `from`, by at most {_LONGEST.days} days")
    resources = installation.snapshot.current.of_kinds(controller.KINDS)
    seen = [each for key, each in resources.items() if each.spec is not None and caller.sees(key)]
    found = await asyncio.to_thread(controller.calendar, seen, start, end, installation.settings.timezone)
    return {
        "from": start.isoformat(timespec="seconds"),
        "to": end.isoformat(timespec="seconds"),
        "items": [_shown(entry, zone) for entry in found.entries],
        "cut": found.cut,
        "shortened": list(found.shortened),
    }


def _shown(entry: Entry, zone: ZoneInfo) -> dict[str, Any]:
    times = {name: at.astimezone(zone).isoformat(timespec="seconds") for name, at in _times(entry)}
    return {**asdict(entry), **times}


def _times(entry: Entry) -> tuple[tuple[str, datetime], ...]:
    return ("start", entry.start), ("end", entry.end)


def _instant(name: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.combine(day(text), time(), zone) if len(text) == len("2026-11-26") else moment(text)
    except ValueError as error:
        raise Refused("BadRange", f"`{name}` {error}") from error
    if not 1900 <= found.year <= 9000:  # where no time zone leads out of what can be written
        raise Refused("BadRange", f"`{name}` must be between the years 1900 and 9000")
    return found
