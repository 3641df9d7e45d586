"""Carries out the plan of a revision: one transaction, then the snapshot is swapped (design 5.3, 15)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.apply import deployments as deployment_apply
from reconciler.apply import notifications, products, reviews
from reconciler.controllers import gate
from reconciler.controllers.builds import TROUBLE, looks
from reconciler.controllers.planner import CONTROLLED, Outcome
from reconciler.controllers.rights import KINDS as AUTHORITY
from reconciler.installation import Installation
from reconciler.model.event import SYSTEM, Actor
from reconciler.model.gate import NAME as GATE
from reconciler.model.job import Reason, State
from reconciler.model.request import ALL as REQUESTS
from reconciler.model.resource import Resource
from reconciler.model.status import without_condition
from reconciler.model.told import Told
from reconciler.source.desired import Desired
from reconciler.store import deployments, jobs, sources, timers
from reconciler.store import resources as rows
from reconciler.store.database import Write
from reconciler.store.sources import Source
from specs.loader import LOADER_VERSION

_DEPLOYMENTS = frozenset({"Deployment"})
_LOOK_THEMSELVES = frozenset({"Repository", "Pipeline", "Deployment"})


async def carry_out(
    installation: Installation,
    desired: Desired,
    outcome: Outcome,
    source: Source,
    actor: Actor = SYSTEM,
    told: Sequence[Told] = (),
) -> tuple[Resource, ...]:
    """Store everything that one revision changes; a reader sees the state before or after.

    `told`: what its commits say of themselves, where something changes that keeps a history of its own.
    """

    before = installation.snapshot.current.resources

    def store(write: Write) -> tuple[tuple[Resource, ...], set[str]]:
        upserts = [_as_it_is(write, resource) for resource in outcome.upserts]
        stored = rows.save(write.connection, upserts, write.version)
        products.note(write, before, stored, outcome.removals, told, installation.numbering)
        reviews.note(write, before, stored, outcome.removals, told)
        notifications.follow(write, stored, outcome.removals)
        for resource in stored:
            _forget_timers(write, before.get(resource.key), resource)
        _bury(write, before, set(outcome.removals) - installation.dropping)
        _prune(write, outcome.removals)
        for key in installation.dropping.intersection(outcome.removals):
            deployments.drop(write, deployments.of(key))
        rows.save_blobs(write.connection, desired.parsed, LOADER_VERSION)
        sources.save(write.connection, source)
        body = outcome.plan.to_dict() | {
            "from": installation.desired.commit if installation.desired else None
        }
        write.record("revision-applied", None, body, revision=desired.commit)
        return stored, jobs.keys_with_jobs(write.connection, [r.key for r in stored if r.kind in CONTROLLED])

    stored, with_jobs = await installation.database.write(store, actor)
    view = installation.snapshot.current
    version = installation.database.version
    installation.snapshot.swap(view.with_changes(version, stored, outcome.removals, source))
    installation.dropping.difference_update(outcome.removals)
    for key in outcome.removals:
        installation.troubles.pop(key, None)
    _wake(installation, [resource.key for resource in stored], outcome.removals, with_jobs)
    return stored


def _prune(write: Write, keys: Iterable[str]) -> None:
    """Removed resources go with their timers; their pending jobs are cancelled, running ones end by themselves."""
    keys = list(keys)
    if not keys:
        return
    rows.remove(write.connection, keys)
    timers.remove(write.connection, keys)
    gone = set(keys)
    for job in jobs.live(write.connection):
        if job.key in gone and job.state is State.PENDING:
            jobs.move(write.connection, "job", job.id, State.ABORTING, Reason.PRUNED, write.now)
            jobs.touch(write.connection, job.number, write.version)


def _bury(write: Write, before: Mapping[str, Resource], keys: Iterable[str]) -> None:
    """Deployments that are to be destroyed when they are removed, with what their environments gave them."""
    for key in keys:
        resource = before.get(key)
        if resource is not None and resource.kind == "Deployment":
            around = before.get(f"Environment/{resource.project}/{resource.environment}")
            inputs = ((around.spec if around else None) or {}).get("inputs") or {}
            deployment_apply.bury(write, resource, inputs)


def _as_it_is(write: Write, resource: Resource) -> Resource:
    """Health and trouble of an unchanged Build belong to its own passes, which may have moved on since the plan."""
    if resource.kind not in CONTROLLED or resource.generation == 0 or not resource.invalid:
        return resource
    now = rows.load(write.connection, resource.key)
    if now is None:
        return resource
    kept = tuple(condition for condition in now.conditions if condition.type == TROUBLE)
    conditions = (*without_condition(resource.conditions, TROUBLE), *kept)
    return replace(resource, health=now.health, conditions=conditions)


def _forget_timers(write: Write, old: Resource | None, new: Resource) -> None:
    """Due times of schedule triggers that are gone, or switched off, are no longer owed."""
    if old is None or not _schedules(old.spec):
        return
    disabled = bool(new.spec and new.spec.get("disabled"))
    timers.trim(write.connection, new.key, () if disabled else _schedules(new.spec))


def _schedules(spec: Mapping[str, Any] | None) -> list[int]:
    triggers = (spec or {}).get("triggers") or ()
    return [position for position, trigger in enumerate(triggers) if trigger["type"] in ("schedule", "build")]


def _wake(
    installation: Installation, stored: Iterable[str], removed: Iterable[str], with_jobs: set[str]
) -> None:
    """Builds look again when they, or a repository of their project, changed; executors change what can run."""
    resources = installation.snapshot.current.resources
    names: set[str] = set()
    projects: set[str] = set()
    for key in (*stored, *removed):
        kind = key.partition("/")[0]
        if key in with_jobs or looks(resources.get(key)):
            names.add(key)
        elif kind == "Repository":
            projects.add(key.split("/")[1])
        for name in _woken_by(kind, key):
            installation.wake(name)
    # files that a deployment includes may have changed without any document
    names |= {
        key
        for key, found in installation.snapshot.current.of_kinds(_DEPLOYMENTS).items()
        if (found.spec or {}).get("includes")
    }
    if projects:
        names |= {key for key, build in resources.items() if build.project in projects and looks(build)}
    removed = list(removed)
    if removed:
        names |= {"jobs", "dispatch"}
    gone = set(removed)
    for name in names - gone:
        installation.wake(name)


def _woken_by(kind: str, key: str) -> Iterator[str]:
    """What looks at a change of a resource of this kind, also at its removal."""
    if kind in _LOOK_THEMSELVES:
        yield key
    if kind == "Executor":
        yield from ("dispatch", "executors")
    if kind == "Environment":
        yield f"environment/{key.partition('/')[2]}"
    if kind in gate.KINDS or kind in AUTHORITY:
        yield GATE
    if kind in notifications.KINDS:
        yield notifications.ALL
    if kind in AUTHORITY:
        yield REQUESTS  # rules that all of a team decide look at who is in it
