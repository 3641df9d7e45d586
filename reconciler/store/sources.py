"""Rows of `sources`: how far the spec repository has been looked at and applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from reconciler.store.rows import upsert
from reconciler.store.tables import sources

NAME = "main"


@dataclass(frozen=True, slots=True)
class Source:
    """One spec repository. `errors`: [{location, message}]; `trouble`: [reason, message] while it cannot be read."""

    url: str
    branch: str
    path: str
    attempted: str | None = None
    applied: str | None = None
    errors: tuple[dict[str, Any], ...] = ()
    held: tuple[dict[str, Any], ...] = ()
    trouble: tuple[str, str] | None = None


def load(connection: Connection) -> Source | None:
    """The source, once there is one."""
    row = connection.execute(select(sources).where(sources.c.name == NAME)).one_or_none()
    if row is None:
        return None
    trouble = (row.trouble[0], row.trouble[1]) if row.trouble else None
    return Source(
        row.url, row.branch, row.path, row.attempted, row.applied, tuple(row.errors), tuple(row.held), trouble
    )


def save(connection: Connection, source: Source) -> None:
    """Store the source."""
    values = {
        "name": NAME,
        "url": source.url,
        "branch": source.branch,
        "path": source.path,
        "attempted": source.attempted,
        "applied": source.applied,
        "errors": list(source.errors),
        "held": list(source.held),
        "trouble": list(source.trouble) if source.trouble else None,
    }
    upsert(connection, sources, [values], ["name"])
