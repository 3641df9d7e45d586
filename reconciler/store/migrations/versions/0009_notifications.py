"""How far the receivers of Notifications have been told, and what has failed last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A cursor for each receiver; a row for each that fails."""
    op.create_table(
        "notified",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again_at", Instant()),
        sa.Column("error", sa.Text()),
        sa.Column("failing_since", Instant()),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", Instant()),
        sa.Column("filters", sa.JSON(), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.JSON(), nullable=False),
        sa.Column("put_off", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key", "receiver", name=op.f("pk_notified")),
    )
    op.create_table(
        "failing",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", "act", "ref", name=op.f("pk_failing")),
    )
