"""The pass of the name `dispatch`: the queue is told what changed, executors are observed, trials are started."""

from __future__ import annotations

import os

from reconciler.apply import dispatch as apply
from reconciler.controllers.places import Place as Offer
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.store import queue as rows

EXECUTORS = frozenset({"Executor"})

LOCAL = "Executor/local"


async def run(installation: Installation) -> None:
    """One look at what changed, and at the room that is left."""
    await _catch_up(installation)
    assignments = installation.queue.decide(offers(installation))
    if not assignments:
        return
    if not await apply.start(installation, assignments, places_of(installation)):
        # somebody else moved some of them meanwhile, or they are no more: the room that they were to take is free
        installation.queue.forget()
        installation.wake("dispatch")


def places_of(installation: Installation) -> dict[str, Place]:
    """Executors in force; without any declared one there is `local` (own-kinds, "Executor")."""
    found = installation.snapshot.current.of_kinds(EXECUTORS)
    declared = {key: Place(key, resource.spec or {}) for key, resource in found.items()}
    return declared or {LOCAL: builtin()}


def builtin() -> Place:
    """The executor of an installation that declares none."""
    return Place(
        LOCAL,
        {"max_load": float(max(4, os.cpu_count() or 1)), "sandbox": "required", "network": "host"},
        declared=False,
    )


def offers(installation: Installation) -> list[Offer]:
    """The executors as the queue sees them."""
    closed = installation.runs.closed
    return [Offer(place.key, place.spec, closed) for place in places_of(installation).values()]


async def _catch_up(installation: Installation) -> None:
    """What changed since the last look; everything at the first one, and where rows may have been dropped."""
    queue, database = installation.queue, installation.database
    seen = queue.version
    if seen is None:
        before = queue.forgotten
        queue.take(await database.read(rows.unfinished))
        if before != queue.forgotten:
            queue.version = None  # it was asked for again meanwhile, and so was another look
    elif seen < database.version:
        queue.take(await database.read(lambda c: rows.changed(c, seen)))
