"""Rows of `orders`: what the daemon that leads hands to a worker with a trial, sealed to the worker's key."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select

from reconciler.store.prepared import Prepared
from reconciler.store.rows import upsert
from reconciler.store.tables import orders, trials

_LOAD = Prepared(select(orders.c.sealed).where(orders.c.trial == bindparam("of")))


def save(connection: Connection, trial: str, sealed: str) -> None:
    """For the claim that is being made."""
    upsert(connection, orders, [{"trial": trial, "sealed": sealed}], ["trial"])


def load(connection: Connection, trial: str) -> str | None:
    """None: nothing was handed over with it."""
    row = _LOAD.one_or_none(connection, of=trial)
    return None if row is None else str(row.sealed)


def clear(connection: Connection) -> int:
    """Those of trials that have ended; how many."""
    ended = select(trials.c.id).where(trials.c.finished_at.is_not(None))
    return connection.execute(delete(orders).where(orders.c.trial.in_(ended))).rowcount
