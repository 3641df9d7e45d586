"""Jobs as the native API shows them (design 14.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from reconciler.access import Caller, require_job
from reconciler.controllers.places import Cause
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.job import ANYTHING, CONFIGURATION, Job, Of, Script, State, Task, Trial
from reconciler.model.rights import Scope
from reconciler.passes.dispatch import look, offers
from reconciler.passes.jobs import is_away
from reconciler.store import attachments, grants, holds
from reconciler.store import jobs as rows
from reconciler.store.jobs import Beside, Sight
from specs.meta import SCOPES


async def page(
    installation: Installation,
    caller: Caller,
    *,
    key: str | None,
    state: str | None,
    limit: int,
    after: int | None,
    of: Of = ANYTHING,
) -> dict[str, Any]:
    """Newest first; `next` is the number to give as `after`."""
    seen = sight(caller)
    found = await installation.database.read(
        lambda c: rows.page(c, key=key, state=state, limit=limit + 1, after=after, sight=seen, of=of)
    )
    items = found[:limit]
    return {
        "items": [summary(job) for job in items],
        "next": items[-1].number if len(found) > limit else None,
    }


async def see(installation: Installation, caller: Caller, number: int) -> None:
    """NotFound for a job that is not there, or that the caller does not see."""
    key, granted = await installation.database.read(
        lambda c: (rows.key_of(c, number), grants.of(c, number, caller.subject))
    )
    if key is None or not caller.sees_job(number, key, granted):
        raise NotFound("NoSuchJob", f"there is no job {number}")


async def load(installation: Installation, caller: Caller, number: int) -> Job:
    """One job whole."""
    job, granted = await installation.database.read(
        lambda c: (rows.load(c, number), grants.of(c, number, caller.subject))
    )
    if job is None or not caller.sees_job(number, job.key, granted):
        raise NotFound("NoSuchJob", f"there is no job {number}")
    return job


async def get(installation: Installation, caller: Caller, number: int) -> dict[str, Any]:
    """One job with its tasks, trials and scripts; of a deploy that the gate holds, `hold` tells why."""
    job = await load(installation, caller, number)
    shown = detail(job, await waits_of(installation, [job]))
    if job.held:
        found = await installation.database.read(lambda c: holds.of_jobs(c, [number]))
        shown["hold"] = [dict(cause) for hold in found.values() for cause in hold.causes]
    return shown


async def hold_causes(
    installation: Installation, numbers: Sequence[int]
) -> dict[int, tuple[Mapping[str, Any], ...]]:
    """What keeps the deploys among these jobs that the gate holds: {reason, message, where, until} each."""
    if not numbers:
        return {}
    found = await installation.database.read(lambda c: holds.of_jobs(c, list(numbers)))
    return {number: hold.causes for number, hold in found.items()}


async def beside(installation: Installation, job: Job) -> Beside:
    """What came before and after a job that the caller sees."""
    return await installation.database.read(lambda c: rows.beside(c, job))


async def may(installation: Installation, caller: Caller, verb: str, job: Job) -> bool:
    """Would a caller be let do a thing to a job?"""
    granted = await installation.database.read(lambda c: grants.of(c, job.number, caller.subject))
    try:
        require_job(installation, caller, verb, job, granted)
    except (NotFound, Forbidden):
        return False
    return True


async def attachments_of(
    installation: Installation, caller: Caller, number: int
) -> list[attachments.Attachment]:
    """What the job's trials keep."""
    await see(installation, caller, number)
    return await installation.database.read(lambda c: attachments.of_job(c, number))


async def attachment(
    installation: Installation, caller: Caller, number: int, path: str, task: str | None, trial: int | None
) -> tuple[attachments.Attachment, Path]:
    """One attachment and where its bytes lie: of the first task that has it, and its newest trial."""
    for item in await attachments_of(installation, caller, number):
        if item.path == path and task in (None, item.task) and trial in (None, item.trial):
            return item, await asyncio.to_thread(installation.attachments.open, item.digest)
    raise NotFound("NoSuchAttachment", f"job {number} keeps no attachment {path!r}")


