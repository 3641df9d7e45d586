"""Which due steps of a pipeline's run may start now, and with which version (escape-state, 5, 10.4, 11.5).

Called by `passes.pipelines`. In order: may it, is the deployment free, which version, is that in Git; then
`passes.pipeline_starts` starts each. What fails on the way ends the step; what has to wait leaves it queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from reconciler.apply import pipelines as apply
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.job import Reason
from reconciler.model.pipeline import Place, Run, Status, Step, builds, target
from reconciler.model.rights import INSTALLATION, LEVELS, Level, Scope
from reconciler.passes import pipeline_starts, pipeline_versions
from reconciler.passes.authority import refusal
from reconciler.passes.pipeline_starts import NET, Fault, fail, failed
from reconciler.store import deployments
from reconciler.store import pipelines as rows
from reconciler.store.database import Connection, Write
from specs.meta import parse_key


@dataclass(frozen=True, slots=True)
class Line:
    """Steps that may begin, and those that wait for their turn; all others have failed."""

    free: tuple[Place, ...]
    waits: tuple[Place, ...]


async def start(
    installation: Installation, run: Run, places: Sequence[Place]
) -> tuple[bool, datetime | None]:
    """Start what can be started; has any step changed, and when to try again what could not?"""
    line = await installation.database.write(lambda w: _line(w, installation, run, places))
    deploys = [place for place in line.free if run.step(place).type == "deploy"]
    ready = await _with_versions(installation, run, deploys)
    chosen = [*(place for place in line.free if place not in deploys), *ready]
    found = await asyncio.gather(*(pipeline_starts.one(installation, run, place) for place in chosen))
    left = len(places) - len(line.waits) - len(chosen)
    again = [at for at in found if at is not None]
    again += [installation.now() + NET] if line.waits else []
    return left > 0 or None in found, min(again, default=None)


def _line(write: Write, installation: Installation, run: Run, places: Sequence[Place]) -> Line:
    """Those that never may begin end here, those that have to wait note since when."""
    free, waits = [], []
    for place in places:
        step = run.step(place)
        fault = _may_not(installation, run, step)
        if fault is not None:
            apply.begin(write, run.id, place, partial(_refused, fault, write.now))
        elif _in_line(write.connection, run, step):
            pipeline_starts.wait(write, run, place)
            waits.append(place)
        else:
            free.append(place)
    return Line(tuple(free), tuple(waits))


def _refused(fault: Fault, now: datetime, _: Run, step: Step) -> Step:
    return failed(step, fault, now)


def _may_not(installation: Installation, run: Run, step: Step) -> Fault | None:
    """Is the run allowed to do this, by what is granted now? (escape-state, 5)"""
    keys = _touched(run, step)
    if not keys:
        return None
    if run.identity is None:
        told = "nobody started this run and it has no service account, so it may not act on anything"
        return Fault(Reason.NO_IDENTITY, told)
    for key in keys:
        told_why = refusal(installation, run.identity, "trigger", parse_key(key), limits_of(run))
        if told_why is not None:
            return Fault(Reason.PERMISSION_DENIED, told_why)
    return None


def limits_of(run: Run) -> tuple[Level, Scope]:
    """What the token that started a run leaves of its identity's rights."""
    level, project, environment = run.trigger.get("limits") or (None, None, None)
    return (LEVELS[level], Scope(project, environment)) if level else (Level.OWNER, INSTALLATION)


def _touched(run: Run, step: Step) -> tuple[str, ...]:
    """KEYs of what a step acts on."""
    declared = step.declared
    project = declared.get("project") or run.project
    if step.type == "pipeline-trigger":
        return (f"Pipeline/{project}/{declared['pipeline']}",)
    if step.type == "tag-release":
        return (run.key,)  # the project owns the namespace, or the specification would not be valid
    key = target(declared, run.project)
    return builds(declared, run.project)[:1] if key is None else (key,)


def _in_line(connection: Connection, run: Run, step: Step) -> bool:
    """Does an execution, or a step that came earlier, have the deployment? (11.5: by arrival)"""
    key = target(step.declared, run.project)
    if key is None:
        return False
    if deployments.busy_with(connection, deployment.of(key)) is not None:
        return True
    since = step.waiting_since
    for other in rows.live(connection):
        if other.id == run.id:
            continue
        for _, each in other.steps():
            waits = each.waiting_since is not None and each.status is Status.QUEUED and not each.over
            earlier = since is None or (each.waiting_since is not None and each.waiting_since < since)
            if waits and earlier and target(each.declared, other.project) == key:
                return True
    return False


async def _with_versions(installation: Installation, run: Run, places: Sequence[Place]) -> list[Place]:
    """The deploy steps whose version is chosen, and in Git where it has to be; the others have failed."""
    policies = [place for place in places if run.step(place).declared.get("update_version") != "dont-update"]
    plain = [place for place in places if place not in policies]
    if not policies:
        return plain
    versions = await installation.database.write(lambda w: _choose(w, installation, run, policies))
    wanted: dict[str, str] = {}
    for place, version in versions.items():
        key = str(target(run.step(place).declared, run.project))
        resource = installation.snapshot.current.resources[key]
        spec = resource.spec or {}
        if spec.get("version") != version and not pipeline_versions.follows_others(spec):
            wanted[key] = version
    fault = await pipeline_versions.declare(installation, run, wanted) if wanted else None
    if fault is None:
        return [*plain, *versions]
    kept = []
    for place in versions:
        if target(run.step(place).declared, run.project) in wanted:
            await fail(installation, run, place, Fault(Reason.VERSION_COMMIT_FAILED, fault))
        else:
            kept.append(place)
    return [*plain, *kept]


def _choose(write: Write, installation: Installation, run: Run, places: Sequence[Place]) -> dict[Place, str]:
    """Keep with each step the version that its policy means; where there is none, it fails."""
    found: dict[Place, str] = {}

    def act(run: Run, step: Step) -> Step:
        key = str(target(step.declared, run.project))
        resource = installation.snapshot.current.resources.get(key)
        if resource is None or resource.spec is None:
            return failed(step, Fault(Reason.DEPENDENCY_FAILED, f"there is no {key}"), write.now)
        version = step.version or pipeline_versions.chosen(
            write.connection, installation, run, step, resource
        )
        if version is None:
            policy = step.declared["update_version"]
            told = f"{policy} means no release of {resource.spec.get('release') or key}"
            return failed(step, Fault(Reason.NO_SUCH_RELEASE, told), write.now)
        found[place] = version
        return replace(step, version=version)

    for place in places:
        apply.begin(write, run.id, place, act)
    return found
