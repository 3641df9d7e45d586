"""Jobs, tasks and commits by the page, of all that a caller sees (cider-ci, 4.2, 4.6, 4.15).

Filters are values; what a served API calls them is its own matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from reconciler.access import Caller
from reconciler.errors import NotFound, SteersmanError
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.model.resource import Resource
from reconciler.passes.builds import declared
from reconciler.queries.jobs import sight
from reconciler.source.values import CommitFacts
from reconciler.store import history, job_lists
from reconciler.store.database import Database
from reconciler.store.history import CommitRow, GitFilter
from reconciler.store.job_lists import Listed as Listed
from reconciler.store.job_lists import Span as Span
from reconciler.store.job_lists import Wanted

T = TypeVar("T")

_walks: WeakKeyDictionary[Database, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class OfGit:
    """What one commit must be, as it is asked for: `url` and `name` of its Repository, and branches by name."""

    url: str | None = None
    name: str | None = None
    branch_head: str | None = None
    branch_descendants: str | None = None

    @property
    def anything(self) -> bool:
        """Is there nothing that is asked for?"""
        return self == OfGit()


@dataclass(frozen=True, slots=True)
class Filters:
    """What is asked for; None: it makes no difference."""

    key: str | None = None
    states: Sequence[State] | None = None
    tree: str | None = None
    specification: str | None = None
    git: OfGit = OfGit()


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of one Repository; `facts` None: its mirror has it no more."""

    row: CommitRow
    facts: CommitFacts | None


def repositories(installation: Installation, caller: Caller) -> list[Resource]:
    """The Repositories in force that a caller sees, by KEY."""
    known = installation.snapshot.current.of_kinds(frozenset({"Repository"}))
    return [known[key] for key in sorted(known) if caller.sees(key)]


async def jobs(installation: Installation, caller: Caller, filters: Filters, span: Span) -> list[Listed]:
    """Jobs, newest first."""
    git = None if filters.git.anything else _filter(installation, caller, filters.git)
    if _holds_nul(filters) or filters.states == () or (git is not None and not git.repositories):
        return []
    wanted = Wanted(
        key=filters.key,
        states=filters.states,
        tree=filters.tree,
        specification=filters.specification,
        git=git,
    )
    return await _read(installation.database, git, lambda c: job_lists.newest(c, wanted, sight(caller), span))


async def tasks(
    installation: Installation, caller: Caller, filters: Filters, span: Span, job: int | None = None
) -> list[str]:
    """Ids of tasks by name: of one job that the caller is known to see, or of all jobs."""
    if _holds_nul(filters) or filters.states == ():
        return []
    wanted = Wanted(job=job, states=filters.states, specification=filters.specification)
    around = None if job is not None else sight(caller)
    return await installation.database.read(lambda c: job_lists.by_name(c, wanted, around, span))


async def commits(installation: Installation, caller: Caller, filters: Filters, span: Span) -> list[Commit]:
    """Commits, newest first, each with what it says about itself."""
    git = _filter(installation, caller, filters.git)
    if _holds_nul(filters) or not git.repositories:
        return []
    rows = await _read(
        installation.database,
        git,
        lambda c: history.commits_page(c, git, filters.tree, span.limit, span.offset),
    )
    return list(await asyncio.gather(*(_with_facts(installation, row) for row in rows)))


async def commit(installation: Installation, caller: Caller, commit_id: str) -> Commit:
    """One commit of a Repository that the caller sees."""
    keys = [resource.key for resource in repositories(installation, caller)]
    row = None
    if keys and "\0" not in commit_id:
        row = await installation.database.read(lambda c: history.commit_row(c, keys, commit_id))
    if row is None:
        raise NotFound("NoSuchCommit", f"no repository here has the commit {commit_id[:100]}")
    return await _with_facts(installation, row)


def _filter(installation: Installation, caller: Caller, git: OfGit) -> GitFilter:
    keys = (
        resource.key
        for resource in repositories(installation, caller)
        if git.url in (None, (resource.spec or {}).get("url")) and git.name in (None, resource.name)
    )
    return GitFilter(tuple(keys), git.branch_head, git.branch_descendants)


async def _read(database: Database, git: GitFilter | None, query: Callable[[Any], T]) -> T:
    """What goes through a whole history takes seconds: one at a time, so that others are read beside it."""
    if git is None or git.branch_descendants is None:
        return await database.read(query)
    async with _walks.setdefault(database, asyncio.Semaphore(1)):
        return await database.read(query)


def _holds_nul(filters: Filters) -> bool:
    """Nothing that is stored does, and not every database can be asked for it."""
    given = (filters.key, filters.tree, filters.specification, filters.git.branch_head)
    return any("\0" in each for each in (*given, filters.git.branch_descendants) if each is not None)


async def _with_facts(installation: Installation, row: CommitRow) -> Commit:
    """From the mirror as it is: nothing is fetched for it."""
    resource = installation.snapshot.current.resources.get(row.repository)
    repository = None if resource is None else declared(installation, resource)
    if repository is None:
        return Commit(row, None)
    try:
        mirror = await installation.mirrors.get(repository.url, repository.secret)
        return Commit(row, await mirror.facts(row.id))
    except SteersmanError:
        return Commit(row, None)
