"""Carries out what is decided of a Repository: jobs of its trees, those whose tree has gone, its status."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

from reconciler.apply import configurations, jobs
from reconciler.apply.configurations import ISSUE, ConfiguredOrder
from reconciler.apply.status import change_status
from reconciler.controllers.configurations import TRIGGERS, undispatched
from reconciler.controllers.repositories import CONDITIONS
from reconciler.installation import Installation
from reconciler.model.job import Reason
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, with_condition, without_condition
from reconciler.store import history
from reconciler.store import jobs as rows
from reconciler.store.database import Write


def make(write: Write, order: ConfiguredOrder, replaces: int | None) -> int | None:
    """Make a job, in the place of a finished one if that is said; None where that goes on again. Conflict where the
    tree has one by now.
    """
    if replaces is not None and not rows.replace_configured(write.connection, replaces, write.version):
        return None
    return configurations.make(write, order)


def report(write: Write, repository: str, faults: Mapping[str, Collection[str]]) -> None:
    """Note what is wrong with the configurations of trees, once for each."""
    for tree, found in faults.items():
        if not history.was_told(write.connection, ISSUE, repository, tree):
            configurations.report(write, repository, tree, list(found))


def end_abandoned(write: Write, repository: str, among: Collection[str]) -> list[int]:
    """Cancel what was triggered here for trees that none of these Repositories has any more (5.1; design 13.5)."""
    numbers = history.abandoned(write.connection, repository, among, TRIGGERS)
    ended = []
    for number in numbers:
        job = rows.load(write.connection, number)
        if job is not None and jobs.cancel(write, job, Reason.TREE_GONE):
            write.record("job-cancelled", job.key, {"number": number, "reason": Reason.TREE_GONE.value})
            jobs.advance(write, number)
            write.wake(f"job/{number}")
            ended.append(number)
    return ended


def end_undispatched(write: Write, number: int, limit: timedelta) -> None:
    """Abort the trials of a job that no executor has taken in time (5.4), and with them what came to nothing."""
    job = rows.load(write.connection, number)
    moves = undispatched(job, write.now, limit)[0] if job is not None else ()
    for move in moves:
        rows.move(write.connection, move.entity, move.id, move.state, move.reason, write.now)
    if moves:
        rows.touch(write.connection, number, write.version)
        jobs.advance(write, number)
        write.wake(f"job/{number}")


async def set_status(
    installation: Installation, key: str, facts: Mapping[str, tuple[str, str] | None]
) -> None:
    """Store conditions by type, None where there is none, and the health that follows from them."""

    def change(resource: Resource) -> Resource:
        conditions = resource.conditions
        for name, fact in facts.items():
            if fact is None:
                conditions = without_condition(conditions, name)
            else:
                conditions = with_condition(conditions, Condition(name, True, *fact, installation.now()))
        bad = any(condition.type in CONDITIONS for condition in conditions)
        health = Health.DEGRADED if bad else Health.HEALTHY
        return replace(resource, health=health, conditions=conditions)

    await change_status(installation, key, change)
