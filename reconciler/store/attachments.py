"""Rows of `attachments`: which files a trial or a tree keeps, by path; their bytes lie elsewhere, by digest.

Those of a tree belong to all jobs of a Project that have it (cider-ci 1.5), and outlive them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, select

from reconciler.store.rows import new_id, upsert
from reconciler.store.tables import attachments, tasks, trials

_KEY = ["owner_kind", "owner", "path"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose files they are: a trial by its id, or a tree as PROJECT/TREE."""

    kind: str
    id: str

    @property
    def project(self) -> str:
        """Of a tree's files: in which project they are; empty for those of nobody."""
        return self.id.rpartition("/")[0]


def of_trial(trial: str) -> Owner:
    """The trial with this id."""
    return Owner("trial", trial)


def of_tree(project: str, tree: str) -> Owner:
    """A tree, for the jobs of one Project."""
    return Owner("tree", f"{project}/{tree}")


@dataclass(frozen=True, slots=True)
class File:
    """What is noted of one kept file; its size in bytes."""

    path: str
    digest: str
    size: int
    executable: bool = False
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A noted file with its id, which is a new one whenever another file takes its place."""

    id: str
    owner: Owner
    path: str
    digest: str
    size: int
    content_type: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Attachment:
    """One kept file of a trial; sizes in bytes."""

    path: str
    digest: str
    size: int
    executable: bool
    task: str
    trial: int


def save(
    connection: Connection, owner: Owner, files: Iterable[File], now: datetime, expires: datetime
) -> None:
    """Note files; one of the same path is replaced, and gets another id."""
    rows = [
        {
            "id": new_id(),
            "owner_kind": owner.kind,
            "owner": owner.id,
            "path": file.path,
            "digest": file.digest,
            "size": file.size,
            "executable": file.executable,
            "content_type": file.content_type,
            "created_at": now,
            "expires": expires,
        }
        for file in files
    ]
    upsert(connection, attachments, rows, _KEY)


def remove(connection: Connection, owner: Owner, path: str) -> bool:
    """Forget one file; False: there is none."""
    there = (*_owned(owner), attachments.c.path == path)
    return connection.execute(delete(attachments).where(*there)).rowcount == 1


def total(connection: Connection, owner: Owner, *, besides: str) -> tuple[int, int]:
    """(how many, how many bytes) its files are, but for the one with the path `besides`."""
    query = select(func.count(), func.coalesce(func.sum(attachments.c.size), 0))
    row = connection.execute(query.where(*_owned(owner), attachments.c.path != besides)).one()
    return int(row[0]), int(row[1])


def by_id(connection: Connection, kind: str, attachment: str) -> StoredFile | None:
    """The file of a trial or of a tree (`kind`) with this id."""
    query = _STORED.where(attachments.c.owner_kind == kind, attachments.c.id == attachment)
    return _one(connection, query)


def at(connection: Connection, owner: Owner, path: str) -> StoredFile | None:
    """The file with this path."""
    return _one(connection, _STORED.where(*_owned(owner), attachments.c.path == path))


def page(
    connection: Connection, owner: Owner, *, limit: int, offset: int, segment: str | None = None
) -> list[StoredFile]:
    """Files in the order of their paths; `segment`: those with this text in their path."""
    query = _STORED.where(*_owned(owner))
    if segment is not None:
        found = func.instr if connection.dialect.name == "sqlite" else func.strpos
        query = query.where(found(attachments.c.path, segment) > 0)
    path = attachments.c.path if connection.dialect.name == "sqlite" else attachments.c.path.collate("C")
    return [_stored(row) for row in connection.execute(query.order_by(path).limit(limit).offset(offset))]


_STORED = select(attachments)


def _owned(owner: Owner) -> tuple[Any, Any]:
    return attachments.c.owner_kind == owner.kind, attachments.c.owner == owner.id


def _one(connection: Connection, query: Select[Any]) -> StoredFile | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else _stored(row)


def _stored(row: Row[Any]) -> StoredFile:
    owner = Owner(row.owner_kind, row.owner)
    return StoredFile(row.id, owner, row.path, row.digest, row.size, row.content_type, row.created_at)


_JOINED = attachments.join(trials, attachments.c.owner == trials.c.id).join(tasks)
_SHOWN = (
    select(
        attachments.c.path,
        attachments.c.digest,
        attachments.c.size,
        attachments.c.executable,
        tasks.c.name.label("task"),
        trials.c.number.label("trial"),
    )
    .select_from(_JOINED)
    .where(attachments.c.owner_kind == "trial")
    .order_by(tasks.c.position, trials.c.number.desc(), attachments.c.path)
)


def of_job(connection: Connection, number: int) -> list[Attachment]:
    """All attachments of a job's trials; those of newer trials come first."""
    return [Attachment(*row) for row in connection.execute(_SHOWN.where(tasks.c.job == number))]


def of_trials(connection: Connection, chosen: Sequence[str]) -> list[Attachment]:
    """All attachments of these trials."""
    return [Attachment(*row) for row in connection.execute(_SHOWN.where(trials.c.id.in_(chosen)))]
