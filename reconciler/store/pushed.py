"""Rows of `pushed_entries`: what external workers have said of their executions, in order (escape-state, 12.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select

from reconciler.store.tables import pushed_entries

_CHUNK = 500


def count(connection: Connection, job: int) -> int:
    """How many there are; they are numbered from 1."""
    query = select(func.coalesce(func.max(pushed_entries.c.seq), 0)).where(pushed_entries.c.job == job)
    return int(connection.execute(query).scalar_one())


def counts(connection: Connection, jobs: Sequence[int]) -> dict[int, int]:
    """The same of several."""
    found: dict[int, int] = {}
    for start in range(0, len(jobs), _CHUNK):
        among = pushed_entries.c.job.in_(list(jobs[start : start + _CHUNK]))
        query = select(pushed_entries.c.job, func.max(pushed_entries.c.seq)).where(among)
        found |= {row[0]: row[1] for row in connection.execute(query.group_by(pushed_entries.c.job))}
    return found


def add(connection: Connection, job: int, entries: Sequence[Mapping[str, Any]]) -> int:
    """Add entries behind those that are there; the number of the last one."""
    last = count(connection, job)
    rows = [{"job": job, "seq": last + n, "entry": dict(entry)} for n, entry in enumerate(entries, 1)]
    if rows:
        connection.execute(insert(pushed_entries), rows)
    return last + len(rows)


def page(connection: Connection, job: int, first: int, most: int) -> list[dict[str, Any]]:
    """Entries from a number on, each with its number."""
    query = select(pushed_entries.c.seq, pushed_entries.c.entry).where(
        pushed_entries.c.job == job, pushed_entries.c.seq >= first
    )
    rows = connection.execute(query.order_by(pushed_entries.c.seq).limit(most))
    return [{"seq": row.seq, **row.entry} for row in rows]
