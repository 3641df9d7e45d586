"""Releases, deployments, executions, runs of pipelines, approvals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables of what Escape's State Service keeps."""
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("until", Instant()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("subject", "digest", "actor", name=op.f("uq_approvals_subject_digest_actor")),
    )
    op.create_table(
        "deployments",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("provides", sa.JSON(), nullable=False),
        sa.Column("holder", sa.BigInteger()),
        sa.Column("deployed", sa.JSON()),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("again_at", Instant()),
        sa.Column("checked_at", Instant()),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "name", name=op.f("pk_deployments")),
    )
    op.create_index(op.f("ix_deployments_version"), "deployments", ["version"], unique=False)
    op.create_table(
        "pipeline_runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("trigger", sa.JSON(), nullable=False),
        sa.Column("payload", sa.JSON()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text()),
        sa.Column("cause", sa.BigInteger()),
        sa.Column("retry_of", sa.Text()),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("started_at", Instant()),
        sa.Column("finished_at", Instant()),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_runs")),
        sa.UniqueConstraint("key", "cause", name=op.f("uq_pipeline_runs_key_cause")),
        sa.UniqueConstraint("key", "number", name=op.f("uq_pipeline_runs_key_number")),
    )
    op.create_index(op.f("ix_pipeline_runs_finished_at"), "pipeline_runs", ["finished_at"], unique=False)
    op.create_index(
        "ix_pipeline_runs_live",
        "pipeline_runs",
        ["key"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(op.f("ix_pipeline_runs_project_id"), "pipeline_runs", ["project", "id"], unique=False)
    op.create_table(
        "release_tags",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("moved_at", Instant(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "application", "tag", name=op.f("pk_release_tags")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("commit", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("plan_digest", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("fat", sa.Boolean(), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("execution", sa.Text(), nullable=False),
        sa.Column("overwritten", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint(
            "namespace", "application", "version", name=op.f("uq_releases_namespace_application_version")
        ),
    )
    op.create_index(op.f("ix_releases_digest"), "releases", ["digest"], unique=False)
    op.create_index(op.f("ix_releases_job"), "releases", ["job"], unique=False)
    op.create_index(
        op.f("ix_releases_namespace_application_ordinal"),
        "releases",
        ["namespace", "application", "ordinal"],
        unique=False,
    )
    op.create_table(
        "executions",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("heard_at", Instant()),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_executions_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_executions")),
    )
    op.create_index(
        op.f("ix_executions_project_environment_name"),
        "executions",
        ["project", "environment", "name"],
        unique=False,
    )
    op.create_table(
        "pushed_entries",
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.number"], name=op.f("fk_pushed_entries_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job", "seq", name=op.f("pk_pushed_entries")),
    )
    op.create_table(
        "reservations",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Text(), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job"], ["jobs.number"], name=op.f("fk_reservations_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("namespace", "application", "version", name=op.f("pk_reservations")),
        sa.UniqueConstraint("job", "step", name=op.f("uq_reservations_job_step")),
    )
    op.add_column("scripts", sa.Column("result", sa.JSON()))
