"""Why does it not run? The smallest set of causes for one KEY (design 8.4). Pure; asked by `queries.why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.model.job import Job, State
from reconciler.model.resource import Resource


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that stands in the way, with the place or job it comes from."""

    reason: str
    message: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """All that is looked at. `waits`: trial id → (reason, message) as of the last dispatch."""

    resource: Resource
    source_trouble: tuple[str, str] | None
    trouble: tuple[str, str] | None
    live: Sequence[Job]
    latest: Job | None
    waits: Mapping[str, tuple[str, str]]


def causes(question: Question) -> tuple[Cause, ...]:
    """What keeps it from running or from being in sync, most basic first; empty if nothing does."""
    resource = question.resource
    found: list[Cause] = []
    if question.source_trouble:
        found.append(Cause(*question.source_trouble))
    troubled = [
        condition for condition in resource.conditions if condition.status and condition.type != "Warning"
    ]
    found += [Cause(condition.reason, condition.message, resource.location) for condition in troubled]
    if question.trouble:
        found.append(Cause(*question.trouble))
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
    return found


def _nothing_runs(question: Question, spec: Mapping[str, Any], where: str) -> list[Cause]:
    latest = question.latest
    if latest is not None and latest.state in (State.FAILED, State.DEFECTIVE):
        reason = f" ({latest.reason})" if latest.reason else ""
        message = f"job {latest.number} {latest.state.value}{reason}; `steersman retry {latest.number}` runs it again"
        return [Cause("LastJobFailed", message, f"job/{latest.number}")]
    if not spec.get("triggers"):
        return [Cause("NoTriggers", "it has no triggers and starts by hand only: `steersman trigger`", where)]
    return []


def _job(job: Job, waits: Mapping[str, tuple[str, str]]) -> list[Cause]:
    found = []
    for task in job.tasks:
        for trial in task.trials:
            if trial.state is State.PENDING and trial.id in waits:
                reason, message = waits[trial.id]
                found.append(
                    Cause(reason, f"job {job.number}, task {task.name}: {message}", f"job/{job.number}")
                )
    return found
