"""Who may see and change jobs that belong to no project; what is sent when a job has ended; trials by hand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A level for each subject and job; webhooks and mails, by job; who asked for a trial."""
    op.create_table(
        "grants",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.number"], name=op.f("fk_grants_job_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "subject", name=op.f("pk_grants")),
    )
    op.create_index(op.f("ix_grants_subject_job"), "grants", ["subject", "job"], unique=False)
    op.add_column("trials", sa.Column("actor", sa.Text()))
    op.create_table(
        "deliveries",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("at", Instant()),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.number"], name=op.f("fk_deliveries_job_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "position", name=op.f("pk_deliveries")),
    )
    op.create_index(
        "ix_deliveries_pending",
        "deliveries",
        ["state"],
        unique=False,
        sqlite_where=sa.text("at IS NULL"),
        postgresql_where=sa.text("at IS NULL"),
    )
