"""Why does it not run? The smallest set of causes for one KEY (design 8.4). Pure; asked by `queries.why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.controllers.jobs import retry_at
from reconciler.controllers.places import Cause as Wait
from reconciler.model.job import Job, OfRef, State, Task, outdated
from reconciler.model.resource import Resource

_MOST_OTHERS = 5
_NO_CAUSE = frozenset({"Warning", "Held", "Delivered"})
"""A warning stops nothing, nor does what has been delivered; what is held says so itself, cause by cause."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that stands in the way, with the place or job it comes from."""

    reason: str
    message: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """All that is looked at. `waits`: what each trial waits for, by id; `awaits`: KEYs, by trigger's position;
    `latest`: of a Build, the job that its health is of; `others`: the newest jobs of other branches, and of tags.
    """

    resource: Resource
    source_trouble: tuple[str, str] | None
    trouble: tuple[str, str] | None
    live: Sequence[Job]
    latest: Job | None
    waits: Mapping[str, Wait]
    awaits: Mapping[int, Sequence[str]] = field(default_factory=dict)
    others: Sequence[OfRef] = ()


def causes(question: Question) -> tuple[Cause, ...]:
    """What keeps it from running or from being in sync, most basic first; empty if nothing does."""
    resource = question.resource
    found: list[Cause] = []
    if question.source_trouble:
        found.append(Cause(*question.source_trouble))
    troubled = [
        condition for condition in resource.conditions if condition.status and condition.type not in _NO_CAUSE
    ]
    found += [Cause(condition.reason, condition.message, resource.location) for condition in troubled]
    if question.trouble:
        found.append(Cause(*question.trouble))
    if resource.kind == "Deployment":
        found += [cause for job in question.live for cause in _job(job, question.waits)]
    if resource.kind == "Build" and resource.spec is not None:
        found += _build(question, resource.spec)
    return tuple(found)


def _build(question: Question, spec: Mapping[str, Any]) -> list[Cause]:
    where = question.resource.location
    if spec.get("disabled"):
        return [Cause("Disabled", "the build says `disabled: true`", where)]
    found = [cause for job in question.live for cause in _job(job, question.waits)]
    if not question.live:
        found += _nothing_runs(question, spec, where)
        found += [Cause("AwaitsBuilds", _awaits(keys), where) for keys in question.awaits.values() if keys]
    return found + _failed_elsewhere(question.others)


def _failed_elsewhere(others: Sequence[OfRef]) -> list[Cause]:
    """Health says nothing of them."""
    failed = [job for job in others if job.state in (State.FAILED, State.DEFECTIVE)]
    found = [
        Cause(
            "OtherRefFailed",
            f"job {job.number} of {job.branch or job.tag} {_ended(job)}",
            f"job/{job.number}",
        )
        for job in failed[:_MOST_OTHERS]
    ]
    if len(failed) > _MOST_OTHERS:
        more = f"the newest jobs of {len(failed) - _MOST_OTHERS} further branches and tags failed"
        found.append(Cause("OtherRefFailed", more))
    return found


def _ended(job: Job | OfRef) -> str:
    return f"{job.state.value} ({job.reason})" if job.reason else job.state.value


def _awaits(keys: Sequence[str]) -> str:
    return f"starts when {' and '.join(keys)} {'has' if len(keys) == 1 else 'have'} passed"


def _nothing_runs(question: Question, spec: Mapping[str, Any], where: str) -> list[Cause]:
    latest = question.latest
    if latest is not None and latest.state in (State.FAILED, State.DEFECTIVE):
        message = f"job {latest.number} {_ended(latest)}"
        if outdated(latest, question.resource):
            key = question.resource.key
            message += f" with an earlier specification; `steersman trigger {key}` runs the present one"
        else:
            message += f"; `steersman retry {latest.number}` runs it again"
        return [Cause("LastJobFailed", message, f"job/{latest.number}")]
    if not spec.get("triggers"):
        return [Cause("NoTriggers", "it has no triggers and starts by hand only: `steersman trigger`", where)]
    return []


def _job(job: Job, waits: Mapping[str, Wait]) -> list[Cause]:
    where = f"job/{job.number}"
    found = []
    for task in job.tasks:
        about = f"job {job.number}, task {task.name}"
        tried = [waits[t.id] for t in task.trials if not t.state.finished and t.id in waits]
        found += [Cause(wait.reason, f"{about}: {wait.message}", where) for wait in dict.fromkeys(tried)]
        later = None if tried or task.state.finished else _later(job, task)
        found += [Cause(*later, where)] if later else []
    return found


def _later(job: Job, task: Task) -> tuple[str, str] | None:
    """Why a task without a waiting trial is not tried now: those it needs, or the delay before the next try."""
    if job.state is State.ABORTING or any(not trial.state.finished for trial in task.trials):
        return None
    about = f"job {job.number}, task {task.name}"
    states = {other.name: other.state for other in job.tasks}
    needed = [n for n in task.policy.get("needs") or () if n in states and not states[n].finished]
    if needed and not task.trials:
        return "Needs", f"{about}: waits for {', '.join(needed)} to end"
    at = retry_at(task)
    if at is None:
        return None
    return "RetryDelay", f"{about}: try {len(task.trials) + 1} not before {at.isoformat(timespec='seconds')}"
