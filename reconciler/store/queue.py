"""What dispatching reads of `jobs`, `tasks` and `trials`: what changed since a version, or everything unfinished.

Every change below a job moves `jobs.version` (see `store.jobs.touch`), and transactions are in order of their
versions, so nothing at or below the highest version seen can come later. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from reconciler.model.job import State
from reconciler.model.queue import Need, QueuedJob, QueuedTrial, units
from reconciler.store.prepared import Prepared
from reconciler.store.tables import jobs, specifications, tasks, trials

_JOBS = select(
    jobs.c.number,
    jobs.c.key,
    func.coalesce(jobs.c.branch, jobs.c.tag).label("ref"),
    jobs.c.url,
    jobs.c.state,
    jobs.c.version,
    jobs.c.finished_at,
    specifications.c.data["concurrency"].as_string().label("concurrency"),
    specifications.c.data["priority"].as_integer().label("priority"),
).select_from(jobs.join(specifications))
_CHANGED = Prepared(_JOBS.where(jobs.c.version > bindparam("since")))
_UNFINISHED = Prepared(_JOBS.where(jobs.c.finished_at.is_(None)))
_NUMBERED = Prepared(_JOBS.where(jobs.c.number == bindparam("of")))
_ALL_TRIALS = (
    select(
        trials.c.id,
        trials.c.state,
        trials.c.executor,
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


@dataclass(frozen=True, slots=True)
class Changes:
    """Jobs by number as they are now, None for those that have ended; `version`: the highest one seen."""

    version: int
    jobs: Mapping[int, QueuedJob | None]


def unfinished(connection: Connection) -> Changes:
    """All jobs that have not ended. A version read first, so that what changes meanwhile is read again."""
    version = connection.execute(select(func.coalesce(func.max(jobs.c.version), 0))).scalar_one()
    rows = _UNFINISHED.all(connection)
    return Changes(version, _queued(rows, _TRIALS.all(connection)))


def changed(connection: Connection, since: int) -> Changes:
    """Jobs that changed after a version, finished ones included."""
    rows = _CHANGED.all(connection, since=since)
    version = max((row.version for row in rows), default=since)
    return Changes(version, _with_trials(connection, rows))


def of_jobs(connection: Connection, numbers: Sequence[int]) -> dict[int, QueuedJob | None]:
    """These jobs as they are now; None also for those that are no more."""
    rows = [row for number in numbers for row in _NUMBERED.all(connection, of=number)]
    return dict.fromkeys(numbers) | _with_trials(connection, rows)


def _with_trials(connection: Connection, rows: Sequence[Any]) -> dict[int, QueuedJob | None]:
    numbers = [row.number for row in rows if row.finished_at is None]
    return _queued(rows, [trial for number in numbers for trial in _TRIALS_OF.all(connection, of=number)])


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
    )
    executor = None if row.state == State.PENDING.value else row.executor or ""
    return QueuedTrial(row.id, row.position, int(policy.get("priority") or 0), need, executor)
