"""Rows of `pipeline_runs`: runs of pipelines with what became of their steps (escape-state, 7.13)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, insert, or_, select, update

from reconciler.model.execution import Type
from reconciler.model.job import State
from reconciler.model.pipeline import Run, Status, phases_of, to_record
from reconciler.store.jobs import next_number
from reconciler.store.tables import approvals, executions, jobs, pipeline_runs

_LIVE = pipeline_runs.c.finished_at.is_(None)


def number_of(connection: Connection, key: str) -> int:
    """The number of the next run of a pipeline; none is given twice, also not after old runs were forgotten."""
    return next_number(connection, f"runs of {key}")


def add(connection: Connection, run: Run, version: int) -> None:
    """A new run."""
    fixed = {
        "id": run.id,
        "key": run.key,
        "project": run.project,
        "number": run.number,
        "trigger": dict(run.trigger),
        "payload": run.payload,
        "actor": run.actor,
        "identity": run.identity,
        "cause": run.cause,
        "retry_of": run.retry_of,
        "created_at": run.created_at,
    }
    connection.execute(insert(pipeline_runs).values(**fixed, **_changing(run), version=version))


def save(connection: Connection, run: Run, version: int) -> None:
    """What has become of it by now."""
    where = pipeline_runs.c.id == run.id
    connection.execute(update(pipeline_runs).where(where).values(**_changing(run), version=version))


def _changing(run: Run) -> dict[str, Any]:
    return {
        "state": run.status.value,
        "reason": run.reason or None,
        "record": to_record(run),
        "cancel_requested": run.cancel_requested,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def load(connection: Connection, run: str) -> Run | None:
    """One run."""
    row = connection.execute(select(pipeline_runs).where(pipeline_runs.c.id == run)).one_or_none()
    return None if row is None else _run(row)


def load_many(connection: Connection, runs: Collection[str]) -> dict[str, Run]:
    """Several, by id."""
    query = select(pipeline_runs).where(pipeline_runs.c.id.in_(list(runs)))
    return {row.id: _run(row) for row in connection.execute(query)} if runs else {}


def live(connection: Connection, key: str | None = None) -> list[Run]:
    """Runs that have not ended, oldest first."""
    query = select(pipeline_runs).where(_LIVE).order_by(pipeline_runs.c.created_at, pipeline_runs.c.number)
    if key is not None:
        query = query.where(pipeline_runs.c.key == key)
    return [_run(row) for row in connection.execute(query)]


def live_keys(connection: Connection) -> list[str]:
    """KEYs of the pipelines whose runs have not all ended."""
    return list(connection.execute(select(pipeline_runs.c.key).where(_LIVE).distinct()).scalars())


def latest(connection: Connection, key: str) -> Run | None:
    """The newest run of a pipeline."""
    query = select(pipeline_runs).where(pipeline_runs.c.key == key)
    row = connection.execute(query.order_by(pipeline_runs.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else _run(row)


def newest(connection: Connection, keys: Collection[str]) -> dict[str, Run]:
    """The newest run of each of these pipelines that has one."""
    last = select(func.max(pipeline_runs.c.number)).where(pipeline_runs.c.key.in_(list(keys)))
    of_each = last.group_by(pipeline_runs.c.key).add_columns(pipeline_runs.c.key).subquery()
    found = select(pipeline_runs).join(
        of_each, and_(of_each.c.key == pipeline_runs.c.key, of_each.c[0] == pipeline_runs.c.number)
    )
    return {row.key: _run(row) for row in connection.execute(found)} if keys else {}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs: of one `key` or of all; only those of `projects` (None: of all); `before` an id; in a `state`."""

    key: str | None = None
    projects: Collection[str] | None = None
    name: str | None = None
    status: Status | None = None
    before: str | None = None
    limit: int = 50


def page(connection: Connection, wanted: Wanted) -> list[Run]:
    """Runs, newest first."""
    query = select(pipeline_runs)
    if wanted.key is not None:
        query = query.where(pipeline_runs.c.key == wanted.key)
    if wanted.projects is not None:
        query = query.where(pipeline_runs.c.project.in_(list(wanted.projects)))
    if wanted.name is not None:
        query = query.where(pipeline_runs.c.key == "Pipeline/" + pipeline_runs.c.project + "/" + wanted.name)
    if wanted.status is not None:
        query = query.where(pipeline_runs.c.state == wanted.status.value)
    if wanted.before is not None:
        query = query.where(pipeline_runs.c.id < wanted.before)
    rows = connection.execute(query.order_by(pipeline_runs.c.id.desc()).limit(wanted.limit))
    return [_run(row) for row in rows]


def has_cause(connection: Connection, key: str, job: int) -> bool:
    """Has the end of this execution started a run of the pipeline?"""
    found = exists().where(pipeline_runs.c.key == key, pipeline_runs.c.cause == job)
    return bool(connection.execute(select(found)).scalar())


def ends(connection: Connection, key: str, of: Sequence[str], since: int | None) -> list[tuple[int, int]]:
    """(version, number) of executions of these KEYs that ended well from a version on and started no run, in order.

    Those that a pipeline started are none of them (10.3).
    """
    if since is None or not of:
        return []
    started = exists().where(pipeline_runs.c.key == key, pipeline_runs.c.cause == jobs.c.number)
    well: ColumnElement[bool] = and_(jobs.c.state == State.PASSED.value, jobs.c.finished_version >= since)
    own = func.coalesce(jobs.c.trigger["type"].as_string(), "") != "pipeline"
    counts = func.coalesce(executions.c.type, Type.BUILD.value).in_((Type.BUILD.value, Type.DEPLOY.value))
    query = select(jobs.c.finished_version, jobs.c.number).select_from(jobs.outerjoin(executions))
    query = query.where(jobs.c.key.in_(list(of)), well, own, counts, ~started)
    rows = connection.execute(query.order_by(jobs.c.finished_version, jobs.c.number))
    return [(row.finished_version, row.number) for row in rows]


def forget(connection: Connection, before: datetime, most: int) -> int:
    """Drop runs that ended before a moment, with their approvals; gives how many.

    What says that an execution has started its run stays as long as the execution, and of a pipeline the newest run.
    """
    other = pipeline_runs.alias()
    newer = exists().where(other.c.key == pipeline_runs.c.key, other.c.number > pipeline_runs.c.number)
    needed = exists().where(jobs.c.number == pipeline_runs.c.cause)
    query = select(pipeline_runs.c.id).where(pipeline_runs.c.finished_at < before, newer, ~needed)
    gone = list(connection.execute(query.limit(most)).scalars())
    about = [approvals.c.subject.startswith(f"PipelineRun/{run}/", autoescape=True) for run in gone]
    if about:
        connection.execute(delete(approvals).where(or_(*about)))
        connection.execute(delete(pipeline_runs).where(pipeline_runs.c.id.in_(gone)))
    return len(gone)


def _run(row: Any) -> Run:
    record: Mapping[str, Any] = row.record
    return Run(
        id=row.id,
        key=row.key,
        number=row.number,
        pipeline=record["pipeline"],
        phases=phases_of(record),
        trigger=row.trigger,
        actor=row.actor,
        identity=row.identity,
        created_at=row.created_at,
        payload=row.payload,
        cause=row.cause,
        retry_of=row.retry_of,
        status=Status(row.state),
        reason=row.reason or "",
        cancel_requested=row.cancel_requested,
        ending=record["ending"],
        releases=tuple(record["releases"]),
        started_at=row.started_at,
        finished_at=row.finished_at,
        version=row.version,
    )