def summary(job: Job) -> dict[str, Any]:
    """A job as lists show it."""
    return {
        "number": job.number,
        "id": job.id,
        "key": job.key,
        "state": job.state.value,
        "reason": job.reason,
        "held": job.held and not job.state.finished,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "trigger": dict(job.trigger),
        "inputs": dict(job.inputs),
        "actor": job.actor,
        "commit": job.checkout.commit,
        "branch": job.checkout.branch,
        "tag": job.checkout.tag,
        "retry_of": job.retry_of,
    }


async def waits_of(installation: Installation, found: Iterable[Job]) -> dict[str, Cause]:
    """Why the pending trials of these jobs wait, by trial; and those at work where nobody answers."""
    await look(installation)
    found = list(found)
    places = offers(installation)
    pending = (
        trial.id
        for job in found
        for task in job.tasks
        for trial in task.trials
        if trial.state is State.PENDING
    )
    causes = ((trial, installation.queue.cause(trial, places)) for trial in pending)
    known = {trial: cause for trial, cause in causes if cause is not None}
    return known if installation.carrier is None else known | _of_those_away(installation, found)


def _of_those_away(installation: Installation, found: Sequence[Job]) -> dict[str, Cause]:
    """The trials at work on a worker or daemon of which nothing was heard for a while."""
    crew = {worker.id: worker for worker in installation.crew}
    causes = {}
    for job in found:
        for trial in (trial for task in job.tasks for trial in task.trials if not trial.state.finished):
            worker = crew.get(rows.instance_of(trial.worker))
            if trial.state is State.PENDING or worker is None or not is_away(worker):
                continue
            then = "its script ends with its lease, and the trial is given up"
            if worker.lease_seconds is None:
                then = (
                    f"its script may run on, and is waited for; `steersman cancel {job.number}` gives it up"
                )
            told = f"nothing was heard of {worker.name}, where it runs, for {worker.age:.0f} s: {then}"
            causes[trial.id] = Cause("WorkerAway", told)
    return causes


def detail(job: Job, waits: Mapping[str, Cause]) -> dict[str, Any]:
    """A job with all below it."""
    issues = list(job.specification.get("issues") or ())
    return summary(job) | {"issues": issues, "tasks": [_task(task, waits) for task in job.tasks]}


def _task(task: Task, waits: Mapping[str, Cause]) -> dict[str, Any]:
    return {
        "name": task.name,
        "state": task.state.value,
        "reason": task.reason,
        "needs": list(task.policy.get("needs") or ()),
        "ignore_failure": bool(task.policy.get("ignore_failure")),
        "trials": [_trial(trial, waits) for trial in task.trials],
    }


def _trial(trial: Trial, waits: Mapping[str, Cause]) -> dict[str, Any]:
    waiting = waits.get(trial.id)
    return {
        "number": trial.number,
        "state": trial.state.value,
        "reason": trial.reason,
        "error": trial.error,
        "executor": trial.executor,
        "waits_for": waiting.message if waiting else None,
        "started_at": _time(trial.started_at),
        "finished_at": _time(trial.finished_at),
        "outputs": dict(trial.outputs),
        "scripts": [_script(script) for script in trial.scripts],
    }


def _script(script: Script) -> dict[str, Any]:
    return {"name": script.name, "state": script.state.value, "exit_status": script.exit_status}


def sight(caller: Caller) -> Sight | None:
    """What a caller sees of all jobs; a script, its own. Those that belong to somebody, an administrator sees too."""
    if caller.administrator:
        return None
    everywhere = [f"{kind}/" for kind in (*SCOPES, CONFIGURATION)]
    prefixes = everywhere if caller.sees_all else chain.from_iterable(map(_prefixes, caller.rights.roles))
    return Sight(tuple(prefixes), caller.job, caller.subject if caller.holds_grants else None)


def _prefixes(scope: Scope) -> Iterator[str]:
    """What the KEYs of all runs of a scope begin with."""
    for kind in ("Build", "Deployment"):
        yield "".join(f"{part}/" for part in (kind, scope.project, scope.environment) if part is not None)
    if scope.environment is None:
        yield f"{CONFIGURATION}/{scope.project}/"


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
