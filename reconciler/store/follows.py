"""What `build` triggers compare: the last pass of the Builds that are followed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from reconciler.model.follow import Pass
from reconciler.model.job import State
from reconciler.store.tables import jobs

_PASSED = (
    select(jobs.c.number, jobs.c.finished_version)
    .where(
        jobs.c.key == bindparam("key"),
        jobs.c.state == State.PASSED.value,
        jobs.c.finished_version.is_not(None),
    )
    .order_by(jobs.c.finished_version.desc(), jobs.c.number.desc())
    .limit(1)
)


def passes(connection: Connection, keys: Sequence[str]) -> dict[str, Pass]:
    """Of each KEY that has a passed job, that which ended last."""
    found = {}
    for key in keys:
        row = connection.execute(_PASSED, {"key": key}).one_or_none()
        if row is not None:
            found[key] = Pass(row.number, row.finished_version)
    return found
