"""The pass of the name `dispatch`: the queue is told what changed, executors are observed, trials are started."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.apply import dispatch as apply
from reconciler.controllers.places import Place as Offer
from reconciler.execution.command import LOCAL, Place, builtin
from reconciler.installation import Installation
from reconciler.passes import gate
from reconciler.store import queue as rows
from reconciler.store.workers import Worker
from specs.configuration_shape import LONGEST_STORM_DELAY

EXECUTORS = frozenset({"Executor"})

_NOT_BEFORE = timedelta(milliseconds=1)  # times are rounded


async def run(installation: Installation) -> datetime | None:
    """One look at what changed, and at the room that is left; the time at which there may be more to do."""
    await catch_up(installation)
    queue, now = installation.queue, installation.now()
    assignments = queue.decide(offers(installation))
    queue.given({chosen.executor for chosen in assignments}, now)
    later = None if queue.later is None else now + timedelta(seconds=queue.later) + _NOT_BEFORE
    if not assignments:
        return later
    shut = await gate.sift(installation, _deployments(installation, {each.job for each in assignments}))
    if shut:
        assignments = tuple(each for each in assignments if each.job not in shut)
        installation.wake("dispatch")
        if not assignments:
            return later
    if not await apply.start(installation, assignments, places_of(installation)):
        # somebody else moved some of them meanwhile, or they are no more: the room that they were to take is free
        queue.forget()
        installation.wake("dispatch")
    # what the next one must keep away from is the start, not the decision: the disk may have been busy meanwhile
    queue.given({chosen.executor for chosen in assignments}, installation.now())
    return later


def _deployments(installation: Installation, numbers: Collection[int]) -> list[int]:
    """Those that are executions of Deployments: the gate is asked once more, at the moment of start (design 8.2)."""
    queued = installation.queue.jobs
    return [number for number in numbers if number in queued and queued[number].key.startswith("Deployment/")]


def places_of(installation: Installation) -> dict[str, Place]:
    """Executors in force; without any declared one there is `local` (own-kinds, "Executor")."""
    found = installation.snapshot.current.of_kinds(EXECUTORS)
    declared = {key: Place(key, resource.spec or {}) for key, resource in found.items()}
    return declared or {LOCAL: builtin()}


def offers(installation: Installation) -> list[Offer]:
    """The executors as the queue sees them, each on all that serve it."""
    runs = installation.runs
    places = places_of(installation).values()
    if installation.carrier is None:
        return [_offer(installation, place, runs.instance, runs.closed) for place in places]
    found: list[Offer] = []
    crew = [(worker, _closed(installation, worker)) for worker in installation.crew]
    for place in places:
        serving = [each for each in crew if each[0].serves(place.key)]
        found += [_offer_of(installation, place, worker, closed) for worker, closed in serving]
        if not serving:
            name = place.key.partition("/")[2]
            told = f"nobody serves it; start `steersman worker --executor {name}` with this database"
            found.append(Offer(place.key, place.spec, ("NoWorker", told)))
    return found


def seen(crew: Sequence[Worker]) -> list[tuple[Any, ...]]:
    """What of them decides where something can start: others may have come, gone, fallen silent, or closed."""
    return [
        (
            worker.id,
            worker.boot,
            worker.executors,
            worker.max_load,
            worker.lost_at is None and not worker.unheard,
            str((_told(worker) or ("",))[0]),
        )
        for worker in crew
    ]


def _told(worker: Worker) -> Any:
    """Why it takes nothing, in its own words: nor does one that cannot store what comes of it."""
    return worker.facts.get("closed") or worker.facts.get("unstored")


def _offer_of(
    installation: Installation, place: Place, worker: Worker, closed: tuple[str, str] | None
) -> Offer:
    """An executor on one of the crew."""
    alone = len(installation.crew) == 1
    offer = _offer(installation, place, worker.id, closed)
    return replace(offer, name="" if alone else worker.name, most=worker.max_load, daemon=worker.is_daemon)


def _closed(installation: Installation, worker: Worker) -> tuple[str, str] | None:
    if worker.id == installation.runs.instance:
        return installation.runs.closed
    if worker.lost_at is not None or worker.unheard:
        seen = "" if worker.seen_at is None else f" since {worker.seen_at:%H:%M:%S} UTC"
        return "WorkerAway", f"nothing was heard of it{seen}"
    told = _told(worker)
    return (str(told[0]), str(told[1])) if told else None


def _offer(installation: Installation, place: Place, worker: str, closed: tuple[str, str] | None) -> Offer:
    key = f"{place.key}@{worker}"
    return Offer(key, place.spec, closed, installation.queue.idle(key, installation.now()))


async def look(installation: Installation) -> None:
    """Before the queue is shown: a follower's is told only when somebody asks."""
    if not installation.standing.leads:
        await catch_up(installation)


async def catch_up(installation: Installation) -> None:
    """What changed since the last look; everything at the first one, and where rows may have been dropped."""
    queue, database = installation.queue, installation.database
    if queue.dispatched is None:
        since = installation.now() - timedelta(seconds=LONGEST_STORM_DELAY)
        queue.dispatched = await database.read(lambda c: rows.last_starts(c, since))
    seen = queue.version
    if seen is None:
        before = queue.forgotten
        queue.take(await database.read(rows.unfinished))
        if before != queue.forgotten:
            queue.version = None  # it was asked for again meanwhile, and so was another look
    elif seen < database.version:
        queue.take(await database.read(lambda c: rows.changed(c, seen)))
