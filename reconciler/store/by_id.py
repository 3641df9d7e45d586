"""What has an id: whose job a task, a trial or a script belongs to, and what a specification says.

Read by `reconciler.queries.by_id`. Never changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from reconciler.store.jobs import Sight, within
from reconciler.store.tables import jobs, scripts, specifications, tasks, trials

_NUMBERS = {
    "job": select(jobs.c.number),
    "task": select(tasks.c.job),
    "trial": select(tasks.c.job).select_from(trials.join(tasks)),
    "script": select(tasks.c.job).select_from(scripts.join(trials).join(tasks)),
}
_IDS = {"job": jobs.c.id, "task": tasks.c.id, "trial": trials.c.id, "script": scripts.c.id}


def job_of(connection: Connection, noun: str, row_id: str) -> int | None:
    """The number of the job that a `job`, `task`, `trial` or `script` is, or belongs to."""
    return connection.execute(_NUMBERS[noun].where(_IDS[noun] == row_id)).scalar()


def job_specification(connection: Connection, uuid: str, sight: Sight | None) -> Mapping[str, Any] | None:
    """What it says, if a job that is seen has it."""
    query = (
        select(specifications.c.data)
        .select_from(jobs.join(specifications))
        .where(jobs.c.specification == uuid, within(sight))
    )
    return connection.execute(query.limit(1)).scalar()


def task_specification(connection: Connection, uuid: str, sight: Sight | None) -> Mapping[str, Any] | None:
    """The same, of a task."""
    query = select(tasks.c.policy).select_from(tasks.join(jobs))
    return connection.execute(query.where(tasks.c.specification == uuid, within(sight)).limit(1)).scalar()
