"""What may be forgotten after its time, and what is still needed; events stay forever (design 13.25).

Called by `reconciler.passes.retention` in small transactions. A job's row is more than history: it also says that
its work is done (design 14.4), so the rows that say so last are never dropped while their KEY is declared; only
logs and attachments of such jobs go. It knows rows alone: files are removed by those who keep them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, or_, select

from reconciler.store import releases, shipped_logs
from reconciler.store.tables import attachments, jobs, resources, scripts, specifications, tasks, trials

_CHUNK = 500
_ROWS = 5_000

# The newest job of a KEY, work and ref answers whether that ref is owed one. Those made by hand or again may be of
# an older commit and hide the one that followed the head: each way of making jobs has a newest one of its own.
_GROUP = (jobs.c.key, jobs.c.work_digest, jobs.c.branch, jobs.c.tag, jobs.c.trigger["type"].as_string())
_AGE = func.row_number().over(partition_by=_GROUP, order_by=jobs.c.number.desc())
_RANKED = select(jobs.c.number, jobs.c.key, jobs.c.finished_at, _AGE.label("age")).subquery()
_DECLARED = exists().where(resources.c.key == _RANKED.c.key)
_OF_JOBS = trials.join(tasks).join(jobs)


def outdated(connection: Connection, before: datetime) -> list[int]:
    """Numbers of the jobs that finished before a moment and are not needed to know what is owed."""
    query = select(_RANKED.c.number).where(_RANKED.c.finished_at < before, or_(_RANKED.c.age > 1, ~_DECLARED))
    return list(connection.execute(query.order_by(_RANKED.c.number)).scalars())


def forget(connection: Connection, numbers: Sequence[int]) -> None:
    """Drop finished jobs with all below them; a few hundred at most at a time."""
    finished = jobs.c.number.in_(numbers) & jobs.c.finished_at.is_not(None)
    of_jobs = select(tasks.c.id).where(tasks.c.job.in_(select(jobs.c.number).where(finished)))
    gone = select(trials.c.id).where(trials.c.task.in_(of_jobs))
    connection.execute(
        delete(attachments).where(attachments.c.owner_kind == "trial", attachments.c.owner.in_(gone))
    )
    connection.execute(delete(scripts).where(scripts.c.trial.in_(gone)))
    connection.execute(delete(trials).where(trials.c.task.in_(of_jobs)))
    connection.execute(delete(tasks).where(tasks.c.job.in_(select(jobs.c.number).where(finished))))
    orphans = connection.execute(delete(jobs).where(finished).returning(jobs.c.specification)).scalars()
    used = exists().where(jobs.c.specification == specifications.c.uuid)  # equal ones are one
    connection.execute(delete(specifications).where(specifications.c.uuid.in_(list(orphans)), ~used))


def drop_attachments(connection: Connection, now: datetime, before: datetime) -> bool:
    """Drop some attachments past their time, or of jobs finished before a moment. True: there may be more.

    Those of a job that has not finished stay, however old.
    """
    live = select(trials.c.id).select_from(_OF_JOBS).where(jobs.c.finished_at.is_(None))
    old = select(trials.c.id).select_from(_OF_JOBS).where(jobs.c.finished_at < before)
    for condition in (
        (attachments.c.expires <= now) & attachments.c.owner.not_in(live),
        (attachments.c.owner_kind == "trial") & attachments.c.owner.in_(old),
    ):
        chosen = select(attachments.c.id).where(condition).limit(_ROWS)
        if connection.execute(delete(attachments).where(attachments.c.id.in_(chosen))).rowcount == _ROWS:
            return True
    return False


def referred(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that an attachment refers to, or that are packages of releases, or logs."""
    kept = {
        digest
        for chunk in _chunks(digests)
        for digest in connection.execute(
            select(attachments.c.digest).where(attachments.c.digest.in_(chunk)).distinct()
        ).scalars()
    }
    logs = {digest for chunk in _chunks(digests) for digest in shipped_logs.digests(connection, chunk)}
    return kept | logs | releases.packages(connection, digests)


def with_logs(connection: Connection, among: Sequence[str], before: datetime) -> set[str]:
    """Those of the trials whose logs are still kept: their job has not finished, or not before a moment."""
    kept = or_(jobs.c.finished_at.is_(None), jobs.c.finished_at >= before)
    query = select(trials.c.id).select_from(_OF_JOBS).where(kept)
    return {
        trial
        for chunk in _chunks(among)
        for trial in connection.execute(query.where(trials.c.id.in_(chunk))).scalars()
    }


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Both databases bound the number of parameters of one statement."""
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
