"""Carries out what `controllers.builds` decides: jobs, due times, cancels, status."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from reconciler.apply import jobs
from reconciler.apply.status import change_status
from reconciler.controllers.builds import TROUBLE, BuildDecision, MakeJob, of_ref
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, Sync, with_condition, without_condition
from reconciler.store import jobs as job_rows
from reconciler.store import timers
from reconciler.store.database import Write


async def make_jobs(
    installation: Installation, resource: Resource, work_digest: str, decision: BuildDecision
) -> list[int]:
    """One transaction a job, so that each is in the event log; the owed check is made again inside it."""
    made = []
    for order in decision.jobs:
        number = await installation.database.write(partial(_make, resource, work_digest, order))
        made += [number] if number is not None else []
    if decision.timers:
        await installation.database.write(lambda w: _timers(w, resource.key, decision))
    return made


def _make(resource: Resource, work_digest: str, order: MakeJob, write: Write) -> int | None:
    connection = write.connection
    if order.once is not None:
        tree = order.checkout.tree if order.once == "head" else None
        ref = of_ref(resource.spec or {}, order.checkout) if order.once == "head" else None
        if job_rows.exists(connection, resource.key, work_digest, tree, ref):
            return None
    if order.timer is not None:
        if not timers.current(connection, resource.key, order.timer):
            return None
        timers.save(connection, resource.key, order.timer)
    if order.checkout.tag and order.checkout.commit:
        timers.save_tags(connection, resource.key, {order.checkout.tag: order.checkout.commit})
    return jobs.create(write, jobs.Order(resource, work_digest, order.checkout, order.trigger, order.inputs))


def _timers(write: Write, key: str, decision: BuildDecision) -> None:
    for item in decision.timers:
        timers.save(write.connection, key, item.timer)


async def set_status(
    installation: Installation, key: str, sync: Sync, health: Health, trouble: tuple[str, str] | None
) -> None:
    """Store sync, health and the trouble of a Build where they changed; all else of it belongs to its commits."""

    def change(resource: Resource) -> Resource:
        return _with_status(resource, sync, health, trouble, installation.now())

    await change_status(installation, key, change)


def _with_status(
    resource: Resource, sync: Sync, health: Health, trouble: tuple[str, str] | None, now: datetime
) -> Resource:
    conditions = without_condition(resource.conditions, TROUBLE)
    if trouble is not None:
        conditions = with_condition(resource.conditions, Condition(TROUBLE, True, *trouble, now))
    held = any(
        condition.status and condition.type != "Warning"
        for condition in conditions
        if condition.type != TROUBLE
    )
    return replace(resource, sync=Sync.OUT_OF_SYNC if held else sync, health=health, conditions=conditions)
