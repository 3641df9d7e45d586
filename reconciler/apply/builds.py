"""Carries out what `controllers.builds` decides: jobs, due times, cancels, status."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from reconciler.apply import jobs
from reconciler.controllers.builds import TROUBLE, BuildDecision, MakeJob
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, Sync, with_condition, without_condition
from reconciler.store import jobs as job_rows
from reconciler.store import resources, timers
from reconciler.store.database import Write


async def make_jobs(
    installation: Installation, resource: Resource, work_digest: str, decision: BuildDecision
) -> list[int]:
    """One transaction a job, so that each is in the event log; the owed check is made again inside it."""
    made = []
    for order in decision.jobs:
        number = await installation.database.write(partial(_make, resource, work_digest, order, decision))
        made += [number] if number is not None else []
    if decision.timers:
        await installation.database.write(lambda w: _timers(w, resource.key, decision))
    return made


def _make(
    resource: Resource, work_digest: str, order: MakeJob, decision: BuildDecision, write: Write
) -> int | None:
    connection = write.connection
    if order.once is not None:
        tree = order.checkout.tree if order.once == "head" else None
        if job_rows.exists(connection, resource.key, work_digest, tree):
            return None
    if order.timer is not None:
        if not timers.current(connection, resource.key, order.timer):
            return None
        timers.save(connection, resource.key, order.timer)
    if order.checkout.tag and order.checkout.commit:
        timers.save_tags(connection, resource.key, {order.checkout.tag: order.checkout.commit})
    for old in decision.cancel:
        job = job_rows.load(connection, old.number)
        if job is not None and jobs.cancel(write, job, old.reason):
            jobs.advance(write, old.number)
    return jobs.create(write, jobs.Order(resource, work_digest, order.checkout, order.trigger, order.inputs))


def _timers(write: Write, key: str, decision: BuildDecision) -> None:
    for item in decision.timers:
        timers.save(write.connection, key, item.timer)


async def set_status(
    installation: Installation,
    resource: Resource,
    sync: Sync,
    health: Health,
    trouble: tuple[str, str] | None,
) -> None:
    """Store sync, health and the trouble of a Build where they changed."""
    conditions = without_condition(resource.conditions, TROUBLE)
    if trouble is not None:
        fact = Condition(TROUBLE, True, trouble[0], trouble[1], installation.now())
        conditions = with_condition(resource.conditions, fact)
    if resource.invalid:
        sync = Sync.OUT_OF_SYNC
    if (sync, health, conditions) == (resource.sync, resource.health, resource.conditions):
        return
    new = replace(resource, sync=sync, health=health, conditions=conditions)
    stored = await installation.database.write(lambda w: resources.set_status(w.connection, new, w.version))
    view = installation.snapshot.current
    current = view.resources.get(resource.key)
    if stored is not None and current is not None and current.generation == stored.generation:
        merged = replace(
            current,
            sync=stored.sync,
            health=stored.health,
            conditions=stored.conditions,
            version=stored.version,
        )
        installation.snapshot.swap(view.with_changes(installation.database.version, [merged]))
