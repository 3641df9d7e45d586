"""Tokens of levels and scopes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """`scope` was a level all along; what was called admin is an owner's. `job` was never used."""
    op.alter_column("tokens", "scope", new_column_name="level")
    op.drop_column("tokens", "job")
    op.add_column("tokens", sa.Column("project", sa.Text()))
    op.add_column("tokens", sa.Column("environment", sa.Text()))
    op.execute("UPDATE tokens SET level = 'owner' WHERE level = 'admin'")
