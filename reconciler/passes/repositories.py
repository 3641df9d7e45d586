"""The pass of a Repository's KEY: it is fetched, its history kept up, and made what new heads, jobs and the clock ask.

For Repositories that say `cider_ci` (cider-ci, section 6) or `srht` (builds-srht 9). All others are fetched by the
Builds that use them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from reconciler.apply import repositories as apply
from reconciler.controllers.configurations import TRIGGERS
from reconciler.controllers.repositories import (
    CONFIGURATION,
    MANIFEST,
    UNREACHABLE,
    follows,
    keeps_history,
    summary,
    troubled,
)
from reconciler.errors import SteersmanError, Waiting
from reconciler.installation import Installation
from reconciler.model.history import Looked
from reconciler.model.resource import Resource
from reconciler.passes import builds, histories, pushes, triggers
from reconciler.source.git import Mirror
from reconciler.store import history
from reconciler.store.database import Write

_SOON = timedelta(seconds=30)


async def run(installation: Installation, key: str) -> datetime | None:
    """One look at one Repository; gives the time of the next."""
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or not follows(resource):
        await _let_go(installation, key, resource)
        return None
    spec = resource.spec or {}
    interval = timedelta(seconds=float(spec["fetch_interval_seconds"]))
    now = installation.now()
    try:
        mirror = await _fetched(installation, resource, interval)
    except Waiting:  # it wakes this pass when it has answered
        return now + _SOON
    except SteersmanError as error:
        await apply.set_status(installation, key, {UNREACHABLE: (error.reason, error.message)})
        await _with_what_is_there(installation, resource)
        await _end_undispatched(installation, key)
        return now + min(interval, _SOON)
    before = _before(installation, resource)
    if keeps_history(resource):
        await histories.catch_up(installation, key, mirror, thorough=before is None)
        outcome = await triggers.look(installation, resource, before)
    else:
        await histories.let_go(installation, key)
        outcome = triggers.Outcome()
    await _end_abandoned(installation, key)
    too_long = await _end_undispatched(installation, key)
    manifests = await pushes.look(installation, resource, mirror, before) if spec.get("srht") else {}
    installation.looked[key] = Looked(
        resource.generation, outcome.faults, manifests, outcome.cron_at, outcome.at, outcome.waiting
    )
    facts = {
        UNREACHABLE: None,
        CONFIGURATION: ("ConfigurationInvalid", summary(outcome.faults)) if outcome.faults else None,
        MANIFEST: ("ManifestInvalid", summary(manifests)) if manifests else None,
    }
    await apply.set_status(installation, key, facts)
    if outcome.made:
        installation.wake(key)  # other jobs may follow from these
    return min(at for at in (now + interval, outcome.cron_at, too_long) if at is not None)


def _before(installation: Installation, resource: Resource) -> Looked | None:
    """What the last look found, if it was one by the same specification."""
    before = installation.looked.get(resource.key)
    return before if before is not None and before.generation == resource.generation else None


async def _with_what_is_there(installation: Installation, resource: Resource) -> None:
    """While it cannot be fetched, jobs and the clock still ask for jobs of the trees that are known."""
    before = _before(installation, resource)
    if before is None or not keeps_history(resource):
        return
    with suppress(SteersmanError):
        outcome = await triggers.look(installation, resource, before)
        installation.looked[resource.key] = replace(
            before,
            configurations=outcome.faults,
            cron_at=outcome.cron_at,
            at=outcome.at,
            waiting=outcome.waiting,
        )
        if outcome.made:
            installation.wake(resource.key)


async def _fetched(installation: Installation, resource: Resource, interval: timedelta) -> Mirror:
    repository: Any = builds.declared(installation, resource)
    return await builds.fresh(installation, resource.key, repository, interval.total_seconds() * 0.9)


async def _let_go(installation: Installation, key: str, resource: Resource | None) -> None:
    """Nothing is asked of it any more: its history goes, and with that the jobs that were of nothing else.

    The history goes last: at the next start it says that there is something left to do.
    """
    installation.looked.pop(key, None)
    await _end_abandoned(installation, key)
    if resource is not None and troubled(resource):
        await apply.set_status(installation, key, {UNREACHABLE: None, CONFIGURATION: None, MANIFEST: None})
    await histories.let_go(installation, key)


async def _end_undispatched(installation: Installation, key: str) -> datetime | None:
    """Abort triggered trials that have waited too long for an executor; when the next one's time is up."""
    limit = timedelta(seconds=installation.settings.dispatch_timeout_seconds)
    since = await installation.database.read(lambda c: history.pending_since(c, key, TRIGGERS))
    now = installation.now()
    for number in [number for number, at in since.items() if at + limit <= now]:
        await installation.database.write(partial(_end_job, number, limit))
    return min((at + limit for at in since.values() if at + limit > now), default=None)


def _end_job(number: int, limit: timedelta, write: Write) -> None:
    apply.end_undispatched(write, number, limit)


async def _end_abandoned(installation: Installation, key: str) -> None:
    """End triggered jobs of trees that no Repository of the project has any more."""
    project = key.split("/")[1]
    among = [
        other.key
        for other in installation.snapshot.current.resources.values()
        if other.project == project and keeps_history(other) and other.kind == "Repository"
    ]

    def end(write: Write) -> None:
        apply.end_abandoned(write, key, among)

    if await installation.database.read(lambda c: history.abandoned(c, key, among, TRIGGERS)):
        await installation.database.write(end)
