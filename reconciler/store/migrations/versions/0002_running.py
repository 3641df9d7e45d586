"""Trials in order of change, and attachments that can be run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index of what changed below a job; whether an attachment was executable."""
    op.create_index(op.f("ix_jobs_version"), "jobs", ["version"], unique=False)
    op.add_column(
        "attachments", sa.Column("executable", sa.Boolean(), nullable=False, server_default=sa.false())
    )
