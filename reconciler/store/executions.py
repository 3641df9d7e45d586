"""Rows of `executions`: what the run of a Build or a Deployment has found out so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from reconciler.model.execution import Execution, Type
from reconciler.model.job import Job, Reason, State
from reconciler.store import jobs as job_rows
from reconciler.store.jobs import Sight, within
from reconciler.store.tables import executions, jobs

_MANY = 500
_LOOKED_BACK = 100


def add(
    connection: Connection,
    job: int,
    type_: Type,
    place: tuple[str, str | None, str],
    record: Mapping[str, Any],
    worker: str | None = None,
) -> None:
    """The execution of a new job; `place` is (project, environment, name)."""
    project, environment, name = place
    row = {"job": job, "type": type_.value, "project": project, "environment": environment, "name": name}
    connection.execute(insert(executions).values(**row, record=dict(record), worker=worker))


def load(connection: Connection, job: int) -> Execution | None:
    """One execution, with its job whole."""
    row = connection.execute(select(executions).where(executions.c.job == job)).one_or_none()
    found = None if row is None else job_rows.load(connection, job)
    if row is None or found is None:
        return None
    return _execution(found, row)


def record_of(connection: Connection, job: int) -> dict[str, Any]:
    """What the run has found out so far."""
    return dict(connection.execute(select(executions.c.record).where(executions.c.job == job)).scalar() or {})


def save_record(connection: Connection, job: int, record: Mapping[str, Any]) -> None:
    """What it has found out by now."""
    connection.execute(update(executions).where(executions.c.job == job).values(record=dict(record)))


def told(connection: Connection, job: int) -> tuple[dict[str, Any], datetime | None] | None:
    """What an external worker has said of it, and when that was heard last; None: it is gone."""
    query = select(executions.c.record, executions.c.heard_at).where(executions.c.job == job)
    row = connection.execute(query).one_or_none()
    return None if row is None else (dict(row.record), row.heard_at)


def heard(connection: Connection, job: int, now: datetime) -> None:
    """Its worker has said something."""
    connection.execute(update(executions).where(executions.c.job == job).values(heard_at=now))


def last_built(connection: Connection, key: str, before: int, step: int, plan_location: str) -> str | None:
    """The commit of the newest execution of a Build that passed and did this step."""
    query = select(executions.c.record).select_from(executions.join(jobs))
    query = query.where(jobs.c.key == key, jobs.c.number < before, jobs.c.state == State.PASSED.value)
    for record in connection.execute(query.order_by(jobs.c.number.desc()).limit(_LOOKED_BACK)).scalars():
        steps = record.get("steps") or ()
        found = steps[step] if step < len(steps) else {}
        done = found.get("status") == "ok" and found.get("status_reason") in ("", Reason.EXISTS)
        if done and found.get("plan_location") == plan_location and record.get("commit"):
            return str(record["commit"]["git_revision"])
    return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions: of KEYs with this prefix, or of one KEY (a prefix that ends in no slash).

    `before`: only those whose job's id is lower; `types` None: all.
    """

    prefix: str
    types: Sequence[Type] | None = None
    states: Sequence[State] = ()
    before: str | None = None
    limit: int = 50


def page(connection: Connection, wanted: Wanted, sight: Sight | None = None) -> list[Execution]:
    """Executions with their jobs whole, newest first; a Build in the `tasks` form has them without a record."""
    query = select(
        jobs.c.number, executions.c.type, executions.c.record, executions.c.worker, executions.c.heard_at
    )
    query = query.select_from(jobs.outerjoin(executions)).where(within(sight))
    if wanted.prefix.endswith("/"):
        query = query.where(func.substr(jobs.c.key, 1, len(wanted.prefix)) == wanted.prefix)
    else:
        query = query.where(jobs.c.key == wanted.prefix)
    if wanted.types is not None:
        kinds = [each.value for each in wanted.types]
        query = query.where(func.coalesce(executions.c.type, Type.BUILD.value).in_(kinds))
    if wanted.states:
        query = query.where(jobs.c.state.in_([each.value for each in wanted.states]))
    if wanted.before is not None:
        query = query.where(jobs.c.id < wanted.before)
    rows = {
        row.number: row for row in connection.execute(query.order_by(jobs.c.id.desc()).limit(wanted.limit))
    }
    found = job_rows.load_many(connection, list(rows))
    return [_execution(job, rows[job.number]) for job in found]


def ids(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Number → id of jobs."""
    found: dict[int, str] = {}
    for start in range(0, len(numbers), _MANY):
        some = jobs.c.number.in_(list(numbers[start : start + _MANY]))
        rows = connection.execute(select(jobs.c.number, jobs.c.id).where(some))
        found.update((row.number, row.id) for row in rows)
    return found


def newest(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[str, State]]:
    """Id and state of the newest job of each of these KEYs that has one."""
    found: dict[str, tuple[str, State]] = {}
    for start in range(0, len(keys), _MANY):
        some = jobs.c.key.in_(keys[start : start + _MANY])
        last = select(func.max(jobs.c.number)).where(some).group_by(jobs.c.key)
        rows = connection.execute(select(jobs.c.key, jobs.c.id, jobs.c.state).where(jobs.c.number.in_(last)))
        found.update((row.key, (row.id, State(row.state))) for row in rows)
    return found


def _execution(job: Job, row: Any) -> Execution:
    return Execution(job, Type(row.type or Type.BUILD), row.record or {}, row.worker, row.heard_at)
