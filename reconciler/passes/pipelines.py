"""The pass of a Pipeline's KEY: what is owed is made, every run that has not ended goes on; and of `pipelines/NUMBER`.

Each look reads all of it afresh, so that a wake-up that was lost costs time only (design 6; escape-state, 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.apply import pipelines as apply
from reconciler.apply.pipelines import Order, Standing
from reconciler.apply.status import change_status
from reconciler.controllers import pipelines as controller
from reconciler.controllers.pipelines import FOLLOWS, Decision, Due, Owing
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.model.job import Job
from reconciler.model.pipeline import Run, Status, planned, target
from reconciler.model.resource import Resource
from reconciler.model.status import Condition, Health, Sync
from reconciler.model.timer import Timer
from reconciler.passes import pipeline_calls, pipeline_steps, pipeline_versions
from reconciler.passes.pipeline_starts import identity_of
from reconciler.store import chain, jobs, timers
from reconciler.store import pipelines as rows
from reconciler.store.database import Connection, Write

EXECUTION = "pipelines/"
STEP = "pipeline"
"""The type of trigger of executions that steps have started."""

ALL = "pipelines"
_KIND = frozenset({"Pipeline"})
_ROUNDS = 1000
_BY_COMMIT = frozenset({"webhook", "poll", "schedule", "change"})


async def run(installation: Installation, key: str) -> datetime | None:
    """One look at one pipeline; gives when to look again."""
    resource = installation.snapshot.current.resources.get(key)
    times = [await _owed(installation, resource)] if resource is not None and resource.spec else []
    live = await installation.database.read(lambda c: rows.live(c, key))
    times += [await _go_on(installation, each.id, key) for each in live]
    await _show(installation, key)
    return min((at for at in times if at is not None), default=None)


async def run_all(installation: Installation) -> None:
    """Queue every pipeline that has something to do: at the start, and now and then."""
    for key in await installation.database.read(rows.live_keys):
        installation.wake(key)
    for key, resource in _pipelines(installation).items():
        spec = resource.spec or {}
        if spec["schedules"] or controller.followed_keys(spec, str(resource.project)):
            installation.wake(key)


async def of_execution(installation: Installation, name: str) -> None:
    """An execution has begun or ended: who waits for it, or for its deployment, and who follows it."""
    number = int(name.removeprefix(EXECUTION))
    job, live = await installation.database.read(
        lambda c: (jobs.load(c, number, scripts=False), rows.live(c))
    )
    if job is None:
        return
    names = {run.key for run in live if _waits_for(run, job)}
    for key, resource in _pipelines(installation).items():
        if job.key in controller.followed_keys(resource.spec or {}, str(resource.project)):
            names.add(key)
    for key in names:
        installation.wake(key)


def concerned(installation: Installation, job: Job) -> bool:
    """Can the end of a job be of any interest to pipelines?"""
    if job.trigger.get("type") == STEP or job.key.startswith("Deployment/"):
        return True
    return any(
        job.key in controller.followed_keys(resource.spec or {}, str(resource.project))
        for resource in _pipelines(installation).values()
    )


def _waits_for(run: Run, job: Job) -> bool:
    """Did a step start it, or does a step wait for its deployment?"""
    for _, step in run.steps():
        mine = step.job == job.number
        queued = step.status is Status.QUEUED and not step.over
        if mine or (queued and target(step.declared, run.project) == job.key):
            return True
    return False


def _pipelines(installation: Installation) -> Mapping[str, Resource]:
    return installation.snapshot.current.of_kinds(_KIND)


async def _owed(installation: Installation, resource: Resource) -> datetime | None:
    """Make the runs that schedules and ended executions ask for."""
    spec, key = resource.spec or {}, resource.key
    owing = await installation.database.read(lambda c: _owing(c, resource, installation.settings.timezone))
    stored = owing.timers
    if not (stored or spec["schedules"] or controller.followed_keys(spec, str(resource.project))):
        return None
    due = controller.due(owing, installation.now())
    positions = [*range(len(spec["schedules"])), FOLLOWS]
    if due.timers or stored.keys() - set(positions):
        await installation.database.write(lambda w: _keep(w, key, due, positions))
    for timer, number in due.runs:
        if number is None:
            await installation.database.write(partial(_by_schedule, installation, resource, timer))
        else:
            await _by_execution(installation, resource, timer, number, new=timer != stored.get(FOLLOWS))
    return due.wake_at


def _owing(connection: Connection, resource: Resource, zone: str) -> Owing:
    spec = resource.spec or {}
    found = timers.load(connection, resource.key)
    since = found[FOLLOWS].since if FOLLOWS in found else None
    ends = rows.ends(connection, resource.key, controller.followed_keys(spec, str(resource.project)), since)
    return Owing(resource.key, spec, found, ends, chain.version(connection), zone)


def _keep(write: Write, key: str, due: Due, positions: list[int]) -> None:
    for timer in due.timers:
        timers.save(write.connection, key, timer)
    timers.trim(write.connection, key, positions)


def _by_schedule(installation: Installation, resource: Resource, timer: Timer, write: Write) -> None:
    """One run for one due time, whatever comes between."""
    if not timers.current(write.connection, resource.key, timer):
        return
    timers.save(write.connection, resource.key, timer)
    due = timer.last_due.isoformat() if timer.last_due else None
    trigger = {"type": "schedule", "due": due, "filtered": True}
    apply.create(write, _order(installation, resource, trigger))


async def _by_execution(
    installation: Installation, resource: Resource, timer: Timer, number: int, *, new: bool
) -> None:
    """One run for one execution that has ended well; none for what a pipeline's own commit has caused.

    `new`: the timer is not stored like this.
    """
    job = await installation.database.read(lambda c: jobs.load(c, number))
    if job is None:
        return
    revision = job.specification.get("revision")
    own = job.trigger.get("type") == "reconcile" and revision
    if own and await pipeline_versions.is_of_pipeline(installation, [str(revision)]):
        if new:
            await installation.database.write(lambda w: timers.save(w.connection, resource.key, timer))
        return
    await installation.database.write(partial(_adopt, installation, resource, timer, job))


def _adopt(installation: Installation, resource: Resource, timer: Timer, job: Job, write: Write) -> None:
    if rows.has_cause(write.connection, resource.key, job.number):
        return
    timers.save(write.connection, resource.key, timer)
    kind = "deploy" if job.key.startswith("Deployment/") else "build"
    trigger: dict[str, Any] = {
        "type": kind,
        "user": job.trigger.get("user", "") or _named(job.actor),
        "execution": job.id,
        "filtered": job.trigger.get("type") in _BY_COMMIT,
    }
    work = apply.works(write.connection, [job.number])[job.number]
    phases = controller.adopted(
        planned(resource.spec or {}), str(resource.project), job.key, (job.number, ulid(job.id)), work
    )
    actor = job.actor if job.actor.startswith(("User/", "ServiceAccount/")) else None
    order = _order(installation, resource, trigger, actor=actor)
    apply.create(write, replace(order, phases=phases, cause=job.number))


def _named(subject: str) -> str:
    kind, _, name = subject.partition("/")
    return name if kind in ("User", "ServiceAccount") else ""


def _order(
    installation: Installation, resource: Resource, trigger: dict[str, Any], actor: str | None = None
) -> Order:
    spec = resource.spec or {}
    return Order(
        key=resource.key,
        spec=spec,
        phases=planned(spec),
        trigger={"user": "", **trigger},
        actor=actor or "System/steersman",
        identity=identity_of(installation, spec) or actor,
    )


def standing(installation: Installation, key: str) -> Standing:
    """What is declared of a pipeline now."""
    resource = installation.snapshot.current.resources.get(key)
    disabled = bool(resource is not None and resource.spec and resource.spec["disabled"])
    return Standing(declared=resource is not None, disabled=disabled)


async def _go_on(installation: Installation, run_id: str, key: str) -> datetime | None:
    """Look at one run until nothing more follows; gives when to look again."""
    again: datetime | None = None
    for _ in range(_ROUNDS):
        decision = await _look(installation, run_id, standing(installation, key))
        if decision is None:
            return None
        for place, step in decision.run.steps():
            if step.type == "webhook-trigger" and step.status is Status.RUNNING:
                installation.wake(pipeline_calls.name_of(decision.run, place))
        if not decision.starts:
            return decision.wake_at
        moved, at = await pipeline_steps.start(installation, decision.run, decision.starts)
        again = min((each for each in (at, decision.wake_at) if each is not None), default=None)
        if not moved:
            break
    return again


async def _look(installation: Installation, run_id: str, now: Standing) -> Decision | None:
    """What is decided of a run by what there is now; what has nothing to store is only read."""

    def read(connection: Connection) -> tuple[Run, Decision] | None:
        found = rows.load(connection, run_id)
        if found is None:
            return None
        facts = apply.facts(connection, found, now)
        return found, controller.decide(found, facts, installation.now())

    seen = await installation.database.read(read)
    if seen is None:
        return None
    before, decision = seen
    if decision.run == before and not decision.cancel_jobs and not decision.cancel_runs:
        return decision
    return await installation.database.write(lambda w: apply.advance(w, run_id, now))


async def _show(installation: Installation, key: str) -> None:
    """Sync and health of the pipeline (design 13.15)."""
    newest = await installation.database.read(lambda c: rows.latest(c, key))
    health = controller.health(newest)
    await change_status(installation, key, partial(_with_health, health))


def _with_health(health: Health, resource: Resource) -> Resource:
    held = any(_troubles(condition) for condition in resource.conditions)
    return replace(resource, sync=Sync.OUT_OF_SYNC if held else Sync.SYNCED, health=health)


def _troubles(condition: Condition) -> bool:
    return condition.status and condition.type != "Warning"
