"""The tables of the store (design 15), alike on SQLite and PostgreSQL. Only `reconciler.store` sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A moment as whole microseconds since 1970 UTC: exact, ordered, and the same on both databases."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """To the database."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


Number = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("chain_head", Text, nullable=False),
    Column("leader_epoch", BigInteger, nullable=False),
    Column("instance", Text, nullable=False),
    Column("key_fingerprint", Text),
)

sources = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("attempted", Text),
    Column("applied", Text),
    Column("errors", JSON, nullable=False),
    Column("held", JSON, nullable=False),
    Column("trouble", JSON),
)

blobs = Table(
    "blobs",
    metadata,
    Column("blob", Text, nullable=False),
    Column("loader_version", Integer, nullable=False),
    Column("parsed", LargeBinary, nullable=False),
    PrimaryKeyConstraint("blob", "loader_version"),
)

resources = Table(
    "resources",
    metadata,
    Column("key", Text, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("project", Text),
    Column("environment", Text),
    Column("name", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("path", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("revision", Text, nullable=False),
    Column("digest", Text),
    Column("spec", JSON),
    Column("refers", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("observed_generation", Integer, nullable=False),
    Column("sync", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("conditions", JSON, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index(None, "kind", "project", "environment"),
    Index(None, "path"),
    Index(None, "version"),
)

numbers = Table(
    "numbers",
    metadata,
    Column("space", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    PrimaryKeyConstraint("space", "name"),
    UniqueConstraint("space", "number"),
)

specifications = Table(
    "specifications",
    metadata,
    Column("uuid", Text, primary_key=True),
    Column("data", JSON, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("key", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("specification", Text, ForeignKey("specifications.uuid"), nullable=False),
    Column("work_digest", Text, nullable=False),
    Column("url", Text),
    Column("commit", Text),
    Column("tree", Text),
    Column("branch", Text),
    Column("tag", Text),
    Column("trigger", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("held", Boolean, nullable=False),
    Column("retry_of", BigInteger),
    Column("project", Text),
    Column("name", Text),
    Column("group", BigInteger),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("finished_version", BigInteger),
    Column("aborted_by", Text),
    Column("aborted_at", Instant),
    Column("resumed_by", Text),
    Column("resumed_at", Instant),
    Column("version", BigInteger, nullable=False),
    Index(None, "key", "number"),
    Index(
        "ix_jobs_actor_made",
        "actor",
        "number",
        sqlite_where=text("origin <> 'declared'"),
        postgresql_where=text("origin <> 'declared'"),
    ),
    Index(None, "tree"),
    Index(None, "group"),
    Index(None, "created_at"),
    Index(None, "key", "tree", "work_digest"),
    Index(None, "finished_at"),
    Index(None, "specification"),
    Index(None, "version"),
    Index(
        "ix_jobs_ends",
        "key",
        "finished_version",
        sqlite_where=text("finished_version IS NOT NULL"),
        postgresql_where=text("finished_version IS NOT NULL"),
    ),
    Index(
        "ix_jobs_live",
        "state",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    *(
        Index(
            f"uq_jobs_configuration_{column}",
            "project",
            "tree",
            column,
            unique=True,
            sqlite_where=text("origin = 'configuration'"),
            postgresql_where=text("origin = 'configuration'"),
        )
        for column in ("key", "name", "specification")
    ),
)

job_groups = Table(
    "job_groups",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("note", Text),
    Column("triggers", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("announced_at", Instant),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("policy", JSON, nullable=False),
    Column("specification", Text),
    UniqueConstraint("job", "name"),
    Index(None, "specification"),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("task", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("error", Text),
    Column("executor", Text),
    Column("worker", Text),
    Column("epoch", Integer, nullable=False),
    Column("lease_until", Instant),
    Column("outputs", JSON),
    Column("result", JSON),
    Column("load", JSON, nullable=False),
    Column("actor", Text),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    UniqueConstraint("task", "number"),
    Index(
        "ix_trials_live",
        "state",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index(
        "ix_trials_worker",
        "worker",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

scripts = Table(
    "scripts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("trial", Text, ForeignKey("trials.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("exit_status", Integer),
    Column("run", Text),
    Column("result", JSON),
    Column("raw_offset", BigInteger),
    Column("log_offset", BigInteger),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Index(None, "trial"),
)

attachments = Table(
    "attachments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner_kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("executable", Boolean, nullable=False, server_default=false()),
    Column("content_type", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires", Instant),
    UniqueConstraint("owner_kind", "owner", "path"),
    Index(None, "digest"),
    Index(None, "expires"),
)

timers = Table(
    "timers",
    metadata,
    Column("key", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("last_due", Instant),
    Column("next_due", Instant),
    Column("since", BigInteger),
    PrimaryKeyConstraint("key", "position"),
    Index(None, "next_due"),
)

seen_tags = Table(
    "seen_tags",
    metadata,
    Column("key", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("commit", Text, nullable=False),
    PrimaryKeyConstraint("key", "tag"),
)

events = Table(
    "events",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("token", Text),
    Column("address", Text),
    Column("kind", Text, nullable=False),
    Column("key", Text),
    Column("revision", Text),
    Column("body", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index(None, "key", "seq"),
    Index(None, "kind", "seq"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("project", Text),
    Column("environment", Text),
    Column("created_at", Instant, nullable=False),
    Column("expires", Instant),
    Column("last_used", Instant),
    Column("revoked_at", Instant),
)

answers = Table(
    "answers",
    metadata,
    Column("subject", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("expires", Instant, nullable=False),
    PrimaryKeyConstraint("subject", "key"),
    Index(None, "expires"),
)

grants = Table(
    "grants",
    metadata,
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("subject", Text, nullable=False),
    Column("level", Text, nullable=False),
    PrimaryKeyConstraint("job", "subject"),
    Index(None, "subject", "job"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("trigger", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("note", Text),
    Column("at", Instant),
    PrimaryKeyConstraint("job", "position"),
    Index(
        "ix_deliveries_pending",
        "state",
        sqlite_where=text("at IS NULL"),
        postgresql_where=text("at IS NULL"),
    ),
)

commits = Table(
    "commits",
    metadata,
    Column("repository", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("tree", Text, nullable=False),
    Column("committed_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    PrimaryKeyConstraint("repository", "id"),
    Index(None, "tree"),
    Index(None, "committed_at"),
)

arcs = Table(
    "arcs",
    metadata,
    Column("repository", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("child", Text, nullable=False),
    PrimaryKeyConstraint("repository", "parent", "child"),
    Index(None, "repository", "child"),
)

branches = Table(
    "branches",
    metadata,
    Column("repository", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("tree", Text, nullable=False),
    Column("moved_at", Instant, nullable=False),
    Column("judged", Text),
    PrimaryKeyConstraint("repository", "name"),
    Index(None, "folded"),
    Index(None, "tree"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("ordinal", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("commit", JSON, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("plan_digest", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fat", Boolean, nullable=False),
    Column("job", BigInteger, nullable=False),
    Column("execution", Text, nullable=False),
    Column("overwritten", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("namespace", "application", "version"),
    Index(None, "namespace", "application", "ordinal"),
    Index(None, "digest"),
    Index(None, "job"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("namespace", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("ordinal", Text, nullable=False),
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("step", Integer, nullable=False),
    PrimaryKeyConstraint("namespace", "application", "version"),
    UniqueConstraint("job", "step"),
)

release_tags = Table(
    "release_tags",
    metadata,
    Column("namespace", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("moved_at", Instant, nullable=False),
    Column("history", JSON, nullable=False),
    PrimaryKeyConstraint("namespace", "application", "tag"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("project", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("release", Text, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("provides", JSON, nullable=False),
    Column("holder", BigInteger),
    Column("deployed", JSON),
    Column("tried", Integer, nullable=False),
    Column("again_at", Instant),
    Column("checked_at", Instant),
    Column("updated_at", Instant, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "environment", "name"),
    Index(None, "version"),
)

executions = Table(
    "executions",
    metadata,
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("type", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("environment", Text),
    Column("name", Text, nullable=False),
    Column("record", JSON, nullable=False),
    Column("worker", Text),
    Column("heard_at", Instant),
    Index(None, "project", "environment", "name"),
)

pushed_entries = Table(
    "pushed_entries",
    metadata,
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("entry", JSON, nullable=False),
    PrimaryKeyConstraint("job", "seq"),
)

pipeline_runs = Table(
    "pipeline_runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("record", JSON, nullable=False),
    Column("trigger", JSON, nullable=False),
    Column("payload", JSON),
    Column("actor", Text, nullable=False),
    Column("identity", Text),
    Column("cause", BigInteger),
    Column("retry_of", Text),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("key", "number"),
    UniqueConstraint("key", "cause"),
    Index(None, "project", "id"),
    Index(
        "ix_pipeline_runs_live",
        "key",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index(None, "finished_at"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("until", Instant),
    UniqueConstraint("subject", "digest", "actor"),
)

holds = Table(
    "holds",
    metadata,
    Column("job", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("subject", JSON, nullable=False),
    Column("causes", JSON, nullable=False),
    Column("since", Instant, nullable=False),
    Column("opens_at", Instant),
    Index(None, "key"),
)

reviewed = Table(
    "reviewed",
    metadata,
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    UniqueConstraint("kind", "number"),
)

review_versions = Table(
    "review_versions",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("number", BigInteger),
    Column("state", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("approved_at", Instant),
    PrimaryKeyConstraint("kind", "id"),
    UniqueConstraint("kind", "key", "number"),
    Index(None, "kind", "key", "id"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("application", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("source_identity", Text),
    Column("metadata", JSON, nullable=False),
    Column("comments", Text),
    Column("bindings", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    Column("authors", JSON, nullable=False),
    Column("digest", Text),
    Column("subject", JSON),
    Column("tried", Integer, nullable=False),
    Column("posted", Integer, nullable=False),
    Column("trouble", Text),
    Column("again_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("finalized_at", Instant),
    Index(None, "application", "id"),
    Index(None, "digest"),
    Index(
        "ix_requests_live",
        "id",
        sqlite_where=text("finalized_at IS NULL"),
        postgresql_where=text("finalized_at IS NULL"),
    ),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("request", BigInteger, ForeignKey("requests.id", ondelete="CASCADE"), nullable=False),
    Column("rule", BigInteger, nullable=False),
    Column("event", BigInteger, nullable=False),
    Column("outcome", BigInteger, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("ignored_error", Boolean, nullable=False),
    Column("result_state", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    PrimaryKeyConstraint("request", "rule"),
    UniqueConstraint("event"),
)

notified = Table(
    "notified",
    metadata,
    Column("key", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("again_at", Instant),
    Column("error", Text),
    Column("failing_since", Instant),
    Column("delivered", BigInteger, nullable=False),
    Column("delivered_at", Instant),
    Column("filters", JSON, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("refused", JSON, nullable=False),
    Column("put_off", JSON, nullable=False),
    PrimaryKeyConstraint("key", "receiver"),
)

failing = Table(
    "failing",
    metadata,
    Column("key", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("ref", Text, nullable=False),
    PrimaryKeyConstraint("key", "act", "ref"),
)

changesets = Table(
    "changesets",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("author", Text),
    Column("comment", Text),
    Column("changes", JSON, nullable=False),
    Column("resources", Text, nullable=False),
    Column("requested_on", Instant, nullable=False),
    Column("committed_on", Instant, nullable=False),
    Index(None, "committed_on"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("executors", JSON, nullable=False),
    Column("max_load", Float),
    Column("recipient", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("address", Text),
    Column("software", Text, nullable=False),
    Column("lease_seconds", Float),
    Column("leads", Boolean, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("lost_at", Instant),
)

orders = Table(
    "orders",
    metadata,
    Column("trial", Text, ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", Text, nullable=False),
)

contents = Table(
    "contents",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("place", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("kept_at", Instant, nullable=False),
)

content_chunks = Table(
    "content_chunks",
    metadata,
    Column("digest", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("digest", "position"),
)

logs = Table(
    "logs",
    metadata,
    Column("run", Text, primary_key=True),
    Column("trial", Text, nullable=False, index=True),
    Column("size", BigInteger),
    Column("written_at", Instant),
    Column("start", BigInteger),
    Column("data", LargeBinary),
    Column("times_start", BigInteger),
    Column("times", LargeBinary),
    Column("digest", Text, index=True),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("run", Text, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("times_start", BigInteger, nullable=False),
    Column("times", LargeBinary, nullable=False),
    PrimaryKeyConstraint("run", "start"),
)
