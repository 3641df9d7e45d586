"""Makes runs of pipelines, and stores what `controllers.pipelines` decides; all inside the caller's transaction.

What a step starts is stored together with the step (`begin`), so that being killed at any point starts nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.apply import jobs, notifications
from reconciler.controllers import pipelines as controller
from reconciler.controllers.pipelines import Decision, Facts, Work
from reconciler.model import execution
from reconciler.model.job import Reason
from reconciler.model.pipeline import Phase, Place, Run, Status, Step, settings_of, target
from reconciler.store import jobs as job_rows
from reconciler.store import pipelines as rows
from reconciler.store import releases
from reconciler.store.database import Connection, Write
from reconciler.store.rows import new_id


@dataclass(frozen=True, slots=True)
class Standing:
    """What is declared of a pipeline now: is it there at all, and may runs of it begin?"""

    declared: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to be made from."""

    key: str
    spec: Mapping[str, Any]
    phases: tuple[Phase, ...]
    trigger: Mapping[str, Any]
    actor: str
    identity: str | None
    payload: Any = None
    cause: int | None = None
    retry_of: str | None = None


def create(write: Write, order: Order) -> Run:
    """Make a run, and let it take its first look at itself in the same transaction."""
    run = Run(
        id=new_id(),
        key=order.key,
        number=rows.number_of(write.connection, order.key),
        pipeline=settings_of(order.spec),
        phases=order.phases,
        trigger=order.trigger,
        actor=order.actor,
        identity=order.identity,
        created_at=write.now,
        payload=order.payload,
        cause=order.cause,
        retry_of=order.retry_of,
    )
    rows.add(write.connection, run, write.version)
    trigger = {name: value for name, value in order.trigger.items() if name not in ("chain", "limits")}
    body = {"number": run.number, "id": run.id, "trigger": trigger, "retry_of": order.retry_of}
    write.record("pipeline-run-created", run.key, body)
    decision = advance(write, run.id, Standing(declared=True, disabled=False))
    write.wake(run.key)
    return decision.run if decision is not None else run


def advance(write: Write, run_id: str, standing: Standing) -> Decision | None:
    """Decide on one run and store the outcome."""
    run = rows.load(write.connection, run_id)
    if run is None:
        return None
    decision = controller.decide(run, facts(write.connection, run, standing), write.now)
    if decision.run != run:
        _store(write, run, decision.run)
    for number in decision.cancel_jobs:
        _cancel_job(write, number)
    for child in decision.cancel_runs:
        cancel(write, child)
    return decision


def facts(connection: Connection, run: Run, standing: Standing) -> Facts:
    """What the store knows of all that a run waits for."""
    waits = [step for _, step in run.steps() if not step.over and step.status is not Status.QUEUED]
    others = rows.live(connection, run.key)
    mode = run.pipeline.get("concurrency", "queue")
    newer = [each.pipeline.get("concurrency") for each in others if each.number > run.number]
    return Facts(
        jobs=works(connection, [step.job for step in waits if step.job is not None]),
        runs=_runs(connection, [step.run for step in waits if step.run is not None]),
        first=mode == "allow" or all(each.number >= run.number for each in others),
        replaced="replace" in newer,
        disabled=standing.disabled,
        declared=standing.declared,
    )


def works(connection: Connection, numbers: Sequence[int]) -> dict[int, Work]:
    """What has become of executions, by number; those that are forgotten are missing."""
    found = {}
    for job in job_rows.load_many(connection, numbers) if numbers else ():
        status = Status(execution.status(job.state))
        reason = execution.status_reason(job) if status.ended else ""
        labels = tuple(each.label for each in releases.published_by(connection, [job.number]))
        found[job.number] = Work(status, reason, labels, job.started_at, job.finished_at)
    return found


def _runs(connection: Connection, ids: Collection[str]) -> dict[str, Work]:
    return {
        run.id: Work(run.status, run.reason, (), run.started_at, run.finished_at)
        for run in rows.load_many(connection, ids).values()
    }


