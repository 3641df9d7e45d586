"""Forgets finished jobs after their time; events stay forever (design 13.25)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from reconciler.store.tables import attachments, jobs, scripts, specifications, tasks, trials

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Expired:
    """Trials whose run folders, and digests whose bytes, are no longer needed."""

    trials: tuple[str, ...]
    digests: tuple[str, ...]


def expire(connection: Connection, before: datetime) -> Expired:
    """Drop jobs that finished before a moment, with all below them; some at a time."""
    query = select(jobs.c.number, jobs.c.specification).where(jobs.c.finished_at < before)
    old = connection.execute(query.order_by(jobs.c.number).limit(_AT_ONCE)).all()
    if not old:
        return Expired((), ())
    numbers = [row.number for row in old]
    gone = list(
        connection.execute(
            select(trials.c.id).select_from(trials.join(tasks)).where(tasks.c.job.in_(numbers))
        ).scalars()
    )
    owned = attachments.c.owner.in_(gone)
    digests = set(connection.execute(select(attachments.c.digest).where(owned)).scalars())
    connection.execute(delete(attachments).where(owned))
    connection.execute(delete(scripts).where(scripts.c.trial.in_(gone)))
    connection.execute(delete(trials).where(trials.c.id.in_(gone)))
    connection.execute(delete(tasks).where(tasks.c.job.in_(numbers)))
    connection.execute(delete(jobs).where(jobs.c.number.in_(numbers)))
    connection.execute(
        delete(specifications).where(specifications.c.uuid.in_([row.specification for row in old]))
    )
    still = set(
        connection.execute(select(attachments.c.digest).where(attachments.c.digest.in_(digests))).scalars()
    )
    return Expired(tuple(gone), tuple(sorted(digests - still)))
