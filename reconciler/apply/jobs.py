"""Makes jobs, and carries out what `controllers.jobs` decides; all inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.apply import executions, notifications
from reconciler.controllers import jobs as controller
from reconciler.controllers.jobs import JobDecision
from reconciler.model.job import Checkout, Job, Reason, State
from reconciler.model.resource import Resource
from reconciler.store import deliveries, job_groups
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.build import effective_tasks
from specs.build_work import first_branch

_GROUP = "group"
"""In a delivery: the number of the group that asked for it. Whoever writes a trigger may use any other key."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a job is to be made from. `actor`: whom it acts for; without one, who writes."""

    resource: Resource
    work_digest: str
    checkout: Checkout
    trigger: Mapping[str, Any]
    inputs: Mapping[str, str]
    actor: str | None = None


def create(write: Write, order: Order) -> int:
    """Make a job of a Build with its first trials; gives its number."""
    spec = order.resource.spec or {}
    if spec.get("concurrency") == "replace":
        _supersede(write, order)
    specification = {
        "resource": order.resource.key,
        "generation": order.resource.generation,
        "revision": order.resource.revision,
        "timeout_seconds": spec.get("timeout_seconds"),
        "concurrency": spec.get("concurrency") or "queue",
        "priority": spec.get("priority") or 0,
        "branch": first_branch(spec),
        "tasks": effective_tasks(spec),
    }
    new = NewJob(
        key=order.resource.key,
        specification=specification,
        work_digest=order.work_digest,
        checkout=order.checkout,
        trigger=order.trigger,
        inputs=order.inputs,
        actor=order.actor or write.actor.subject,
    )
    return insert(write, new)


def insert(write: Write, new: NewJob) -> int:
    """Insert a job and let it take its first step in the same transaction."""
    number = rows.create(write.connection, new, write.now, write.version)
    body = {
        "number": number,
        "trigger": dict(new.trigger),
        "commit": new.checkout.commit,
        "retry_of": new.retry_of,
    }
    write.record("job-created", new.key, body)
    executions.note(write, number, new)
    advance(write, number)
    return number


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job as it was, and what was decided and stored."""

    job: Job
    decision: JobDecision

    @property
    def finished(self) -> bool:
        """It has ended, by now."""
        moves = self.decision.moves
        return self.job.state.finished or any(m.entity == "job" and m.state.finished for m in moves)


def advance(write: Write, number: int) -> Outcome | None:
    """Decide on one job and store the outcome, until nothing more follows from it."""
    decision = JobDecision()
    for _ in range(10):
        job = rows.load(write.connection, number, scripts=False)
        if job is None:
            return None
        decision = controller.decide(job, write.now)
        _carry_out(write, job, decision)
        if not any(move.entity == "job" and move.state is State.ABORTING for move in decision.moves):
            return Outcome(job, decision)  # what an abort asks for is decided at once, all else is already
    raise RuntimeError(f"job {number} does not settle")


def _supersede(write: Write, order: Order) -> None:
    """`concurrency: replace`: older jobs of the same branch give way; with `cancel_running` also one that has begun."""
    running = bool((order.resource.spec or {}).get("cancel_running"))
    for number in rows.replaceable(write.connection, order.resource.key, order.checkout, running=running):
        job = rows.load(write.connection, number)
        if job is not None and cancel(write, job, Reason.SUPERSEDED):
            advance(write, number)
            write.wake(f"job/{number}")


def cancel(write: Write, job: Job, reason: Reason) -> bool:
    """Ask a job to end; False if it has ended already."""
    if job.state.finished or job.state is State.ABORTING:
        return False
    by = {"aborted_by": write.actor.subject, "aborted_at": write.now}
    changed = rows.move(write.connection, "job", job.id, State.ABORTING, reason, write.now, **by)
    rows.touch(write.connection, job.number, write.version)
    return changed


def _act(job: Job) -> dict[str, Any]:
    """What an execution has done, and with which version; nothing of any other job."""
    stages = next((task.policy["stages"] for task in job.tasks if "stages" in task.policy), None)
    return {} if stages is None else {"type": stages["type"], "version": stages.get("version") or None}


def _announce(write: Write, job: Job, state: State) -> None:
    """What was asked to be sent when it ends like this; once, also when somebody has it tried again."""
    asked = (job.specification.get("manifest") or {}).get("triggers") or ()
    due = _due(asked, passed=state is State.PASSED)
    if due and deliveries.of(write.connection, job.number):
        due = []
    if job.group is not None:
        due += _due_of_group(write, job.group)
    deliveries.add(write.connection, job.number, due)
    if due:
        write.wake("deliveries")


def _due_of_group(write: Write, number: int) -> list[dict[str, Any]]:
    """What a group asked for, if this was the last of its jobs to end: it goes with that job."""
    group = job_groups.load(write.connection, number)
    if group is None or not job_groups.announce(write.connection, number, write.now):
        return []
    due = _due(group.triggers, passed=all(job.state is State.PASSED for job in group.jobs))
    return [{**trigger, _GROUP: number} for trigger in due]


def _due(triggers: Iterable[Mapping[str, Any]], *, passed: bool) -> list[dict[str, Any]]:
    wanted = ("always", "success" if passed else "failure")
    due = (trigger for trigger in triggers if trigger["condition"] in wanted)
    return [{key: value for key, value in trigger.items() if key != _GROUP} for trigger in due]


def _carry_out(write: Write, job: Job, decision: JobDecision) -> None:
    if not decision.moves and not decision.trials:
        return
    policies = {task.id: task.policy for task in job.tasks}
    moved = False
    for move in decision.moves:
        more = {"version": write.version} if move.entity == "job" else {}
        done = rows.move(write.connection, move.entity, move.id, move.state, move.reason, write.now, **more)
        moved |= done and move.entity == "job"
        if move.entity == "job" and move.state.finished:
            body = {"number": job.number, "state": move.state.value, "reason": move.reason, "ref": job.ref}
            body |= _act(job)
            write.record("job-finished", job.key, body | notifications.ended(write, job.key, body))
            if job.held:
                executions.given_up(write, job, move.reason)
            _announce(write, job, move.state)
    for trial in decision.trials:
        rows.add_trial(write.connection, trial.task, trial.number, policies[trial.task], write.now)
    if not moved:
        rows.touch(write.connection, job.number, write.version)
