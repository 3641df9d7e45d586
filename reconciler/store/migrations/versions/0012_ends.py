"""The ends of jobs in their order, whatever a clock said: what follows jobs counts from a version on."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ENDS = """
UPDATE jobs SET finished_version = ranked.place FROM (
    SELECT number, dense_rank() OVER (ORDER BY finished_at) AS place FROM jobs WHERE finished_at IS NOT NULL
) AS ranked
WHERE ranked.number = jobs.number
"""
_jobs = sa.table(
    "jobs",
    sa.column("number"),
    sa.column("key"),
    sa.column("trigger"),
    sa.column("finished_at", Instant()),
    sa.column("finished_version"),
)
_timers = sa.table(
    "timers",
    sa.column("key"),
    sa.column("position"),
    sa.column("last_due", Instant()),
    sa.column("next_due"),
    sa.column("since"),
)
_OF_PIPELINES = -1


def upgrade() -> None:
    """Of jobs that have ended their order by time stands for the versions of their ends; it is never above those."""
    op.add_column("jobs", sa.Column("finished_version", sa.BigInteger()))
    op.add_column("timers", sa.Column("since", sa.BigInteger()))
    op.execute(_ENDS)
    there = sa.text("finished_version IS NOT NULL")
    op.create_index(
        "ix_jobs_ends", "jobs", ["key", "finished_version"], sqlite_where=there, postgresql_where=there
    )
    connection = op.get_bind()
    for timer in connection.execute(sa.select(_timers).where(_timers.c.last_due.is_not(None))).all():
        if timer.key.startswith("Pipeline/") and timer.position == _OF_PIPELINES:
            seen = _last(connection, _jobs.c.finished_at < timer.last_due)
        elif timer.key.startswith("Build/") and timer.next_due is None:
            seen = max(_last(connection, _jobs.c.finished_at <= timer.last_due), _started(connection, timer))
        else:
            continue
        mine = (_timers.c.key == timer.key) & (_timers.c.position == timer.position)
        connection.execute(sa.update(_timers).where(mine).values(since=seen + 1, last_due=None))


def _last(connection: sa.Connection, where: sa.ColumnElement[bool]) -> int:
    """The last of these ends; 0: there is none."""
    query = sa.select(_jobs.c.finished_version).where(where)
    return connection.execute(query.order_by(_jobs.c.finished_at.desc()).limit(1)).scalar() or 0


def _started(connection: sa.Connection, timer: Any) -> int:
    """The last of the ends that the last start by a `build` trigger came after."""
    query = sa.select(_jobs.c.trigger).where(_jobs.c.key == timer.key)
    for found in connection.execute(query.order_by(_jobs.c.number.desc())).scalars():
        trigger = json.loads(found) if isinstance(found, str) else found
        if (trigger.get("type"), trigger.get("position")) == ("build", timer.position):
            return _last(connection, _jobs.c.number.in_(list(trigger.get("after", {}).values())))
    return 0
