"""What dispatching reads of `jobs`, `tasks` and `trials`: what changed since a version, or everything unfinished.

Every change below a job moves `jobs.version` (see `store.jobs.touch`), and transactions are in order of their
versions, so nothing at or below the highest version seen can come later. Reads only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, or_, select

from reconciler.model.job import State
from reconciler.model.queue import Changes, Need, QueuedJob, QueuedTrial, units
from reconciler.store import chain
from reconciler.store.jobs import instance_of
from reconciler.store.prepared import Prepared
from reconciler.store.tables import jobs, specifications, tasks, trials

_JOBS = select(
    jobs.c.number,
    jobs.c.key,
    # no branch has a colon in its name
    func.coalesce(jobs.c.branch, literal("tag:") + jobs.c.tag).label("ref"),
    jobs.c.url,
    jobs.c.state,
    jobs.c.version,
    jobs.c.finished_at,
    specifications.c.data["concurrency"].as_string().label("concurrency"),
    specifications.c.data["priority"].as_integer().label("priority"),
).select_from(jobs.join(specifications))
_CHANGED = Prepared(_JOBS.where(jobs.c.version > bindparam("since")))
_UNFINISHED = Prepared(_JOBS.where(jobs.c.finished_at.is_(None)))
_ALL_TRIALS = (
    select(
        trials.c.id,
        trials.c.state,
        trials.c.executor,
        trials.c.worker,
        trials.c.load,
        tasks.c.job,
        tasks.c.position,
        tasks.c.policy,
    )
    .select_from(trials.join(tasks))
    .where(trials.c.finished_at.is_(None))
    .order_by(tasks.c.job, tasks.c.position, trials.c.id)
)
_TRIALS = Prepared(_ALL_TRIALS)
_TRIALS_OF = Prepared(_ALL_TRIALS.where(tasks.c.job == bindparam("of")))


def unfinished(connection: Connection) -> Changes:
    """All jobs that have not ended. The version is read first, so that what changes meanwhile is read again."""
    version = chain.version(connection)
    rows = _UNFINISHED.all(connection)
    return Changes(None, version, _queued(rows, _TRIALS.all(connection)))


def changed(connection: Connection, since: int, writing: int | None = None) -> Changes:
    """Jobs that changed after a version, finished ones included; `writing`: inside of the write of this version."""
    version = writing or chain.version(connection)
    rows = _CHANGED.all(connection, since=since)
    live = [row.number for row in rows if row.finished_at is None]
    trials = [trial for number in live for trial in _TRIALS_OF.all(connection, of=number)]
    return Changes(since, version, _queued(rows, trials))


def last_starts(connection: Connection, since: datetime) -> dict[str, datetime]:
    """When each executor was given something last, of what has not ended or not before a moment."""
    recent = or_(jobs.c.finished_at.is_(None), jobs.c.finished_at >= since)
    query = (
        select(trials.c.executor, trials.c.worker, func.max(trials.c.started_at).label("at"))
        .select_from(jobs.join(tasks).join(trials))
        .where(recent, trials.c.started_at.is_not(None), trials.c.executor.is_not(None))
        .group_by(trials.c.executor, trials.c.worker)
        .order_by(func.max(trials.c.started_at))
    )
    return {place_of(row.executor, row.worker): row.at for row in connection.execute(query)}


def place_of(executor: str, worker: str | None) -> str:
    """KEY@WORKER, or the KEY alone where it is not known whose claim it was."""
    instance = instance_of(worker)
    return f"{executor}@{instance}" if instance else executor


def _queued(rows: Sequence[Any], below: Sequence[Any]) -> dict[int, QueuedJob | None]:
    of_job: dict[int, list[Any]] = {}
    for trial in below:
        of_job.setdefault(trial.job, []).append(trial)
    return {row.number: _job(row, of_job.get(row.number, ())) for row in rows}


def _job(row: Any, below: Sequence[Any]) -> QueuedJob | None:
    if row.finished_at is not None:
        return None
    return QueuedJob(
        number=row.number,
        key=row.key,
        ref=row.ref,
        priority=row.priority or 0,
        beside=row.concurrency == "allow",
        stopping=row.state == State.ABORTING.value,
        trials=tuple(_trial(trial, row.url) for trial in below),
    )


def _trial(row: Any, url: str | None) -> QueuedTrial:
    policy = row.policy
    images = [policy.get("image"), *(s["image"] for s in policy.get("services") or () if s.get("image"))]
    need = Need(
        load=units(float(row.load)),
        traits=frozenset(policy.get("traits") or ()),
        images=tuple(images),
        url=url,
        locks=frozenset(policy.get("exclusive") or ()),
        delay=float(policy.get("dispatch_storm_delay_seconds") or 0),
        daemon="stages" in policy,
    )
    executor = None if row.state == State.PENDING.value else place_of(row.executor or "", row.worker)
    return QueuedTrial(row.id, row.position, int(policy.get("priority") or 0), need, executor)
