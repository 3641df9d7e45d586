"""Jobs and tasks by the page: of one KEY with how many there are, and all that somebody sees, by filters.

Called by the queries of served APIs. Never changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select, text
from sqlalchemy.sql.elements import SQLCoreOperations

from reconciler.model.job import CONFIGURATION, Job, Origin, State, manifest_key
from reconciler.store import history
from reconciler.store.history import GitFilter
from reconciler.store.jobs import Sight, load_many, within
from reconciler.store.tables import jobs, tasks

_NUMBERED = re.compile(r"(.+)#([1-9][0-9]{0,17})", re.ASCII | re.DOTALL)
_MANIFEST = re.compile(r"srht-([1-9][0-9]{0,17})", re.ASCII)
_OF_ANYBODY = manifest_key("").partition("/_/")[0]


@dataclass(frozen=True, slots=True)
class Own:
    """Whose jobs: those of a KEY, and of all that is seen those of project configurations that `subject` made."""

    key: str
    subject: str
    sight: Sight | None

    @property
    def kinds(self) -> tuple[ColumnElement[bool], ...]:
        """Of its manifests, and of configurations; each has an index of its own, and no job is both."""
        made = (jobs.c.actor == self.subject, jobs.c.origin != text("'declared'"), within(self.sight))
        return jobs.c.key == self.key, and_(*made)


def page(connection: Connection, own: Own, *, start: int | None, limit: int) -> list[Job]:
    """Whole jobs, newest first, from the number `start` on; None: from the newest."""
    found: list[int] = []
    for kind in own.kinds:
        query = select(jobs.c.number).where(kind).order_by(jobs.c.number.desc()).limit(limit)
        query = query if start is None else query.where(jobs.c.number <= start)
        found += connection.execute(query).scalars()
    return load_many(connection, sorted(found, reverse=True)[:limit])


def total(connection: Connection, own: Own) -> int:
    """How many there are."""
    counts = (select(func.count()).select_from(jobs).where(kind) for kind in own.kinds)
    return sum(connection.execute(query).scalar_one() for query in counts)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters of a list; None: not asked for. `key`: the one shown (cider-ci 2.1); `git`: of a commit of its tree.

    `specification`: of the job or of the task, whichever is listed.
    """

    job: int | None = None
    key: str | None = None
    states: Sequence[State] | None = None
    tree: str | None = None
    specification: str | None = None
    git: GitFilter | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a list: behind the item `after`, if that is still there, else behind the first `offset` ones."""

    limit: int
    offset: int = 0
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list shows of a job."""

    id: str
    created_at: datetime


def newest(connection: Connection, wanted: Wanted, sight: Sight | None, span: Span) -> list[Listed]:
    """Jobs, newest first, then by id."""
    query = select(jobs.c.id, jobs.c.created_at).where(within(sight), *_of_jobs(wanted))
    query = query.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(span.limit)
    last = _row(connection, select(jobs.c.created_at).where(jobs.c.id == span.after)) if span.after else None
    if last is None:
        query = query.offset(span.offset)
    else:
        at = jobs.c.created_at
        query = query.where(at <= last.created_at, or_(at < last.created_at, jobs.c.id > span.after))
    return [Listed(*row) for row in connection.execute(query)]


def by_name(connection: Connection, wanted: Wanted, sight: Sight | None, span: Span) -> list[str]:
    """Ids of tasks in the order of their names, letter by letter of Unicode, then of their ids."""
    name: SQLCoreOperations[str] = tasks.c.name
    if connection.dialect.name == "postgresql":
        name = name.collate("C")
    query = select(tasks.c.id).order_by(name, tasks.c.id).limit(span.limit)
    if sight is not None:
        query = query.join(jobs).where(within(sight))
    query = query.where(*_of_tasks(wanted))
    last = _row(connection, select(tasks.c.name).where(tasks.c.id == span.after)) if span.after else None
    if last is None:
        query = query.offset(span.offset)
    else:
        query = query.where(name >= last.name, or_(name > last.name, tasks.c.id > span.after))
    return list(connection.execute(query).scalars())


def newest_with(connection: Connection, tree: str) -> list[int]:
    """Numbers of the newest jobs of a tree: one of each KEY."""
    query = select(func.max(jobs.c.number)).where(jobs.c.tree == tree).group_by(jobs.c.key)
    return sorted(connection.execute(query).scalars())


def projects_with(connection: Connection, tree: str, sight: Sight | None) -> set[str]:
    """Projects of the jobs of a tree that are seen."""
    query = select(jobs.c.project).where(jobs.c.tree == tree, within(sight), jobs.c.project.is_not(None))
    return set(connection.execute(query.distinct()).scalars())


def _row(connection: Connection, query: Any) -> Any:
    return connection.execute(query).one_or_none()


def _of_jobs(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.key is not None:
        found.append(_shown_as(wanted.key))
    if wanted.states is not None:
        found.append(jobs.c.state.in_([state.value for state in wanted.states]))
    if wanted.tree is not None:
        found.append(jobs.c.tree == wanted.tree)
    if wanted.specification is not None:
        found.append(jobs.c.specification == wanted.specification)
    if wanted.git is not None:
        found.append(history.among_trees(wanted.git, jobs.c.tree))
    return found


def _of_tasks(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.job is not None:
        found.append(tasks.c.job == wanted.job)
    if wanted.states is not None:
        found.append(tasks.c.state.in_([state.value for state in wanted.states]))
    if wanted.specification is not None:
        found.append(tasks.c.specification == wanted.specification)
    return found


def _shown_as(key: str) -> ColumnElement[bool]:
    """Jobs that `model.job.shown_key` gives this key."""
    of_project = literal(f"{CONFIGURATION}/").concat(jobs.c.project).concat("/_/")
    configured = jobs.c.origin == Origin.CONFIGURATION.value
    forms = [and_(configured, jobs.c.key == of_project.concat(quote(key, safe="")))]
    if found := _MANIFEST.fullmatch(key):
        of_anybody = func.substr(jobs.c.key, 1, len(_OF_ANYBODY)) == _OF_ANYBODY
        forms.append(and_(jobs.c.number == int(found[1]), of_anybody))
    if found := _NUMBERED.fullmatch(key):
        same = or_(jobs.c.key == found[1], jobs.c.key == of_project.concat(quote(found[1], safe="")))
        forms.append(and_(jobs.c.number == int(found[2]), ~configured, same))
    return or_(*forms)
