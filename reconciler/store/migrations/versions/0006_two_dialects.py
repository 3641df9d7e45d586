"""Jobs of project configurations, groups of jobs, results, kinds of attachments, and the history of repositories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

from reconciler.store.tables import Instant
from specs.digest import canonical, tree_of_one

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SOME = 1_000
_TASKS = sa.table(
    "tasks", sa.column("id", sa.Text()), sa.column("policy", sa.JSON()), sa.column("specification", sa.Text())
)
_JOBS = sa.table("jobs", *map(sa.column, ("number", "key", "tree", "project", "specification")))
_DATA = sa.table("specifications", sa.column("uuid", sa.Text()), sa.column("data", sa.JSON()))
_CONFIGURATION = sa.text("origin = 'configuration'")
_MADE = sa.text("origin <> 'declared'")


def upgrade() -> None:
    """Columns and tables that Cider-CI and the job groups of builds.sr.ht take."""
    _jobs()
    op.add_column("tasks", sa.Column("specification", sa.Text()))
    op.create_index(op.f("ix_tasks_specification"), "tasks", ["specification"], unique=False)
    op.add_column("trials", sa.Column("result", sa.JSON()))
    op.add_column("attachments", sa.Column("content_type", sa.Text()))
    op.create_table(
        "job_groups",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("triggers", sa.JSON(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("announced_at", Instant()),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_job_groups")),
    )
    _history()
    _fill()


def _fill() -> None:
    """What jobs made before now have to say in these columns."""
    connection = op.get_bind()
    old = sa.select(_TASKS.c.id, _TASKS.c.policy).where(_TASKS.c.specification.is_(None)).limit(_SOME)
    while found := connection.execute(old).all():
        rows = [{"row": row.id, "uuid": _uuid(canonical(row.policy))} for row in found]
        named = _TASKS.c.id == sa.bindparam("row")
        connection.execute(sa.update(_TASKS).where(named).values(specification=sa.bindparam("uuid")), rows)
    of_jobs = _JOBS.join(_DATA, _JOBS.c.specification == _DATA.c.uuid)
    unplaced = sa.select(_JOBS.c.number, _JOBS.c.key, _JOBS.c.tree, _DATA.c.data).select_from(of_jobs)
    while jobs := connection.execute(unplaced.where(_JOBS.c.project.is_(None)).limit(_SOME)).all():
        rows = [
            {
                "row": row.number,
                "of": row.key.partition("/")[2].partition("/")[0],
                "at": row.tree or _tree(row.data),
            }
            for row in jobs
        ]
        values: dict[str, Any] = {"project": sa.bindparam("of"), "tree": sa.bindparam("at")}
        connection.execute(
            sa.update(_JOBS).where(_JOBS.c.number == sa.bindparam("row")).values(**values), rows
        )


def _uuid(text: bytes) -> str:
    return str(uuid5(UUID(int=0), text.decode()))


def _tree(data: Mapping[str, Any]) -> str:
    """That of a manifest, or of the specification, alone."""
    text = (data.get("manifest") or {}).get("text")
    if text is None:
        return tree_of_one("specification.json", canonical(data))
    return tree_of_one(".build.yml", text.encode())


def _jobs() -> None:
    for name, kind in (
        ("project", sa.Text()),
        ("name", sa.Text()),
        ("group", sa.BigInteger()),
        ("aborted_by", sa.Text()),
        ("aborted_at", Instant()),
        ("resumed_by", sa.Text()),
        ("resumed_at", Instant()),
    ):
        op.add_column("jobs", sa.Column(name, kind))
    op.create_index(
        "ix_jobs_actor_made",
        "jobs",
        ["actor", "number"],
        unique=False,
        sqlite_where=_MADE,
        postgresql_where=_MADE,
    )
    op.create_index(op.f("ix_jobs_tree"), "jobs", ["tree"], unique=False)
    op.create_index(op.f("ix_jobs_group"), "jobs", ["group"], unique=False)
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"], unique=False)
    op.drop_index("uq_jobs_configuration", table_name="jobs")
    for column in ("key", "name", "specification"):
        op.create_index(
            f"uq_jobs_configuration_{column}",
            "jobs",
            ["project", "tree", column],
            unique=True,
            sqlite_where=_CONFIGURATION,
            postgresql_where=_CONFIGURATION,
        )


def _history() -> None:
    op.create_table(
        "commits",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("committed_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "id", name=op.f("pk_commits")),
    )
    op.create_index(op.f("ix_commits_tree"), "commits", ["tree"], unique=False)
    op.create_index(op.f("ix_commits_committed_at"), "commits", ["committed_at"], unique=False)
    op.create_table(
        "arcs",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("child", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "parent", "child", name=op.f("pk_arcs")),
    )
    op.create_index(op.f("ix_arcs_repository_child"), "arcs", ["repository", "child"], unique=False)
    op.create_table(
        "branches",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("moved_at", Instant(), nullable=False),
        sa.Column("judged", sa.Text()),
        sa.PrimaryKeyConstraint("repository", "name", name=op.f("pk_branches")),
    )
    op.create_index(op.f("ix_branches_folded"), "branches", ["folded"], unique=False)
    op.create_index(op.f("ix_branches_tree"), "branches", ["tree"], unique=False)
