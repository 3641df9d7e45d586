"""The passes of `job/NUMBER`, of `jobs` (all live ones) and of `limits` (those whose time is up)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import partial

from reconciler.apply import jobs as apply
from reconciler.apply.jobs import Outcome
from reconciler.controllers import jobs as controller
from reconciler.execution.presence import silence
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.passes import builds, clock, pipelines
from reconciler.store import jobs as rows
from reconciler.store.workers import Worker

LIMITS = "limits"
_REST = timedelta(seconds=0.25)  # a Build that many jobs end of shows them a few times a second
AWAY = 15.0
"""Seconds without a heart-beat after which a worker counts as away."""
_BEGUN = timedelta(seconds=1)  # one that has ended by then is shown only once


async def run(installation: Installation, number: int) -> datetime | None:
    """One look at one job; gives the time of the next. What has nothing to store is only read."""
    await clock.follow(installation)
    job = await installation.database.read(lambda c: rows.load(c, number, scripts=False))
    if job is None:
        return None
    decision = controller.decide(job, installation.now())
    if not decision.moves and not decision.trials:
        return await settle(installation, Outcome(job, decision))
    return await settle(installation, await installation.database.write(lambda w: apply.advance(w, number)))


async def settle(installation: Installation, outcome: Outcome | None) -> datetime | None:
    """What follows from a stored decision: scripts to end, names to wake; gives when to look at the job again."""
    if outcome is None:
        return None
    for trial in outcome.decision.stop:
        await _stop(installation, trial)
    installation.wake("dispatch")
    key, now = outcome.job.key, time.monotonic()
    if (
        outcome.finished
        and now - installation.shown.get(key, -_REST.total_seconds()) >= _REST.total_seconds()
    ):
        installation.shown[key] = now
        installation.wake(key)
    else:
        installation.wake(key, installation.now() + _REST)
    if outcome.finished:
        builds.wake_after(installation, key)
        if pipelines.concerned(installation, outcome.job):
            installation.wake(f"{pipelines.EXECUTION}{outcome.job.number}")
    if outcome.job.configured and any(move.entity == "job" for move in outcome.decision.moves):
        installation.wake(str(outcome.job.trigger["repository"]))
    if outcome.decision.deadline is not None:
        installation.wake(LIMITS, outcome.decision.deadline)
    return outcome.decision.wake_at


def begun(installation: Installation, job: Job) -> None:
    """A script of a job has begun: its Build shows it soon, and its time runs."""
    now = installation.now()
    installation.wake(job.key, now + _BEGUN)
    if job.trigger.get("type") == pipelines.STEP:
        installation.wake(f"{pipelines.EXECUTION}{job.number}", now + _BEGUN)
    if job.configured:
        installation.wake(str(job.trigger["repository"]))
    seconds = job.specification.get("timeout_seconds")
    if seconds is not None:
        installation.wake(LIMITS, now + timedelta(seconds=float(seconds)))


async def has_begun(installation: Installation, number: int) -> None:
    """Another process has begun one of its trials."""
    job = await installation.database.read(lambda c: rows.load(c, number, scripts=False))
    if job is not None:
        begun(installation, job)


async def _stop(installation: Installation, trial: str) -> None:
    """End a trial, wherever it is at work; one whose worker is not there ends without it."""
    runs, carrier = installation.runs, installation.carrier
    if runs.stop(trial):
        return
    if carrier is not None:
        there = {worker.id for worker in installation.crew if not is_away(worker)}
        found = await installation.database.read(lambda c: rows.live_trials(c, trial))
        away = [each.instance for each in found if not runs.is_ours(each.worker) and each.instance in there]
        for instance in away:
            await installation.database.aside(
                partial(carrier.send, worker=instance, trials=[trial], stop=True)
            )
        if away:
            return
    await runs.abandon(trial)


def is_away(worker: Worker) -> bool:
    """Was nothing heard of it for a while?"""
    return silence(worker) > AWAY


async def run_all(installation: Installation) -> None:
    """Queue every live job."""
    for job in await installation.database.read(rows.live):
        installation.wake(f"job/{job.number}")


async def run_limits(installation: Installation) -> datetime | None:
    """Queue the jobs whose time is up; gives when the next one's is. One name for all: few ever need it."""
    await clock.follow(installation)
    now = installation.now()
    limits = {
        job.number: limit
        for job in await installation.database.read(rows.live)
        if (limit := controller.deadline(job)) is not None
    }
    for number, limit in limits.items():
        if limit <= now:
            installation.wake(f"job/{number}")
    return min((limit for limit in limits.values() if limit > now), default=None)
