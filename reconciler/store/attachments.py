"""Rows of `attachments`: which files a trial or a tree keeps, by path; their bytes lie elsewhere, by digest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from reconciler.store.rows import new_id, upsert
from reconciler.store.tables import attachments, tasks, trials


@dataclass(frozen=True, slots=True)
class Attachment:
    """One kept file; sizes in bytes."""

    path: str
    digest: str
    size: int
    task: str
    trial: int


def save(
    connection: Connection,
    trial: str,
    files: Iterable[tuple[str, str, int]],
    now: datetime,
    expires: datetime,
) -> None:
    """Note the files (path, digest, size) of a trial."""
    rows = [
        {
            "id": new_id(),
            "owner_kind": "trial",
            "owner": trial,
            "path": path,
            "digest": digest,
            "size": size,
            "created_at": now,
            "expires": expires,
        }
        for path, digest, size in files
    ]
    upsert(connection, attachments, rows, ["owner_kind", "owner", "path"])


def of_job(connection: Connection, number: int) -> list[Attachment]:
    """All attachments of a job's trials; those of newer trials come first."""
    joined = attachments.join(trials, attachments.c.owner == trials.c.id).join(tasks)
    query = (
        select(attachments.c.path, attachments.c.digest, attachments.c.size, tasks.c.name, trials.c.number)
        .select_from(joined)
        .where(tasks.c.job == number, attachments.c.owner_kind == "trial")
        .order_by(tasks.c.position, trials.c.number.desc(), attachments.c.path)
    )
    return [
        Attachment(row.path, row.digest, row.size, row.name, row.number) for row in connection.execute(query)
    ]