def begin(write: Write, run_id: str, place: Place, act: Callable[[Run, Step], Step]) -> bool:
    """Change a step that is due, together with all that `act` does; False: it is not due any more."""
    run = rows.load(write.connection, run_id)
    if run is None or run.ended or run.ending or run.cancel_requested:
        return False
    step = run.step(place)
    if step.status is not Status.QUEUED or step.over:
        return False
    _store(write, run, run.with_step(place, act(run, step)))
    return True


def settle(write: Write, run_id: str, place: Place, status: Status, reason: str, message: str) -> bool:
    """A step that is at work has ended; False: it had ended before, by the clock or by a person."""
    run = rows.load(write.connection, run_id)
    step = run.step(place) if run is not None else None
    if run is None or step is None or step.status is not Status.RUNNING:
        return False
    done = controller.ended(step, status, write.now, reason, message)
    _store(write, run, run.with_step(place, done))
    write.wake(run.key)
    return True


def decide_step(write: Write, run: Run, place: Place, decided: Mapping[str, Any], *, approved: bool) -> None:
    """A person has decided a confirmation. `decided`: {decision, by, at, comment}."""
    step = run.step(place)
    told = replace(step, confirmation={**(step.confirmation or {}), **decided})
    status, reason = (Status.OK, "") if approved else (Status.FAILED, Reason.DISAPPROVED.value)
    _store(write, run, run.with_step(place, controller.ended(told, status, write.now, reason)))
    body = {"number": run.number, "id": run.id, "phase": run.phases[place[0]].name, "step": step.name}
    write.record("pipeline-step-decided", run.key, body | {"decision": decided["decision"]})
    write.wake(run.key)


def cancel(write: Write, run_id: str, reason: str = "") -> bool:
    """Ask a run to end, for a reason that the event log keeps; False: it has ended already."""
    run = rows.load(write.connection, run_id)
    if run is None or run.ended:
        return False
    if not run.cancel_requested:
        rows.save(write.connection, replace(run, cancel_requested=True), write.version)
        body = {"number": run.number, "id": run.id, "reason": reason}
        write.record("pipeline-run-cancelled", run.key, body)
    write.wake(run.key)
    return True


def _cancel_job(write: Write, number: int) -> None:
    job = job_rows.load(write.connection, number, scripts=False)
    if job is not None and jobs.cancel(write, job, Reason.CANCELLED):
        write.record("job-cancelled", job.key, {"number": number})
        jobs.advance(write, number)
    write.wake(f"job/{number}")


def _store(write: Write, before: Run, run: Run) -> None:
    """Keep it, and tell whom it concerns."""
    rows.save(write.connection, run, write.version)
    for place, step in run.steps():
        if step.waits_for_people and not before.step(place).waits_for_people:
            body = {"number": run.number, "id": run.id, "phase": run.phases[place[0]].name, "step": step.name}
            write.record("pipeline-confirmation-requested", run.key, body)
        key = target(step.declared, run.project)
        if key is not None and step.over and not before.step(place).over:
            write.wake(key)  # it is not kept from being reconciled any more
    if run.ended and not before.ended:
        body = {"number": run.number, "id": run.id, "status": run.status.value, "reason": run.reason}
        write.record("pipeline-run-finished", run.key, body | notifications.ended(write, run.key, body))
        for name in _concerned(write.connection, run):
            write.wake(name)


def _concerned(connection: Connection, run: Run) -> set[str]:
    """Who looks again when a run has ended: the run that waits for it, those in line behind it or behind one of its
    steps, and the deployments that it was about.
    """
    names = {run.key, *run.trigger.get("chain", ())[-1:]}
    names |= {key for _, step in run.steps() if (key := target(step.declared, run.project)) is not None}
    for other in rows.live(connection):
        if any(step.waiting_since is not None and not step.over for _, step in other.steps()):
            names.add(other.key)
    return names
