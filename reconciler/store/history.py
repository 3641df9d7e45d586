"""Rows of `commits`, `arcs` and `branches`: what of a Repository's history the server knows, and who asks for it.

Written by `reconciler.passes.repositories`, in transactions of a bounded size. Commits come before the branches that
lead to them, and what no branch leads to any more goes before they move: until they have, the heads stored are the
old ones, so that who was killed in between does all of it again. Git is never asked here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from reconciler.model.history import Branch, Commit
from reconciler.model.job import Origin, State
from reconciler.model.timer import Timer
from reconciler.store import timers
from reconciler.store.database import Write
from reconciler.store.rows import upsert
from reconciler.store.tables import arcs, branches, commits, events, jobs, tasks, trials

AT_ONCE = 2_500
"""Commits of one transaction, which has as many rows of `arcs`."""

_SOME = 500
_MARK = 0  # the position of the timer that holds a version
# SQLite, which has no statistics, would go through a whole Repository where another index leads there at once.
_REPOSITORY = commits.c.repository.concat("")


@dataclass(frozen=True, slots=True)
class GitFilter:
    """What one and the same commit must be (cider-ci 4.2): of one of these Repositories (KEYs); the head of a branch
    of this name there; the head of a branch of that name there, or a descendant of it. Names in any case.
    """

    repositories: tuple[str, ...]
    branch_head: str | None = None
    branch_descendants: str | None = None

    @property
    def of_branches(self) -> bool:
        """Is it more than being of a Repository?"""
        return self.branch_head is not None or self.branch_descendants is not None


@dataclass(frozen=True, slots=True)
class CommitRow:
    """A commit as it is kept; `repository` is the KEY of one that has it."""

    repository: str
    id: str
    tree: str
    committed_at: datetime
    seen_at: datetime


# -- what is asked for


def trees(git: GitFilter) -> Select[Any]:
    """The trees of the commits that the filter lets through; a tree may come several times."""
    return select(commits.c.tree).where(_fits(git))


def among_trees(git: GitFilter, tree: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a column holds one of these trees, in the way that suits the filter."""
    if git.of_branches:
        return tree.in_(trees(git))
    return exists().where(commits.c.tree == tree, _REPOSITORY.in_(git.repositories))


def commits_page(
    connection: Connection, git: GitFilter, tree: str | None, limit: int, offset: int
) -> list[CommitRow]:
    """Commits that the filter lets through, each once: newest first by their committers' dates, then by id."""
    wanted = _fits(git) if git.of_branches else _REPOSITORY.in_(git.repositories)
    query = select(commits).where(wanted).order_by(commits.c.committed_at.desc(), commits.c.id)
    if tree is not None:
        query = query.where(commits.c.tree == tree)
    if len(git.repositories) > 1:
        other = commits.alias()
        before = other.c.repository < commits.c.repository
        twice = and_(other.c.id == commits.c.id, before, other.c.repository.in_(git.repositories))
        query = query.where(~exists().where(twice))
    return [_commit_row(row) for row in connection.execute(query.limit(limit).offset(offset))]


def commit_row(connection: Connection, repositories: Collection[str], commit: str) -> CommitRow | None:
    """The commit with this id, in one of these Repositories."""
    query = select(commits).where(commits.c.repository.in_(repositories), commits.c.id == commit)
    row = connection.execute(query.order_by(commits.c.repository).limit(1)).one_or_none()
    return None if row is None else _commit_row(row)


def newest_with(connection: Connection, repository: str, tree: str) -> str | None:
    """The newest commit of a Repository that has the tree."""
    query = select(commits.c.id).where(commits.c.tree == tree, _REPOSITORY.in_([repository]))
    return connection.execute(
        query.order_by(commits.c.committed_at.desc(), commits.c.id).limit(1)
    ).scalar_one_or_none()


def repositories_with(connection: Connection, tree: str) -> list[str]:
    """KEYs of the Repositories of which a commit has the tree."""
    query = select(commits.c.repository).where(commits.c.tree == tree).distinct()
    return list(connection.execute(query.order_by(commits.c.repository)).scalars())


def heads_with(connection: Connection, repository: str, tree: str) -> list[str]:
    """Names of the branches whose head has the tree."""
    query = select(branches.c.name).where(branches.c.tree == tree, branches.c.repository == repository)
    return list(connection.execute(query.order_by(branches.c.name)).scalars())


def _fits(git: GitFilter) -> ColumnElement[bool]:
    conditions = [commits.c.repository.in_(git.repositories)]
    if git.branch_head is not None:
        conditions.append(commits.c.id.in_(_heads(git, git.branch_head)))
    if git.branch_descendants is not None:
        conditions.append(commits.c.id.in_(_descendants(git, git.branch_descendants)))
    return and_(*conditions)


