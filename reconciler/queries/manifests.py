"""Jobs as builds.sr.ht lists them: a caller's own ones, and the artifacts of one (builds-srht 2.5, 3.3, 3.4).

What the words of that API are is its own matter; here are jobs and files. Never changes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from pathlib import Path

from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job, Trial, manifest_key
from reconciler.model.owners import owner_name
from reconciler.queries import jobs
from reconciler.store import attachments, deliveries, job_lists
from reconciler.store import jobs as rows
from reconciler.store.job_lists import Own
from specs.manifest_work import artifact_file

_PER_JOB = 1_000_000
_PURPOSE = "address of an artifact"
_MARK_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a caller's jobs, newest first; `next`: the number to go on from; `total`: of all pages."""

    jobs: tuple[Job, ...]
    next: int | None
    total: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A kept file. `number` is no other artifact's; `path` as its manifest has it; who knows the `mark` may have it."""

    number: int
    created: datetime
    path: str
    size: int
    digest: str
    mark: str


async def own(installation: Installation, caller: Caller, start: int | None, limit: int) -> Page:
    """Jobs of manifests that belong to the caller, and those it made of project configurations. A script owns none."""
    if caller.running:
        return Page((), None, 0)
    mine = Own(manifest_key(owner_name(caller.subject)), caller.subject, jobs.sight(caller))
    found, total = await installation.database.read(
        lambda c: (job_lists.page(c, mine, start=start, limit=limit + 1), job_lists.total(c, mine))
    )
    after = found[limit].number if len(found) > limit else None
    return Page(tuple(found[:limit]), after, total)


async def artifacts(installation: Installation, caller: Caller, number: int) -> list[Artifact]:
    """What the newest trials of a job keep, in the order of its manifest."""
    return await _kept(installation, await jobs.load(installation, caller, number))


async def notices(installation: Installation, caller: Caller, job: Job) -> list[deliveries.Delivery]:
    """What was sent when a job had ended, and what came of it: its owner's to know, and administrators'."""
    if not (caller.administrator or (caller.holds_grants and job.actor == caller.subject)):
        return []
    return await installation.database.read(lambda c: deliveries.of(c, job.number))


async def artifact(installation: Installation, number: int, mark: str, name: str) -> tuple[Artifact, Path]:
    """One artifact and where its bytes lie, for whoever has its mark; `name` is the last part of its path."""
    job = await installation.database.read(lambda c: rows.load(c, number, scripts=False))
    for item in [] if job is None else await _kept(installation, job):
        if compare_digest(item.mark.encode(), mark.encode()) and item.path.rpartition("/")[2] == name:
            return item, await asyncio.to_thread(installation.attachments.open, item.digest)
    raise NotFound("NoSuchArtifact", f"job {number} keeps no such artifact")


async def _kept(installation: Installation, job: Job) -> list[Artifact]:
    stored = await installation.database.read(lambda c: attachments.of_job(c, job.number))
    newest = {(task.name, task.trials[-1].number): task.trials[-1] for task in job.tasks if task.trials}
    return list(_artifacts(installation, job, stored, newest))


def _artifacts(
    installation: Installation,
    job: Job,
    stored: list[attachments.Attachment],
    newest: Mapping[tuple[str, int], Trial],
) -> Iterator[Artifact]:
    written = {
        artifact_file(path): path for path in (job.specification.get("manifest") or {}).get("artifacts") or ()
    }
    places = {path: place for place, path in enumerate(written)}
    kept = [item for item in stored if (item.task, item.trial) in newest]
    for place, item in enumerate(sorted(kept, key=lambda item: places.get(item.path, len(places)))):
        trial = newest[item.task, item.trial]
        mark = installation.keys.mac(_PURPOSE, f"{trial.id} {item.path}")[:_MARK_DIGITS]
        yield Artifact(
            number=job.number * _PER_JOB + place + 1,
            created=trial.finished_at or job.created_at,
            path=written.get(item.path, item.path),
            size=item.size,
            digest=item.digest,
            mark=mark,
        )
