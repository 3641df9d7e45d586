"""Logs that one machine writes and others read, by the name of their run folder: a register, and chunks by offset.

Called by `reconciler.execution.shipping`, which writes, and by `reconciler.execution.remote_logs`, which reads. Chunks
come while a script runs; its end says how long the log is and brings the last bytes, of a small log all of them. Later
a large log is one content by its digest, and its chunks go. Offsets decide: what comes twice is there once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from reconciler.store.prepared import Prepared
from reconciler.store.tables import jobs, log_chunks, logs, tasks, trials

_CHUNK = 500
_TRIALS = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a log from `start` on, and what its time index got meanwhile, from `times_start` on."""

    run: str
    start: int
    data: bytes
    times_start: int
    times: bytes

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + len(self.data)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a log: its size, when it was last written to, and its last bytes with the end of its index."""

    run: str
    size: int
    written_at: datetime
    start: int
    data: bytes
    times_start: int
    times: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """What is known of one. `end` None: it grows. `digest`: of the content that it is now, compressed."""

    run: str
    end: End | None
    digest: str | None


_END: dict[str, Any] = {
    "trial": bindparam("trial"),
    "size": bindparam("size"),
    "written_at": bindparam("written_at"),
    "start": bindparam("start"),
    "data": bindparam("data"),
    "times_start": bindparam("times_start"),
    "times": bindparam("times"),
}
_ENDS = {
    name: Prepared(
        made(logs)
        .values(run=bindparam("run"), **_END)
        .on_conflict_do_update(index_elements=["run"], set_=_END, where=logs.c.digest.is_(None))
    )
    for name, made in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


def end(connection: Connection, ends: Sequence[End]) -> None:
    """These have ended; done again, the later one counts, unless the log is a content by then."""
    if ends:
        rows = [asdict(each) | {"trial": _trial(each.run)} for each in ends]
        _ENDS[connection.dialect.name].run_many(connection, rows)


def append(connection: Connection, pieces: Sequence[Piece]) -> None:
    """More of logs that grow."""
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    began = [{"run": piece.run, "trial": _trial(piece.run)} for piece in pieces if piece.start == 0]
    if began:
        connection.execute(made(logs).on_conflict_do_nothing(), began)
    rows = [asdict(piece) | {"stop": piece.stop} for piece in pieces]
    connection.execute(insert(log_chunks), rows)


def shipped(connection: Connection, runs: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """How far logs have come: (bytes of the log, bytes of its index) by run; those with nothing are left out."""
    newest = func.row_number().over(partition_by=log_chunks.c.run, order_by=log_chunks.c.start.desc())
    indexed = (log_chunks.c.times_start + func.length(log_chunks.c.times)).label("indexed")
    ranked = select(log_chunks.c.run, log_chunks.c.stop, indexed, newest.label("age"))
    found = ranked.where(log_chunks.c.run.in_(runs)).subquery()
    query = select(found.c.run, found.c.stop, found.c.indexed).where(found.c.age == 1)
    return {row.run: (row.stop, row.indexed) for row in connection.execute(query)}


def find(connection: Connection, runs: Sequence[str]) -> dict[str, Log]:
    """What is known of logs, by run."""
    found = {}
    for first in range(0, len(runs), _CHUNK):
        for row in connection.execute(select(logs).where(logs.c.run.in_(runs[first : first + _CHUNK]))):
            end = None
            if row.size is not None:
                last = bytes(row.data), row.times_start, bytes(row.times)
                end = End(row.run, row.size, row.written_at, row.start, *last)
            found[row.run] = Log(row.run, end, row.digest)
    return found


def pieces(connection: Connection, run: str, offset: int, most: int) -> list[Piece]:
    """Chunks of a log that end behind an offset, in their order."""
    query = select(log_chunks).where(log_chunks.c.run == run, log_chunks.c.stop > offset)
    found = connection.execute(query.order_by(log_chunks.c.start).limit(most))
    return [Piece(row.run, row.start, bytes(row.data), row.times_start, bytes(row.times)) for row in found]


def pack(connection: Connection, run: str, digest: str, times: bytes) -> None:
    """A log that has ended is a content from now on; its index is kept here, its chunks go."""
    values = {"digest": digest, "start": logs.c.size, "data": b"", "times_start": 0, "times": times}
    query = update(logs).where(logs.c.run == run, logs.c.size.is_not(None))
    if connection.execute(query.values(values)).rowcount:
        connection.execute(delete(log_chunks).where(log_chunks.c.run == run))


def unpacked(connection: Connection, larger: int, before: datetime, behind: str, most: int) -> list[str]:
    """Runs in their order, behind one of them, of large logs that ended before a moment and are no content yet."""
    large = logs.c.size >= larger, logs.c.digest.is_(None), logs.c.written_at < before, logs.c.run > behind
    return list(
        connection.execute(select(logs.c.run).where(*large).order_by(logs.c.run).limit(most)).scalars()
    )


def unknown(connection: Connection, runs: Sequence[str]) -> set[str]:
    """Those of the runs of which no end is known."""
    found: set[str] = set()
    for first in range(0, len(runs), _CHUNK):
        query = select(logs.c.run).where(
            logs.c.run.in_(runs[first : first + _CHUNK]), logs.c.size.is_not(None)
        )
        found.update(connection.execute(query).scalars())
    return set(runs) - found


def forget(connection: Connection, before: datetime) -> bool:
    """Logs go of trials that are forgotten, or whose job finished before a moment. True: there may be more."""
    of_jobs = trials.join(tasks).join(jobs)
    kept = or_(jobs.c.finished_at.is_(None), jobs.c.finished_at >= before)
    needed = select(trials.c.id).select_from(of_jobs).where(kept, trials.c.id == logs.c.trial)
    query = select(logs.c.trial).where(~needed.exists()).distinct().limit(_TRIALS)
    gone = list(connection.execute(query).scalars())
    runs = select(logs.c.run).where(logs.c.trial.in_(gone))
    connection.execute(delete(log_chunks).where(log_chunks.c.run.in_(runs)))
    connection.execute(delete(logs).where(logs.c.trial.in_(gone)))
    return len(gone) == _TRIALS


def digests(connection: Connection, among: Sequence[str]) -> set[str]:
    """Those of the digests that are logs."""
    return set(connection.execute(select(logs.c.digest).where(logs.c.digest.in_(among))).scalars())


def _trial(run: str) -> str:
    """Every run folder begins with its trial."""
    return run.partition("/")[0]