def _heads(git: GitFilter, name: str) -> Select[Any]:
    return select(branches.c.commit).where(
        branches.c.folded == name.casefold(), branches.c.repository.in_(git.repositories)
    )


def _descendants(git: GitFilter, name: str) -> Select[Any]:
    """The heads of the branches of a name, and what comes after them.

    Each Repository is gone through by itself: one that has a commit has all before it, and so the whole way there.
    """
    first = select(commits.c.repository, commits.c.id).where(
        commits.c.id.in_(_heads(git, name)), commits.c.repository.in_(git.repositories)
    )
    line = first.cte("line", recursive=True)
    onward = select(arcs.c.repository, arcs.c.child).where(
        arcs.c.repository == line.c.repository, arcs.c.parent == line.c.id
    )
    return select(line.union(onward).c.id)


# -- what is known


def of_repository(connection: Connection, repository: str) -> dict[str, Branch]:
    """The branches of a Repository by name."""
    query = (
        select(branches, commits.c.committed_at)
        .join_from(
            branches,
            commits,
            and_(commits.c.repository == branches.c.repository, commits.c.id == branches.c.commit),
        )
        .where(branches.c.repository == repository)
    )
    return {
        row.name: Branch(row.name, row.commit, row.tree, row.moved_at, row.committed_at, row.judged)
        for row in connection.execute(query)
    }


def loose(connection: Connection, repository: str) -> list[str]:
    """Commits without a child that are no branch's head: somebody was killed while they were written.

    No branch leads to them, unless it is about to.
    """
    after = exists().where(arcs.c.repository == commits.c.repository, arcs.c.parent == commits.c.id)
    head = exists().where(branches.c.repository == commits.c.repository, branches.c.commit == commits.c.id)
    query = select(commits.c.id).where(commits.c.repository == repository, ~after, ~head)
    return list(connection.execute(query).scalars())


def ids(connection: Connection, repository: str) -> set[str]:
    """The ids of all commits of a Repository."""
    return set(connection.execute(select(commits.c.id).where(commits.c.repository == repository)).scalars())


def repositories(connection: Connection) -> set[str]:
    """KEYs of the Repositories of which anything is known."""
    return {
        key
        for table in (commits, branches)
        for key in connection.execute(select(table.c.repository).distinct()).scalars()
    }


def is_known(connection: Connection, repository: str) -> bool:
    """Is anything known of a Repository?"""
    found = (
        select(table.c.repository).where(table.c.repository == repository) for table in (commits, branches)
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in found)


def changed_trees(connection: Connection, repository: str, since: int) -> list[str]:
    """Trees of which a job that this Repository was asked for has changed after a version."""
    query = select(jobs.c.tree).where(jobs.c.version > since, *_of_configurations(repository)).distinct()
    return list(connection.execute(query.order_by(jobs.c.tree)).scalars())


def trees_with_jobs(connection: Connection, project: str, among: Collection[str]) -> set[str]:
    """Those of the trees that have a job of their configuration."""
    found: set[str] = set()
    for some in _chunks(among):
        query = select(jobs.c.tree).where(
            jobs.c.origin == Origin.CONFIGURATION.value, jobs.c.project == project, jobs.c.tree.in_(some)
        )
        found.update(connection.execute(query.distinct()).scalars())
    return found


def abandoned(
    connection: Connection, repository: str, among: Collection[str], types: Collection[str]
) -> list[int]:
    """Unfinished jobs that a trigger of these types has made here, and whose tree none of these Repositories has."""
    there = exists().where(commits.c.tree == jobs.c.tree, _REPOSITORY.in_(among))
    query = select(jobs.c.number).where(
        jobs.c.finished_at.is_(None),
        *_of_configurations(repository),
        jobs.c.trigger["type"].as_string().in_(types),
        ~there,
    )
    return list(connection.execute(query.order_by(jobs.c.number)).scalars())


def pending_since(connection: Connection, repository: str, types: Collection[str]) -> dict[int, datetime]:
    """Unfinished jobs that a trigger of these types has made here: since when their oldest trial waits to be started.

    Those that somebody asked for do not count.
    """
    query = (
        select(jobs.c.number, func.min(trials.c.created_at).label("since"))
        .select_from(jobs.join(tasks).join(trials))
        .where(
            trials.c.finished_at.is_(None),
            trials.c.state == State.PENDING.value,
            trials.c.actor.is_(None),
            jobs.c.finished_at.is_(None),
            ~jobs.c.held,
            *_of_configurations(repository),
            jobs.c.trigger["type"].as_string().in_(types),
        )
        .group_by(jobs.c.number)
    )
    return {row.number: row.since for row in connection.execute(query)}


