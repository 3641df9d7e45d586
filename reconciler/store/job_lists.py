"""Jobs of one KEY by the page, and how many there are: for lists that tell both."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from reconciler.model.job import Job
from reconciler.store.jobs import load
from reconciler.store.tables import jobs


def page(connection: Connection, key: str, *, start: int | None, limit: int) -> list[Job]:
    """Whole jobs, newest first, from the number `start` on; None: from the newest."""
    query = select(jobs.c.number).where(jobs.c.key == key).order_by(jobs.c.number.desc()).limit(limit)
    if start is not None:
        query = query.where(jobs.c.number <= start)
    found = (load(connection, number) for number in connection.execute(query).scalars())
    return [job for job in found if job is not None]


def total(connection: Connection, key: str) -> int:
    """How many there are."""
    return connection.execute(select(func.count()).where(jobs.c.key == key)).scalar_one()
