"""Who may see and change jobs that belong to no project."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A level for each subject and job."""
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
