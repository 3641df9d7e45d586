"""The ends of jobs in their order, whatever a clock said: what follows jobs counts from a version on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ENDS = """
UPDATE jobs SET finished_version = version WHERE finished_at IS NOT NULL
"""
_SINCE = """
UPDATE timers
SET since = COALESCE((SELECT max(jobs.version) FROM jobs WHERE jobs.finished_at <= timers.last_due), 0), last_due = NULL
WHERE last_due IS NOT NULL AND (
    (position = -1 AND "key" LIKE 'Pipeline/%')
    OR (next_due IS NULL AND "key" LIKE 'Build/%')
)
"""


def upgrade() -> None:
    """Of jobs that have ended the version of the last change stands for that of their end."""
    op.add_column("jobs", sa.Column("finished_version", sa.BigInteger()))
    op.add_column("timers", sa.Column("since", sa.BigInteger()))
    op.execute(_ENDS)
    op.execute(_SINCE)
    there = sa.text("finished_version IS NOT NULL")
    op.create_index(
        "ix_jobs_ends", "jobs", ["key", "finished_version"], sqlite_where=there, postgresql_where=there
    )
