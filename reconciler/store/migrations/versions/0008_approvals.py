"""What is judged before it is deployed: holds, reviewed rulesets, requests for approval; changesets of products."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables of release approvals and release schedules."""
    op.create_table(
        "changesets",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("author", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("requested_on", Instant(), nullable=False),
        sa.Column("committed_on", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changesets")),
    )
    op.create_index(op.f("ix_changesets_committed_on"), "changesets", ["committed_on"], unique=False)
    op.create_table(
        "holds",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("subject", sa.JSON(), nullable=False),
        sa.Column("causes", sa.JSON(), nullable=False),
        sa.Column("since", Instant(), nullable=False),
        sa.Column("opens_at", Instant()),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_holds_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_holds")),
    )
    op.create_index(op.f("ix_holds_key"), "holds", ["key"], unique=False)
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source_identity", sa.Text()),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("comments", sa.Text()),
        sa.Column("bindings", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("subject", sa.JSON()),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("posted", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.Text()),
        sa.Column("again_at", Instant()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("finalized_at", Instant()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index(op.f("ix_requests_application_id"), "requests", ["application", "id"], unique=False)
    op.create_index(op.f("ix_requests_digest"), "requests", ["digest"], unique=False)
    unfinished = sa.text("finalized_at IS NULL")
    op.create_index(
        "ix_requests_live", "requests", ["id"], sqlite_where=unfinished, postgresql_where=unfinished
    )
    op.create_table(
        "outcomes",
        sa.Column("request", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.BigInteger(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("ignored_error", sa.Boolean(), nullable=False),
        sa.Column("result_state", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(
            ["request"], ["requests.id"], name=op.f("fk_outcomes_request"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request", "rule", name=op.f("pk_outcomes")),
        sa.UniqueConstraint("event", name=op.f("uq_outcomes_event")),
    )
    op.create_table(
        "review_versions",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("approved_at", Instant()),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_review_versions")),
        sa.UniqueConstraint("kind", "key", "number", name=op.f("uq_review_versions_kind_key_number")),
    )
    op.create_index(
        op.f("ix_review_versions_kind_key_id"), "review_versions", ["kind", "key", "id"], unique=False
    )
    op.create_table(
        "reviewed",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_reviewed")),
        sa.UniqueConstraint("kind", "number", name=op.f("uq_reviewed_kind_number")),
    )
