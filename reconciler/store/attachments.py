"""Rows of `attachments`: which files a trial or a tree keeps, by path; their bytes lie elsewhere, by digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    executable: bool
    task: str
    trial: int


def save(
    connection: Connection,
    trial: str,
    files: Iterable[tuple[str, str, int, bool]],
    now: datetime,
    expires: datetime,
) -> None:
    """Note the files (path, digest, size, executable) of a trial."""
    rows = [
        {
            "id": new_id(),
            "owner_kind": "trial",
            "owner": trial,
            "path": path,
            "digest": digest,
            "size": size,
            "executable": executable,
            "created_at": now,
            "expires": expires,
        }
        for path, digest, size, executable in files
    ]
    upsert(connection, attachments, rows, ["owner_kind", "owner", "path"])


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
