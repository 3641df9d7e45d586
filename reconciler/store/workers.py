"""Rows of `workers`: the processes that can run trials, daemons and workers alike, as they tell of themselves.

Every one registers at its start and is seen again every few seconds, outside of the versioned writes. All times are
the database's, so that clocks of machines need not agree. Whether one
is lost is counted by the clock of who looks (`execution.presence`). On SQLite there is one daemon, which needs no row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, literal_column, select, update

from reconciler.store.prepared import Prepared
from reconciler.store.rows import upsert
from reconciler.store.tables import Instant, workers

GRACE = 5.0
"""Seconds after the end of a lease at which the trials are given up: by then their scripts have ended."""

_NOW = literal_column("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint", Instant)
_AGE = ((_NOW - workers.c.seen_at) / 1_000_000.0).label("age")


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. `executors`: names of those that it serves, `*` for all; `max_load`: instead of theirs.

    `recipient`: what is sealed for it is sealed to this public key; `address`: where other daemons reach it.
    `lease_seconds`: its scripts end when it was not seen for so long, and are given up soon after; None: they outlive
    it, and wait for it. `age`: seconds since it was seen, by the database's clock; `heard_at`: when this process
    learned of that, by `presence.clock`, where it did; `unheard`: too long ago, at the last heart-beat of this process,
    for anything to be given to it; `lost_at`: when its trials were given up, until it is back.
    """

    id: str
    kind: str
    name: str
    executors: tuple[str, ...]
    recipient: str
    boot: str
    software: str
    max_load: float | None = None
    address: str | None = None
    lease_seconds: float | None = None
    leads: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    started_at: datetime | None = None
    seen_at: datetime | None = None
    lost_at: datetime | None = None
    age: float = 0.0
    heard_at: float = 0.0
    unheard: bool = False

    @property
    def is_daemon(self) -> bool:
        """A daemon, which has the server's key, as against a worker, which has only its own."""
        return self.kind == "daemon"

    @property
    def signature(self) -> str:
        """How claims for it are signed: with its data directory and the boot, as they rely on files there."""
        return f"{'embedded' if self.is_daemon else 'worker'}@{self.id}@{self.boot}"

    def serves(self, executor: str) -> bool:
        """Does it run trials of the executor with this KEY?"""
        return "*" in self.executors or executor.partition("/")[2] in self.executors


_BY_CLOCK = {"heard_at", "unheard"}  # what no row tells
_BEAT = Prepared(
    update(workers)
    .where(workers.c.id == bindparam("of"))
    .values(seen_at=_NOW, facts=bindparam("told"), lost_at=None)
)
_ALL = select(workers, _AGE).order_by(workers.c.kind, workers.c.name, workers.c.id)


def register(connection: Connection, worker: Worker) -> None:
    """It is there, as a process that has just begun."""
    now = connection.execute(select(_NOW)).scalar_one()
    row = {
        "id": worker.id,
        "kind": worker.kind,
        "name": worker.name,
        "executors": list(worker.executors),
        "max_load": worker.max_load,
        "recipient": worker.recipient,
        "boot": worker.boot,
        "address": worker.address,
        "software": worker.software,
        "lease_seconds": worker.lease_seconds,
        "leads": False,
        "facts": dict(worker.facts),
        "started_at": now,
        "seen_at": now,
        "lost_at": None,
    }
    upsert(connection, workers, [row], ["id"])


def beat(connection: Connection, worker: str, facts: Mapping[str, Any]) -> bool:
    """It is still there. False: it was forgotten, and has to register anew."""
    return _BEAT.run(connection, of=worker, told=dict(facts)) == 1


def find_all(connection: Connection) -> list[Worker]:
    """Daemons, then workers, by name."""
    return [_worker(row) for row in connection.execute(_ALL)]


def find(connection: Connection, worker: str) -> Worker | None:
    """One by its id."""
    row = connection.execute(_ALL.where(workers.c.id == worker)).first()
    return None if row is None else _worker(row)


def leader(connection: Connection) -> Worker | None:
    """The daemon that leads, or led last."""
    row = connection.execute(_ALL.where(workers.c.leads)).first()
    return None if row is None else _worker(row)


def lead(connection: Connection, worker: str) -> None:
    """From now on this one leads, and no other."""
    connection.execute(update(workers).values(leads=workers.c.id == worker))


def lose(connection: Connection, worker: Worker) -> bool:
    """Its trials are given up, unless it was seen again since this was read."""
    query = update(workers).where(
        workers.c.id == worker.id, workers.c.lost_at.is_(None), workers.c.seen_at == worker.seen_at
    )
    return connection.execute(query.values(lost_at=_NOW)).rowcount == 1


def lost(connection: Connection, some: Collection[str]) -> set[str]:
    """Those of them that were given up, or are not there at all. The others stay until this transaction ends."""
    if not some:
        return set()
    query = select(workers.c.id).where(workers.c.id.in_(some), workers.c.lost_at.is_(None))
    query = query.with_for_update(read=True)
    return set(some) - set(connection.execute(query).scalars())


def leave(connection: Connection, worker: str) -> None:
    """It has ended in good order, and runs nothing."""
    connection.execute(delete(workers).where(workers.c.id == worker))


def forget(connection: Connection, days: int) -> list[str]:
    """Those that were not seen for so long; their ids."""
    long_ago = delete(workers).where(_AGE.element > days * 86_400.0)
    return list(connection.execute(long_ago.returning(workers.c.id)).scalars())


def _worker(row: Any) -> Worker:
    known = {name: getattr(row, name) for name in Worker.__dataclass_fields__ if name not in _BY_CLOCK}
    return Worker(**known | {"executors": tuple(row.executors), "age": float(row.age)})
