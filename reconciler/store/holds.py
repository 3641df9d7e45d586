"""Rows of `holds`: executions of Deployments that wait to be let go, for what, and what keeps them (design 8.2, 8.4).

One row for each job that the gate holds; it goes with the hold. The gate's pass judges them, others only read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from reconciler.store.database import Write
from reconciler.store.tables import holds, jobs


@dataclass(frozen=True, slots=True)
class Hold:
    """`subject`: what would be deployed, as `model.gate.Deploy` says it; `causes`: {reason, message, where, until}.

    `opens_at`: the first time at which no calendar stands in the way; None: not known, or never.
    """

    job: int
    key: str
    type: str
    digest: str
    subject: Mapping[str, Any]
    causes: tuple[Mapping[str, Any], ...]
    since: datetime
    opens_at: datetime | None = None


def add(write: Write, hold: Hold) -> None:
    """One more."""
    row = {
        "job": hold.job,
        "key": hold.key,
        "type": hold.type,
        "digest": hold.digest,
        "subject": dict(hold.subject),
        "causes": [dict(cause) for cause in hold.causes],
        "since": hold.since,
        "opens_at": hold.opens_at,
    }
    write.connection.execute(insert(holds).values(**row))


def tell(write: Write, job: int, causes: Iterable[Mapping[str, Any]], opens_at: datetime | None) -> None:
    """What keeps it by now."""
    told = {"causes": [dict(cause) for cause in causes], "opens_at": opens_at}
    write.connection.execute(update(holds).where(holds.c.job == job).values(**told))


def drop(write: Write, numbers: Collection[int]) -> None:
    """They are held no more."""
    write.connection.execute(delete(holds).where(holds.c.job.in_(list(numbers))))


def live(connection: Connection) -> list[Hold]:
    """All of jobs that have not ended, in the order in which they were made."""
    query = select(holds).select_from(holds.join(jobs)).where(jobs.c.finished_at.is_(None), jobs.c.held)
    return [_hold(row) for row in connection.execute(query.order_by(holds.c.job))]


def of_key(connection: Connection, key: str) -> list[Hold]:
    """Those of one Deployment."""
    query = select(holds).select_from(holds.join(jobs)).where(holds.c.key == key)
    found = query.where(jobs.c.finished_at.is_(None), jobs.c.held).order_by(holds.c.job)
    return [_hold(row) for row in connection.execute(found)]


def of_keys(connection: Connection, prefix: str) -> list[Hold]:
    """Those of Deployments whose KEY begins so."""
    query = select(holds).select_from(holds.join(jobs)).where(holds.c.key.startswith(prefix, autoescape=True))
    found = query.where(jobs.c.finished_at.is_(None), jobs.c.held).order_by(holds.c.job)
    return [_hold(row) for row in connection.execute(found)]


def of_jobs(connection: Connection, numbers: Collection[int]) -> dict[int, Hold]:
    """By job."""
    query = select(holds).where(holds.c.job.in_(list(numbers)))
    return {row.job: _hold(row) for row in connection.execute(query)} if numbers else {}


def _hold(row: Any) -> Hold:
    return Hold(
        row.job, row.key, row.type, row.digest, row.subject, tuple(row.causes), row.since, row.opens_at
    )
