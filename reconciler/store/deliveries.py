"""Rows of `deliveries`: webhooks and mails that are due since a job has ended, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from reconciler.store.tables import deliveries

PENDING, SENT, FAILED = "pending", "sent", "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One of a job's, in order of `position`. `note` says in a sentence what came of it; no `at`: still to be sent."""

    job: int
    position: int
    trigger: Mapping[str, Any]
    state: str
    note: str | None
    at: datetime | None


def add(connection: Connection, job: int, triggers: Sequence[Mapping[str, Any]]) -> None:
    """To be sent, in this order, after what there is of the job already."""
    if not triggers:
        return
    known = select(func.count()).select_from(deliveries).where(deliveries.c.job == job)
    first = connection.execute(known).scalar_one()
    rows = [
        {"job": job, "position": position, "trigger": dict(trigger), "state": PENDING}
        for position, trigger in enumerate(triggers, first)
    ]
    connection.execute(insert(deliveries), rows)


def pending(connection: Connection) -> list[Delivery]:
    """All that are to be sent, job by job."""
    query = (
        select(deliveries).where(deliveries.c.at.is_(None)).order_by(deliveries.c.job, deliveries.c.position)
    )
    return [_delivery(row) for row in connection.execute(query)]


def of(connection: Connection, job: int) -> list[Delivery]:
    """Those of a job."""
    query = select(deliveries).where(deliveries.c.job == job).order_by(deliveries.c.position)
    return [_delivery(row) for row in connection.execute(query)]


def end(connection: Connection, delivery: Delivery, state: str, note: str, now: datetime) -> None:
    """What became of it."""
    connection.execute(
        update(deliveries)
        .where(deliveries.c.job == delivery.job, deliveries.c.position == delivery.position)
        .values(state=state, note=note, at=now)
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(row.job, row.position, row.trigger, row.state, row.note, row.at)
