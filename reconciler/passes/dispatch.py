"""The pass of the name `dispatch`: pending trials, executors and loads are observed, trials are started."""

from __future__ import annotations

import os

from reconciler.apply import dispatch as apply
from reconciler.controllers import dispatch as controller
from reconciler.controllers.dispatch import Waiting
from reconciler.execution.run import Place
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.store import jobs as rows
from reconciler.store.database import Connection
from reconciler.store.jobs import LiveTrial

LOCAL = "Executor/local"


async def run(installation: Installation) -> None:
    """One look at all that waits."""
    trials, first = await installation.database.read(_observe)
    places = places_of(installation)
    busy: dict[str, float] = {}
    running: dict[str, float] = {}
    for trial in trials:
        if trial.state is not State.PENDING and trial.executor:
            busy[trial.executor] = busy.get(trial.executor, 0.0) + trial.load
            running[_project(trial)] = running.get(_project(trial), 0.0) + trial.load
    queue = {
        trial.id: trial
        for trial in trials
        if trial.state is State.PENDING and trial.job_state is not State.ABORTING
    }
    offers = [_offer(place, busy.get(place.key, 0.0)) for place in places.values()]
    decision = controller.decide([_waiting(trial, first) for trial in queue.values()], offers, running)
    await apply.start(installation, decision, queue, places)
    installation.waits = {trial: (cause.reason, cause.message) for trial, cause in decision.waits.items()}


def places_of(installation: Installation) -> dict[str, Place]:
    """Executors in force; without any declared one there is `local` (own-kinds, "Executor")."""
    declared = {
        key: Place(key, resource.spec)
        for key, resource in installation.snapshot.current.resources.items()
        if resource.kind == "Executor" and resource.spec is not None
    }
    return declared or {LOCAL: builtin()}


def builtin() -> Place:
    """The executor of an installation that declares none."""
    return Place(
        LOCAL,
        {"max_load": float(max(4, os.cpu_count() or 1)), "sandbox": "required", "network": "host"},
        declared=False,
    )


def _observe(connection: Connection) -> tuple[list[LiveTrial], dict[tuple[str, str | None], int]]:
    return rows.live_trials(connection), rows.first_live(connection)


def _project(trial: LiveTrial) -> str:
    return trial.key.split("/", 2)[1]


def _offer(place: Place, busy: float) -> controller.Place:
    return controller.Place(
        key=place.key,
        traits=frozenset(place.spec.get("traits") or ()),
        max_load=float(place.spec.get("max_load") or 1),
        accepted_repositories=tuple(place.spec.get("accepted_repositories") or ()),
        busy=busy,
    )


def _waiting(trial: LiveTrial, first: dict[tuple[str, str | None], int]) -> Waiting:
    oldest = first.get((trial.key, trial.ref), trial.job)
    return Waiting(
        trial=trial.id,
        job=trial.job,
        project=_project(trial),
        position=trial.position,
        traits=frozenset(trial.policy.get("traits") or ()),
        load=trial.load,
        url=trial.url,
        behind=oldest if trial.concurrency != "allow" and oldest < trial.job else None,
    )
