"""Rows of `job_groups`, and which jobs are in one: at most one each (builds-srht 3.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from reconciler.model.job import JobGroup
from reconciler.store.jobs import load as load_job
from reconciler.store.jobs import next_number
from reconciler.store.tables import job_groups, jobs


def create(
    connection: Connection,
    owner: str,
    note: str | None,
    triggers: Sequence[Mapping[str, Any]],
    members: Sequence[int],
    now: datetime,
    version: int,
) -> int:
    """A group of these jobs; its number."""
    number = next_number(connection, "job-group")
    values = {"number": number, "owner": owner, "note": note, "created_at": now}
    connection.execute(insert(job_groups).values(**values, triggers=[dict(each) for each in triggers]))
    chosen = update(jobs).where(jobs.c.number.in_(members))
    connection.execute(chosen.values(group=number, version=version))
    return number


def load(connection: Connection, number: int) -> JobGroup | None:
    """The group with its jobs, by number."""
    row = connection.execute(select(job_groups).where(job_groups.c.number == number)).first()
    if row is None:
        return None
    found = connection.execute(select(jobs.c.number).where(jobs.c.group == number).order_by(jobs.c.number))
    members = (load_job(connection, each, scripts=False) for each in found.scalars())
    return JobGroup(number, row.owner, row.note, tuple(row.triggers), tuple(m for m in members if m))


def announce(connection: Connection, number: int, now: datetime) -> bool:
    """All of it has ended and that is told now; False: not all of it has, or it was told before."""
    live = select(jobs.c.number).where(jobs.c.group == number, jobs.c.finished_at.is_(None)).limit(1)
    if connection.execute(live).first() is not None:
        return False
    told = update(job_groups).where(job_groups.c.number == number, job_groups.c.announced_at.is_(None))
    return connection.execute(told.values(announced_at=now)).rowcount == 1
