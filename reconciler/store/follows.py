"""What `build` triggers compare: the last pass of the Builds that are followed, and this trigger's last start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from reconciler.model.follow import Pass
from reconciler.model.job import State
from reconciler.store.tables import jobs

_PASSED = (
    select(jobs.c.number, jobs.c.finished_version)
    .where(jobs.c.key == bindparam("key"), jobs.c.state == State.PASSED.value)
    .order_by(jobs.c.number.desc())
    .limit(1)
)
_STARTED = (
    select(jobs.c.trigger)
    .where(
        jobs.c.key == bindparam("key"),
        jobs.c.trigger["type"].as_string() == "build",
        jobs.c.trigger["position"].as_integer() == bindparam("position"),
    )
    .order_by(jobs.c.number.desc())
    .limit(1)
)


def passes(connection: Connection, keys: Sequence[str]) -> dict[str, Pass]:
    """The newest passed job of each KEY that has one."""
    found = {}
    for key in keys:
        row = connection.execute(_PASSED, {"key": key}).one_or_none()
        if row is not None:
            found[key] = Pass(row.number, row.finished_version)
    return found


def started_after(connection: Connection, key: str, position: int) -> Mapping[str, int]:
    """KEY → number of the job that the last start by the trigger at this position came after."""
    trigger: dict[str, Any] | None = connection.execute(_STARTED, {"key": key, "position": position}).scalar()
    return {str(name): int(number) for name, number in (trigger or {}).get("after", {}).items()}
