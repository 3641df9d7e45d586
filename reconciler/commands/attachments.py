"""Attachments stored and removed by hand, or by a trial that shows its token (cider-ci, 4.17).

The bytes come in pieces and are never in memory as a whole; who may do it is asked before the first of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.access import Caller, require_job
from reconciler.credentials import execution_of
from reconciler.errors import Conflict, Forbidden, NotFound, Refused, Transient
from reconciler.execution.attachments import MOST_FILES
from reconciler.execution.incoming import Incoming, TooLargeError
from reconciler.installation import Installation
from reconciler.model.attachment import NOBODY, TREE, TRIAL
from reconciler.model.event import Actor
from reconciler.model.job import Job, Trial
from reconciler.model.rights import Level, Scope
from reconciler.passes.configurations import ATTACHMENT_DAYS
from reconciler.store import attachments as rows
from reconciler.store import by_id as ids
from reconciler.store import grants, history, job_lists
from reconciler.store import jobs as job_rows
from reconciler.store.attachments import File, Owner, of_tree, of_trial
from reconciler.store.database import Connection, Write

TOKEN_HOLDS = timedelta(hours=24)
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is kept: `kind` is `trial` or `tree`, `of` the id of that.

    `project`: in which project, for a tree; None where that was not said, empty for a tree of nobody.
    """

    kind: str
    of: str
    path: str
    project: str | None = None


@dataclass(frozen=True, slots=True)
class _Permit:
    """Who writes, whose the file then is, and for how many days."""

    actor: Actor
    owner: Owner
    days: int


async def store(
    installation: Installation,
    caller: Caller,
    place: Place,
    content_type: str,
    pieces: AsyncIterator[bytes],
    token: str | None = None,
) -> None:
    """Keep a file; what is at its path is replaced. `token`: a trial's, which then counts instead of the caller.

    Forbidden, NotFound for a trial that the caller does not see, Conflict where it does not say in which of several
    projects, Refused for what is too large by itself or with all that is kept beside it.
    """
    permit = await _permit(installation, caller, place, token)
    digest, size = await _received(installation, pieces)

    def note(write: Write) -> None:
        if place.kind == TRIAL and ids.job_of(write.connection, place.kind, place.of) is None:
            raise NotFound("NoSuchId", f"there is no trial with the id {place.of}")
        _require_room(
            write.connection, permit.owner, place.path, size, installation.settings.attachment_bytes
        )
        file = File(place.path, digest, size, content_type=content_type)
        rows.save(write.connection, permit.owner, [file], write.now, write.now + timedelta(days=permit.days))
        what = {"path": place.path, "digest": digest, "size": size}
        write.record("attachment-stored", None, {place.kind: place.of, **what})

    await installation.database.write(note, permit.actor)


async def remove(installation: Installation, caller: Caller, place: Place) -> None:
    """Keep a file no longer, be its bytes there or not.

    NotFound, Forbidden, Conflict where it does not say in which of several projects.
    """
    permit = await _permit(installation, caller, place, None)

    def forget(write: Write) -> None:
        if not rows.remove(write.connection, permit.owner, place.path):
            what = f"{place.kind} {place.of} keeps no attachment {place.path!r}"
            raise NotFound("NoSuchAttachment", what)
        write.record("attachment-removed", None, {place.kind: place.of, "path": place.path})

    await installation.database.write(forget, permit.actor)


def _require_room(connection: Connection, owner: Owner, path: str, size: int, limit: int) -> None:
    """By hand no more is kept than scripts may leave. Refused."""
    files, taken = rows.total(connection, owner, besides=path)
    if files >= MOST_FILES:
        raise Refused("TooLarge", f"a {owner.kind} keeps at most {MOST_FILES:,} attachments")
    if taken + size > limit:
        told = f"all attachments of a {owner.kind} may have {limit:,} bytes (attachment_bytes)"
        raise Refused("TooLarge", f"{told}, and {taken:,} are taken")


