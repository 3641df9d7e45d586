"""Executors with what is at work there, and the queue with why each trial waits (design 7.5)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from reconciler.access import Caller
from reconciler.controllers.places import Place
from reconciler.installation import Installation
from reconciler.passes.dispatch import look, offers


async def executors(installation: Installation, caller: Caller, most: int) -> dict[str, Any]:
    """`items`: executors with their load and the numbers of the jobs there; `queue`: at most so many trials that wait,
    those of the oldest jobs first, `waiting` how many there are. Of all, what the caller sees; who sees no executor
    is told how many trials wait, and no more.
    """
    await look(installation)
    queue = installation.queue
    places = offers(installation)
    at_work: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, job in sorted(queue.jobs.items()):
        for trial in job.trials:
            if trial.executor is not None and caller.sees(job.key):
                at_work[trial.executor].append({"number": number, "key": job.key})
    waiting = [(job, trial) for job, trial in queue.waiting() if caller.sees(job.key)]
    seen = [place for place in places if caller.sees(place.key)]
    shown = []
    for job, trial in waiting[: most if seen else 0]:
        cause = queue.cause(trial.id, places)
        shown.append(
            {
                "number": job.number,
                "key": job.key,
                "priority": job.priority + trial.priority,
                "traits": sorted(trial.need.traits),
                "waits_for": cause.message if cause else "",
            }
        )
    return {
        "items": [_shown(installation, place, at_work[place.key], most) for place in seen],
        "queue": shown,
        "waiting": len(waiting),
    }


def _shown(
    installation: Installation, place: Place, at_work: list[dict[str, Any]], most: int
) -> dict[str, Any]:
    resource = installation.snapshot.current.resources.get(place.key)
    spec = place.spec
    return {
        "key": place.key,
        "declared": resource is not None,
        "load": installation.queue.load(place.key),
        "max_load": float(spec.get("max_load") or 1),
        "traits": sorted(place.traits),
        "images": sorted(spec.get("images") or ()),
        "sandbox": spec.get("sandbox") or "",
        "closed": None if place.closed is None else {"reason": place.closed[0], "message": place.closed[1]},
        "jobs": at_work[:most],
        "at_work": len(at_work),
    }
