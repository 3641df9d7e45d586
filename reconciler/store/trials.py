"""One row of `trials` looked at alone; all else of trials is in `store.jobs`. Reads only."""

from __future__ import annotations

from sqlalchemy import Connection, select

from reconciler.store.tables import trials


def task_of(connection: Connection, trial: str) -> str:
    """The id of the task that a trial is an attempt at."""
    return str(connection.execute(select(trials.c.task).where(trials.c.id == trial)).scalar_one())
