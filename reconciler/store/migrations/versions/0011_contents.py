"""What one machine keeps and others read: contents by their digest, and logs while they grow and afterwards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two registers, each with a table of chunks."""
    op.create_table(
        "contents",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("kept_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_contents")),
    )
    op.create_table(
        "content_chunks",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "position", name=op.f("pk_content_chunks")),
    )
    op.create_table(
        "logs",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger()),
        sa.Column("written_at", Instant()),
        sa.Column("start", sa.BigInteger()),
        sa.Column("data", sa.LargeBinary()),
        sa.Column("times_start", sa.BigInteger()),
        sa.Column("times", sa.LargeBinary()),
        sa.Column("digest", sa.Text()),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_logs")),
    )
    op.create_index(op.f("ix_logs_trial"), "logs", ["trial"])
    op.create_index(op.f("ix_logs_digest"), "logs", ["digest"])
    op.create_table(
        "log_chunks",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("times_start", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run", "start", name=op.f("pk_log_chunks")),
    )
