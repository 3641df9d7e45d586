"""Rows of `approvals`: who has decided what about which thing, one record for all that asks people (design 8.2).

`subject` says what was asked (of a pipeline's step `PipelineRun/ID/PHASE/STEP`), `digest` what exactly was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from reconciler.store.rows import new_id
from reconciler.store.tables import approvals

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Approval:
    """One decision. `actor` is the subject of who made it; `until`: how long it is good, None for ever."""

    subject: str
    digest: str
    actor: str
    decision: str
    comment: str
    at: datetime
    until: datetime | None = None


def add(connection: Connection, approval: Approval) -> None:
    """One more; of one person about one thing there is one at most."""
    row = {
        "subject": approval.subject,
        "digest": approval.digest,
        "actor": approval.actor,
        "decision": approval.decision,
        "comment": approval.comment,
        "at": approval.at,
        "until": approval.until,
    }
    connection.execute(insert(approvals).values(id=new_id(), **row))


def about(connection: Connection, prefix: str, most: int) -> list[Approval]:
    """The newest decisions about things whose names begin so."""
    query = select(approvals).where(approvals.c.subject.startswith(prefix, autoescape=True))
    rows = connection.execute(query.order_by(approvals.c.at.desc()).limit(most))
    return [_approval(row) for row in rows]


def of(connection: Connection, subject: str, digest: str | None = None) -> list[Approval]:
    """All decisions about a thing, in order of time; with a digest, only those about exactly that."""
    query = select(approvals).where(approvals.c.subject == subject).order_by(approvals.c.at)
    if digest is not None:
        query = query.where(approvals.c.digest == digest)
    return [_approval(row) for row in connection.execute(query)]


def of_all(connection: Connection, subjects: Sequence[str]) -> dict[str, list[Approval]]:
    """All decisions about many things, in order of time."""
    found: dict[str, list[Approval]] = {}
    for start in range(0, len(subjects), _CHUNK):
        some = approvals.c.subject.in_(list(subjects[start : start + _CHUNK]))
        for row in connection.execute(select(approvals).where(some).order_by(approvals.c.at)):
            found.setdefault(row.subject, []).append(_approval(row))
    return found


def _approval(row: Any) -> Approval:
    return Approval(row.subject, row.digest, row.actor, row.decision, row.comment, row.at, row.until)
