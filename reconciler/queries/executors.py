"""Executors with who serves them and what is at work there, and the queue with why each trial waits (design 7.5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from reconciler.access import Caller
from reconciler.controllers.places import Place
from reconciler.installation import Installation
from reconciler.model.queue import UNIT
from reconciler.passes.dispatch import offers


async def executors(installation: Installation, caller: Caller, most: int) -> dict[str, Any]:
    """`items`: executors with their load, the numbers of the jobs there and their workers; `queue`: at most so many trials that wait,
    those of the oldest jobs first, `waiting` how many there are. Of all, what the caller sees; who sees no executor
    is told how many trials wait, and no more.
    """
    queue = installation.queue
    places = offers(installation)
    at_work: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, job in sorted(queue.jobs.items()):
        for trial in job.trials:
            if trial.executor is not None and caller.sees(job.key):
                at_work[trial.executor.partition("@")[0]].append({"number": number, "key": job.key})
    waiting = [(job, trial) for job, trial in queue.waiting() if caller.sees(job.key)]
    seen: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        if caller.sees(place.executor):
            seen[place.executor].append(place)
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
        "items": [_shown(installation, key, found, at_work[key], most) for key, found in seen.items()],
        "queue": shown,
        "waiting": len(waiting),
    }


def _shown(
    installation: Installation, key: str, places: Sequence[Place], at_work: list[dict[str, Any]], most: int
) -> dict[str, Any]:
    resource = installation.snapshot.current.resources.get(key)
    spec = places[0].spec
    open_ones = [place for place in places if place.closed is None]
    closed = places[0].closed if not open_ones else None
    return {
        "key": key,
        "declared": resource is not None,
        "load": sum(installation.queue.load(place.key) for place in places),
        "max_load": sum(place.max_load for place in open_ones or places[:1]) / UNIT,
        "traits": sorted(places[0].traits),
        "images": sorted(spec.get("images") or ()),
        "sandbox": spec.get("sandbox") or "",
        "closed": _fact(closed),
        "jobs": at_work[:most],
        "at_work": len(at_work),
        "workers": [_worker(installation, place) for place in places if place.worker],
    }


def _worker(installation: Installation, place: Place) -> dict[str, Any]:
    """One that serves the executor. `seen_seconds`: since it was heard of; None: it is this very process."""
    found = next((worker for worker in installation.crew if worker.id == place.worker), None)
    ours = place.worker == installation.runs.instance
    return {
        "id": place.worker,
        "name": found.name if found is not None else "this daemon",
        "kind": "daemon" if found is None or found.is_daemon else "worker",
        "leads": found.leads if found is not None else True,
        "load": installation.queue.load(place.key),
        "max_load": place.max_load / UNIT,
        "closed": _fact(place.closed),
        "software": found.software if found is not None else version("steersman"),
        "seen_seconds": None if ours or found is None else round(found.age, 1),
    }


def _fact(closed: tuple[str, str] | None) -> dict[str, str] | None:
    return None if closed is None else {"reason": closed[0], "message": closed[1]}