def _of_configurations(repository: str) -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.origin == Origin.CONFIGURATION.value,
        jobs.c.trigger["repository"].as_string() == repository,
    )


def judged_until(connection: Connection, repository: str) -> int | None:
    """The version up to which changes of jobs have been judged here; None: none yet."""
    mark = timers.load(connection, repository).get(_MARK)
    return None if mark is None else int(mark.digest)


def was_told(connection: Connection, kind: str, repository: str, tree: str) -> bool:
    """Is there an event of this kind for a tree of the Repository?"""
    query = select(events.c.seq).where(
        events.c.key == repository, events.c.kind == kind, events.c.body.contains(f'"{tree}"')
    )
    return connection.execute(query.limit(1)).first() is not None


# -- what is written


def add(write: Write, repository: str, found: Sequence[Commit]) -> None:
    """Commits, with what comes before each; those that are known stay as they are. At most AT_ONCE."""
    rows = [
        {
            "repository": repository,
            "id": commit.id,
            "tree": commit.tree,
            "committed_at": commit.committed_at,
            "seen_at": write.now,
        }
        for commit in found
    ]
    lines = [
        {"repository": repository, "parent": parent, "child": commit.id}
        for commit in found
        for parent in commit.parents
    ]
    _insert(write.connection, commits, rows)
    _insert(write.connection, arcs, lines)


def remove(connection: Connection, repository: str, gone: Collection[str]) -> None:
    """Commits that no branch leads to. At most AT_ONCE."""
    for some in _chunks(gone):
        connection.execute(delete(arcs).where(arcs.c.repository == repository, arcs.c.child.in_(some)))
        connection.execute(delete(commits).where(commits.c.repository == repository, commits.c.id.in_(some)))


def move(write: Write, repository: str, heads: Mapping[str, str]) -> None:
    """The branches are these from now on, by name; their commits are known already."""
    connection = write.connection
    before = {
        row.name: row
        for row in connection.execute(select(branches).where(branches.c.repository == repository))
    }
    gone = [name for name in before if name not in heads]
    for some in _chunks(gone):
        connection.execute(
            delete(branches).where(branches.c.repository == repository, branches.c.name.in_(some))
        )
    moved = {
        name: commit for name, commit in heads.items() if name not in before or before[name].commit != commit
    }
    tree_of = _trees_by_commit(connection, repository, set(moved.values()))
    rows = [
        {
            "repository": repository,
            "name": name,
            "folded": name.casefold(),
            "commit": commit,
            "tree": tree_of[commit],
            "moved_at": write.now,
            "judged": before[name].judged if name in before else None,
        }
        for name, commit in moved.items()
    ]
    upsert(connection, branches, rows, ["repository", "name"])


def judge(connection: Connection, repository: str, heads: Mapping[str, str]) -> None:
    """For these heads, by the names of their branches, triggers have been decided."""
    statement = (
        update(branches)
        .where(branches.c.repository == repository, branches.c.name == bindparam("of"))
        .values(judged=bindparam("head"))
    )
    if heads:
        connection.execute(statement, [{"of": name, "head": commit} for name, commit in heads.items()])


def judge_until(connection: Connection, repository: str, version: int) -> None:
    """Changes of jobs up to this version have been judged."""
    timers.save(connection, repository, Timer(_MARK, str(version), None, None))


def forget(connection: Connection, repository: str) -> bool:
    """Drop some of what is known of a Repository that is no more. True: there may be more."""
    timers.trim(connection, repository, ())
    connection.execute(delete(branches).where(branches.c.repository == repository))
    query = select(commits.c.id).where(commits.c.repository == repository).limit(AT_ONCE)
    some = list(connection.execute(query).scalars())
    remove(connection, repository, some)
    return len(some) == AT_ONCE


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        statement = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(statement(table).on_conflict_do_nothing(), list(rows))


def _trees_by_commit(connection: Connection, repository: str, wanted: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in _chunks(wanted):
        query = select(commits.c.id, commits.c.tree).where(
            commits.c.repository == repository, commits.c.id.in_(some)
        )
        found.update((row.id, row.tree) for row in connection.execute(query))
    return found


def _chunks(items: Iterable[str]) -> Iterator[list[str]]:
    """Both databases bound the number of parameters of one statement."""
    whole = list(items)
    return (whole[start : start + _SOME] for start in range(0, len(whole), _SOME))


def _commit_row(row: Any) -> CommitRow:
    return CommitRow(row.repository, row.id, row.tree, row.committed_at, row.seen_at)