async def _received(installation: Installation, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
    """(digest, size) of what has come in whole and lies in the store."""
    incoming = await asyncio.to_thread(installation.attachments.receive)
    try:
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            if len(waiting) >= _PIECE:
                await asyncio.to_thread(incoming.add, bytes(waiting))
                waiting.clear()
        return await asyncio.to_thread(_end, incoming, bytes(waiting))
    except TooLargeError as error:
        raise Refused(
            "TooLarge", f"an attachment may have {error.limit:,} bytes (attachment_bytes)"
        ) from error
    except OSError as error:
        raise Transient(
            "StoreUnavailable", f"the attachment could not be written: {error.strerror}"
        ) from error
    finally:
        await asyncio.to_thread(incoming.close)


def _end(incoming: Incoming, rest: bytes) -> tuple[str, int]:
    incoming.add(rest)
    return incoming.finish()


async def _permit(installation: Installation, caller: Caller, place: Place, token: str | None) -> _Permit:
    if token is None and not caller.running:
        return await _of_caller(installation, caller, place)
    trial = caller.token if token is None else _trial_of(installation, token)
    job = None if trial is None else await installation.database.read(lambda c: _job_of(c, trial))
    found = None if job is None else _attempt(job, trial)
    if job is None or found is None or not _is_fresh(found, installation.now()):
        raise Forbidden("Forbidden", "this is not the token of a trial that was touched in the last 24 hours")
    actor = Actor(f"Job/{job.number}", found.id, caller.address)
    if place.kind == TRIAL and place.of == found.id:
        return _Permit(actor, of_trial(found.id), _days(place.kind, job))
    own = job.project or NOBODY
    if place.kind == TREE and place.of == job.checkout.tree and place.project in (None, own):
        return _Permit(actor, of_tree(own, place.of), _days(place.kind, job))
    raise Forbidden("Forbidden", f"trial {found.id} has no part in {place.kind} {place.of}")


async def _of_caller(installation: Installation, caller: Caller, place: Place) -> _Permit:
    if caller.most < Level.WRITE:
        raise Forbidden("Forbidden", "this takes a token of the level write")
    if place.kind == TRIAL:
        return await _of_trial(installation, caller, place)
    keys, jobs = await installation.database.read(
        lambda c: (history.repositories_with(c, place.of), _jobs_of_tree(c, caller, place.of))
    )
    among = {key.split("/", 2)[1] for key in keys if caller.sees(key)}
    writable = {project for project in among if _may_write(caller, project)}
    retried = [job for job, level in jobs if _may_retry(installation, caller, job, level)]
    writable |= {job.project or NOBODY for job in retried}
    if _may_write(caller, NOBODY) and (not writable or place.project == NOBODY):
        writable = {NOBODY}
    project = _chosen(place, writable)
    days = (_days(TREE, job) for job in retried if (job.project or NOBODY) == project)
    return _Permit(caller.actor, of_tree(project, place.of), max(days, default=ATTACHMENT_DAYS[TREE]))


def _chosen(place: Place, writable: Set[str]) -> str:
    """The project that is meant, of those that have the tree and in which the caller may write."""
    if place.project is not None and place.project not in writable:
        where = f"project {place.project[:100]!r}, if that has it" if place.project else "the installation"
        raise Forbidden(
            "Forbidden", f"to change files of the tree {place.of} takes the role write on {where}"
        )
    if not writable:
        raise Forbidden(
            "Forbidden", f"to change files of the tree {place.of} takes the role write on its project"
        )
    if place.project is None and len(writable) > 1:
        told = ", ".join(sorted(writable))
        raise Conflict(
            "SeveralOwners", f"several projects have the tree {place.of}: name one as `owner` (of {told})"
        )
    return next(iter(writable)) if place.project is None else place.project


async def _of_trial(installation: Installation, caller: Caller, place: Place) -> _Permit:
    """Whoever may try its job again."""
    missing = NotFound("NoSuchId", f"there is no trial with the id {place.of[:100]}")
    job = await installation.database.read(lambda c: _job_of(c, place.of))
    if job is None:
        raise missing
    granted = await installation.database.read(lambda c: grants.of(c, job.number, caller.subject))
    if not caller.sees_job(job.number, job.key, granted):
        raise missing
    require_job(installation, caller, "retry", job, granted)
    return _Permit(caller.actor, of_trial(place.of), _days(TRIAL, job))


def _may_write(caller: Caller, project: str) -> bool:
    """There, or (where there is no project) everywhere."""
    held = caller.rights.at(Scope(project or None))
    return held is not None and held >= Level.WRITE


def _may_retry(installation: Installation, caller: Caller, job: Job, granted: Level | None) -> bool:
    try:
        require_job(installation, caller, "retry", job, granted)
    except (Forbidden, NotFound):
        return False
    return True


def _jobs_of_tree(connection: Connection, caller: Caller, tree: str) -> list[tuple[Job, Level | None]]:
    numbers = job_lists.newest_with(connection, tree)
    found = ((job_rows.load(connection, number, scripts=False), number) for number in numbers)
    return [(job, grants.of(connection, number, caller.subject)) for job, number in found if job is not None]


def _trial_of(installation: Installation, token: str) -> str | None:
    execution = execution_of(installation.keys, token)
    return None if execution is None else execution.trial


def _job_of(connection: Connection, trial: str) -> Job | None:
    number = ids.job_of(connection, TRIAL, trial)
    return None if number is None else job_rows.load(connection, number)


def _attempt(job: Job, trial: str | None) -> Trial | None:
    return next((each for task in job.tasks for each in task.trials if each.id == trial), None)


def _is_fresh(trial: Trial, now: datetime) -> bool:
    """It still runs, or it was touched not long ago."""
    return trial.finished_at is None or now - trial.finished_at <= TOKEN_HOLDS


def _days(kind: str, job: Job) -> int:
    """How long its files are kept: as its configuration's Repository says."""
    said = (job.specification.get("configuration") or {}).get("attachment_days") or {}
    return int(said.get(kind) or ATTACHMENT_DAYS[kind])
