"""What a pipeline's runs wait for, in words (design 8.4). Pure; asked by `queries.why`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from reconciler.controllers.why import Cause
from reconciler.model.pipeline import Phase, Run, Status, Step, target
from reconciler.model.resource import Resource


def causes_of_runs(resource: Resource, live: Sequence[Run], latest: Run | None) -> tuple[Cause, ...]:
    """Of a pipeline: why none of it begins, what each run waits for, or how the last one failed."""
    if resource.spec is not None and resource.spec["disabled"]:
        return (Cause("Disabled", "the pipeline says `disabled: true`", resource.location), *_of_all(live))
    if live:
        return tuple(_of_all(live))
    return () if latest is None else tuple(_failed(latest))


def _of_all(live: Sequence[Run]) -> Iterator[Cause]:
    for at, run in enumerate(live):
        if run.started_at is None:
            before = live[at - 1].number if at else None
            if before is not None:
                yield Cause("Queued", f"run {run.number} waits for run {before} to end", _where(run))
            continue
        for phase in run.phases:
            for step in phase.steps:
                yield from _of_step(run, phase, step)


def _of_step(run: Run, phase: Phase, step: Step) -> Iterator[Cause]:
    about = f"run {run.number}, step {phase.name}/{step.name}"
    if step.waits_for_people:
        named = [f"{word} {step.declared[word]}" for word in ("user", "team") if step.declared.get(word)]
        who = " or ".join(named) or f"somebody who may write in {run.project}"
        until = datetime.fromisoformat((step.confirmation or {})["expires_at"]).isoformat(timespec="seconds")
        yield Cause("AwaitsConfirmation", f"{about}: waits until {until} for {who} to decide", _where(run))
    elif step.status is Status.QUEUED and not step.over and step.waiting_since is not None:
        key = target(step.declared, run.project)
        since = step.waiting_since.isoformat(timespec="seconds")
        yield Cause("DeploymentBusy", f"{about}: waits since {since} for its turn at {key}", _where(run))
    elif step.status is Status.QUEUED and not step.over and step.message:
        yield Cause("NotYet", f"{about}: {step.message}", _where(run))
    elif step.status in (Status.PENDING, Status.RUNNING):
        if step.job is not None:
            yield Cause("AwaitsExecution", f"{about}: job {step.job} has not ended", f"job/{step.job}")
        elif step.run is not None:
            other = step.declared["pipeline"]
            yield Cause("AwaitsPipeline", f"{about}: its run of {other} has not ended", _where(run))


def _failed(run: Run) -> Iterator[Cause]:
    if run.status is not Status.FAILED:
        return
    told = next((step.message for _, step in run.steps() if step.reason == run.reason and step.message), "")
    more = f": {told}" if told else ""
    yield Cause("LastRunFailed", f"run {run.number} failed ({run.reason}){more}", _where(run))


def _where(run: Run) -> str:
    return f"run/{run.number}"
