"""The pass of the name `workers`: trials of those that are gone for good are given up (design 7.5).

Who is there is told by `installation.crew`, as the last heart-beat found it.
"""

from __future__ import annotations

from math import inf

import structlog

from reconciler.apply import jobs as apply
from reconciler.apply.jobs import Outcome
from reconciler.execution.presence import clock
from reconciler.installation import Installation
from reconciler.model.job import Reason, State
from reconciler.passes.jobs import is_away, settle
from reconciler.store import jobs as rows
from reconciler.store import orders, workers
from reconciler.store.database import Write
from reconciler.store.jobs import Ending
from reconciler.store.workers import GRACE, Worker

log = structlog.get_logger(__name__)
NAME = "workers"
FORGOTTEN_DAYS = 7
_ROUNDED = 0.02  # seconds by which clocks of the machine and of the loop may differ


def remaining(worker: Worker) -> float:
    """Seconds until all of its scripts will have ended, if nothing more is heard of it."""
    if worker.lease_seconds is None:
        return inf
    return worker.heard_at + worker.lease_seconds + GRACE - clock()


def is_lost(worker: Worker) -> bool:
    """Have its scripts ended by now, as nobody has heard of it for so long?"""
    return remaining(worker) <= 0


def state_of(worker: Worker) -> str:
    """For people: `open`, `closed` (it takes nothing now), `away` (nothing was heard of it), `lost` (given up)."""
    if worker.lost_at is not None or is_lost(worker):
        return "lost"
    if is_away(worker):
        return "away"
    return "closed" if worker.facts.get("closed") or worker.facts.get("unstored") else "open"


def due(installation: Installation) -> float:
    """In how many seconds there is anything for the pass to do, as far as heart-beats tell."""
    crew = installation.crew
    if any(is_silent(worker) for worker in crew):
        return 0.0
    first = min((remaining(worker) for worker in crew if worker.lost_at is None), default=inf)
    return max(0.0, first + _ROUNDED)


def is_silent(worker: Worker) -> bool:
    """Does it not answer, while its scripts may go on for as long as they like? What has not begun is not theirs."""
    return worker.lease_seconds is None and is_away(worker)


async def run(installation: Installation) -> None:
    """Give up what is lost, by worker; what was claimed for one that is no more, too."""
    if installation.carrier is None:
        return
    for worker in installation.crew:
        if is_lost(worker) and worker.lost_at is None:
            await _give_up(installation, worker.id, worker)
    for worker in installation.crew:
        if is_silent(worker):
            await _take_back(installation, worker)
    known = {worker.id for worker in installation.crew} | {installation.runs.instance}
    for instance in sorted(await installation.database.read(rows.claimers) - known):
        await _give_up(installation, instance, None)


async def clear(installation: Installation) -> None:
    """Workers of long ago go, with all that was meant for them; what was handed over for what has ended, too."""
    if installation.carrier is None:
        return
    gone = await installation.database.aside(lambda c: workers.forget(c, FORGOTTEN_DAYS))
    await installation.database.aside(orders.clear)
    await installation.carrier.drop(gone)


async def _take_back(installation: Installation, worker: Worker) -> None:
    """What was claimed for it and has not begun goes to others; if it comes back, its claims are void. Who is to end
    something there is waited for no longer.
    """
    claimed = await installation.database.read(lambda c: rows.claimed_for(c, worker.id))
    for number in {trial.job for trial in claimed if trial.state is State.ABORTING}:
        installation.wake(f"job/{number}")
    waiting = [trial for trial in claimed if trial.state is State.DISPATCHING]
    if not waiting:
        return

    def take_back(write: Write) -> list[int]:
        return [trial.job for trial in waiting if rows.give_back(write.connection, trial, write.version)]

    given = await installation.database.write(take_back)
    log.warning("worker-silent", worker=worker.name, jobs=given)
    installation.wake("dispatch")


async def _give_up(installation: Installation, instance: str, worker: Worker | None) -> None:
    """All that was claimed for it; without a worker, it was forgotten."""
    name = instance if worker is None else worker.name
    told = f"nothing was heard of the worker {name} for too long"

    def give_up(write: Write) -> list[Outcome] | None:
        if worker is not None and not workers.lose(write.connection, worker):
            return None  # it is back
        if worker is None and not workers.lost(write.connection, {instance}):
            return None  # it is there, and came after the last heart-beat
        found: list[Outcome] = []
        for trial in rows.claimed_for(write.connection, instance):
            given = trial.state is State.DISPATCHING and rows.give_back(
                write.connection, trial, write.version
            )
            ending = Ending(State.DEFECTIVE, Reason.LOST, told)
            if not given:
                rows.finish(write.connection, trial.id, trial.epoch, ending, write.now, several=trial.several)
                rows.touch(write.connection, trial.job, write.version)
            outcome = apply.advance(write, trial.job)
            found += [outcome] if outcome is not None else []
        return found

    outcomes = await installation.database.write(give_up)
    if outcomes is None:
        return
    log.warning("worker-lost", worker=name, jobs=[outcome.job.number for outcome in outcomes])
    for outcome in outcomes:
        at = await settle(installation, outcome)
        if at is not None:
            installation.wake(f"job/{outcome.job.number}", at)
    installation.wake("dispatch")
