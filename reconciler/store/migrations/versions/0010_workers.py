"""Workers and what they are handed; on PostgreSQL also the tables of Procrastinate, which carries trials to them."""

from __future__ import annotations

from importlib import resources
from typing import Any

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row for each process that runs trials, and one for each trial that was handed to one."""
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("executors", sa.JSON(), nullable=False),
        sa.Column("max_load", sa.Float()),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("address", sa.Text()),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("lease_seconds", sa.Float()),
        sa.Column("leads", sa.Boolean(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("lost_at", Instant()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "orders",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial"], ["trials.id"], name=op.f("fk_orders_trial_trials"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trial", name=op.f("pk_orders")),
    )
    connection: Any = op.get_bind()
    if connection.dialect.name == "postgresql":
        # its schema as this version of it has it; later ones bring migrations of their own
        schema = resources.files("procrastinate.sql").joinpath("schema.sql").read_text(encoding="utf-8")
        with connection.connection.driver_connection.cursor() as cursor:
            cursor.execute(schema)  # without parameters, so that a % in it is a %
