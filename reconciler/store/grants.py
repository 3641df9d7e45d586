"""Rows of `grants`: who may see and change a job besides those with a role on what it is a run of."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, exists, insert, select

from reconciler.model.rights import LEVELS, Level
from reconciler.store.tables import grants

EVERYBODY = "*"
"""In the place of a subject: whoever is somebody."""


def save(connection: Connection, job: int, levels: Mapping[str, Level]) -> None:
    """Those of a new job."""
    rows = [{"job": job, "subject": subject, "level": level.word} for subject, level in levels.items()]
    if rows:
        connection.execute(insert(grants), rows)


def of(connection: Connection, job: int, subject: str) -> Level | None:
    """The highest level that a subject was granted at a job."""
    query = select(grants.c.level).where(grants.c.job == job, grants.c.subject.in_([subject, EVERYBODY]))
    return max((LEVELS[word] for word in connection.execute(query).scalars()), default=None)


def all_of(connection: Connection, job: int) -> dict[str, Level]:
    """Levels by subject."""
    query = select(grants.c.subject, grants.c.level).where(grants.c.job == job)
    return {row.subject: LEVELS[row.level] for row in connection.execute(query)}


def granted(job: ColumnElement[int], subject: str) -> ColumnElement[bool]:
    """Was a subject granted anything at the job of a row?"""
    return exists().where(grants.c.job == job, grants.c.subject.in_([subject, EVERYBODY]))
