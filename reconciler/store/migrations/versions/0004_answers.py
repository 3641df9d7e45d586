"""Answers that are given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was answered to a request with an idempotency key."""
    op.create_table(
        "answers",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("expires", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "key", name=op.f("pk_answers")),
    )
    op.create_index(op.f("ix_answers_expires"), "answers", ["expires"], unique=False)
