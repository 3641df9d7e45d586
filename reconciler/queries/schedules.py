"""Declared schedules with their next times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.store import timers
from specs.schedule import next_due

_NEXT = 5


async def upcoming(installation: Installation, caller: Caller, most: int | None = None) -> dict[str, Any]:
    """Every schedule trigger, or the `most` that come first: when it fired last, and the next five times."""
    items: list[dict[str, Any]] = []
    resources = installation.snapshot.current.resources
    for key, timer in await installation.database.read(timers.upcoming):
        resource = resources.get(key)
        triggers = _scheduled(resource) if resource else ()
        if resource is None or timer.position >= len(triggers) or not caller.sees(key):
            continue
        if most is not None and len(items) == most:
            break
        trigger = {**triggers[timer.position]}
        trigger["timezone"] = trigger.get("timezone") or installation.settings.timezone
        times: list[datetime] = []
        due = timer.next_due
        while due is not None and len(times) < _NEXT:
            times.append(due)
            due = next_due(trigger, due, f"{key}#{timer.position}")
        items.append(
            {
                "key": key,
                "position": timer.position,
                "cron": trigger.get("cron"),
                "interval_seconds": trigger.get("interval_seconds"),
                "timezone": trigger.get("timezone"),
                "missed": trigger.get("missed") or ("once" if resource.kind == "Pipeline" else None),
                "last_due": timer.last_due.isoformat() if timer.last_due else None,
                "next": [moment.isoformat() for moment in times],
            }
        )
    return {"items": items}


def _scheduled(resource: Resource) -> Sequence[Mapping[str, Any]]:
    """What the positions of its timers count."""
    spec = resource.spec or {}
    return spec.get("schedules" if resource.kind == "Pipeline" else "triggers") or ()
