"""How far the receivers of Notifications have been told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A cursor for each receiver."""
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
        sa.PrimaryKeyConstraint("key", "receiver", name=op.f("pk_notified")),
    )
