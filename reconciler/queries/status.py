"""The whole at a glance: source, counts, what is held, what is wrong (design 9, `/health` and `/reconciler/status`)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from reconciler.access import Caller, concerns
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.queries.resources import summary
from reconciler.store import jobs, timers

_STUCK_SECONDS = 30
_OF_CONCERN = (Health.DEGRADED, Health.MISSING, Health.UNKNOWN)


async def status(installation: Installation, caller: Caller) -> dict[str, Any]:
    """`GET /reconciler/status`: what the caller sees of it. Who has no role at all is told nothing of the source."""
    view = installation.snapshot.current
    known = bool(caller.rights.roles)
    source = view.source if known else None
    seen = [r for r in view.resources.values() if caller.sees_all or caller.sees(r.key)]
    syncs = Counter(resource.sync for resource in seen)
    healths = Counter(resource.health.value for resource in seen)
    counts = await _jobs(installation, caller)
    total, upcoming = await _schedules(installation, caller)
    return {
        "source": {
            "repository": installation.settings.repo if known else None,
            "branch": installation.settings.branch if known else None,
            "path": installation.settings.path if known else None,
            "last_attempted_revision": source.attempted if source else None,
            "last_applied_revision": source.applied if source else None,
            "errors": [e for e in source.errors if concerns(caller, e["location"])] if source else [],
            "trouble": _fact(source.trouble if source else None),
        },
        "held": [h for h in source.held if all(map(caller.sees, h["keys"]))] if source else [],
        "resources": {
            "total": len(seen),
            "synced": syncs[Sync.SYNCED],
            "out_of_sync": syncs[Sync.OUT_OF_SYNC],
            "unknown": syncs[Sync.UNKNOWN],
            "invalid": sum(resource.invalid for resource in seen),
            "health": dict(sorted(healths.items())),
        },
        "jobs": {
            "pending": counts.get("pending", 0),
            "executing": counts.get("executing", 0) + counts.get("aborting", 0),
        },
        "schedules": {"total": total, "next": upcoming.isoformat() if upcoming else None},
        "troubles": [
            {"name": name} | (_fact(fact) or {})
            for name, fact in _troubles(installation)
            if caller.sees_all or caller.sees(name)
        ],
    }


def of_concern(installation: Installation, caller: Caller, most: int) -> list[dict[str, Any]]:
    """Resources that are not as they should be, the worst first; not what has only never been started."""
    found = [
        resource
        for resource in installation.snapshot.current.resources.values()
        if resource.health in _OF_CONCERN and not _idle(resource) and caller.sees(resource.key)
    ]
    found.sort(key=lambda resource: (_OF_CONCERN.index(resource.health), resource.key))
    return [summary(resource) for resource in found[:most]]


def _idle(resource: Resource) -> bool:
    """Does nothing start it by itself, and has nobody?"""
    runs = resource.kind in ("Build", "Pipeline") and resource.health is Health.UNKNOWN
    return runs and resource.sync is Sync.SYNCED and not resource.invalid


async def _jobs(installation: Installation, caller: Caller) -> dict[str, int]:
    """Unfinished jobs by state."""
    if caller.sees_all:
        return await installation.database.read(jobs.counts)
    seen: Counter[str] = Counter()
    for (key, state), count in (await installation.database.read(jobs.counts_by_key)).items():
        seen[state] += count if caller.sees(key) else 0
    return seen


async def _schedules(installation: Installation, caller: Caller) -> tuple[int, datetime | None]:
    """How many there are, and when the next one fires."""
    if caller.sees_all:
        return await installation.database.read(timers.summary)
    found = await installation.database.read(timers.upcoming)
    due = [timer.next_due for key, timer in found if caller.sees(key)]
    return len(due), due[0] if due else None


async def health(installation: Installation) -> dict[str, Any]:
    """`GET /health`: `unavailable` without the store or before the first look at the source, `degraded` while something
    is wrong, else `ok`. What is invalid in the specs, `status` tells.
    """
    source = installation.snapshot.current.source
    checks = {
        "database": await _database(installation),
        "source": _source(installation),
        "spec": "invalid" if source and source.errors else "ok",
        "loop": _loop(installation),
        "trials": _trials(installation),
        "disk": _disk(installation),
    }
    leads = installation.standing.leads
    if not leads:
        checks["leader"] = "ok" if installation.standing.leader_seen else "no daemon leads; one will shortly"
    word = "ok" if all(text == "ok" for text in checks.values()) else "degraded"
    if checks["database"] != "ok" or source is None:
        word = "unavailable"
    return {
        "status": word,
        "revision": source.applied if source else None,
        "leads": leads and installation.database.leads,
        "checks": checks,
    }


def _troubles(installation: Installation) -> list[tuple[str, tuple[str, str]]]:
    """What is wrong, by name: passes that fail, a disk that nothing may start on, trials that cannot be stored."""
    runs = installation.runs
    known = {"disk": runs.closed, "trials": runs.unstored}
    return sorted([*installation.troubles.items(), *((name, fact) for name, fact in known.items() if fact)])


def _trials(installation: Installation) -> str:
    fact = installation.runs.unstored
    return "ok" if fact is None else f"{fact[0]}: what became of trials cannot be stored: {fact[1]}"


def _disk(installation: Installation) -> str:
    closed = installation.runs.closed
    return (
        "ok"
        if closed is None
        else f"{closed[0]}: {closed[1]}; make room, or set a smaller disk_reserve_bytes"
    )


def _source(installation: Installation) -> str:
    source = installation.snapshot.current.source
    if source is None:
        return "not read yet"
    return f"{source.trouble[0]}: {source.trouble[1]}" if source.trouble else "ok"


def _loop(installation: Installation) -> str:
    oldest = installation.oldest()
    if oldest is not None and oldest[1] > _STUCK_SECONDS:
        return f"{oldest[0]} has been queued for {oldest[1]:.0f} s"
    failing = len(installation.troubles)
    return f"{failing} passes fail, see /reconciler/status" if failing else "ok"


async def _database(installation: Installation) -> str:
    try:
        await installation.database.load_version()
    except SteersmanError as error:
        return error.message
    return "ok"


def _fact(fact: tuple[str, str] | None) -> dict[str, str] | None:
    return None if fact is None else {"reason": fact[0], "message": fact[1]}
