"""Jobs of manifests: submitted by somebody to whom they belong, started by hand where they wait for that (builds-srht).

A manifest is no resource: nothing of it comes into Git. Who may see and change its job is said with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.access import Caller
from reconciler.apply import jobs as apply
from reconciler.commands.jobs import asked_for, load
from reconciler.errors import Conflict, Forbidden
from reconciler.installation import Installation
from reconciler.model.job import Checkout, Job, Reason, manifest_key
from reconciler.model.owners import owner_name
from reconciler.model.rights import INSTALLATION, Level
from reconciler.passes.dispatch import places_of
from reconciler.store import grants
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.digest import canonical
from specs.executor import resolve_image
from specs.manifest import Manifest, Trigger
from specs.manifest_work import JobFacts, work

TYPE = "manifest"
"""What has made such a job, in its `trigger`."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What comes with a manifest. `readers` and `writers` are names of users, `*` is everybody.

    `execute` False: it waits until somebody starts it; `secrets` False: neither secrets nor a token are given.
    """

    manifest: Manifest
    note: str | None = None
    tags: tuple[str, ...] = ()
    readers: tuple[str, ...] = ("*",)
    writers: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    execute: bool = True
    secrets: bool = True


async def submit(installation: Installation, caller: Caller, submission: Submission) -> Job:
    """Make a job of it, safely stored. It belongs to the caller.

    Forbidden for scripts, for who may only read, and for tokens of one project: a manifest's job is in none.
    """
    if caller.running or caller.most < Level.WRITE or caller.within != INSTALLATION:
        raise Forbidden(
            "Forbidden", "to submit jobs takes a token of the level write that is kept to no project"
        )
    owner = owner_name(caller.subject)
    facts = JobFacts(
        owner,
        secrets=submission.secrets,
        refusal=_refusal(installation, submission.manifest.image),
        timeout_seconds=installation.settings.manifest_timeout_seconds,
        triggers=submission.triggers,
    )
    specification = work(submission.manifest, job=facts)
    digest = hashlib.sha256(canonical(specification)).hexdigest()
    specification |= {"concurrency": "allow", "note": submission.note, "tags": list(submission.tags)}
    new = NewJob(
        key=manifest_key(owner),
        specification=specification,
        work_digest=digest,
        checkout=Checkout(),
        trigger={"type": TYPE},
        inputs={},
        actor=caller.subject,
        held=not submission.execute,
        grants=_grants(caller, submission),
    )

    def make(write: Write) -> Job:
        return load(write, apply.insert(write, new))

    job = await installation.database.write(make, caller.actor)
    installation.wake("dispatch")
    return job


async def start(installation: Installation, caller: Caller, number: int) -> Job:
    """Let a job go that waits for a start. Conflict for any other."""

    def let_go(write: Write) -> Job:
        job = asked_for(installation, caller, "start", write, number)
        if not rows.let_go(write.connection, number, write.version):
            raise Conflict("NotHeld", f"job {number} does not wait for a start")
        write.record("job-started", job.key, {"number": number})
        apply.advance(write, number)
        return load(write, number)

    job = await installation.database.write(let_go, caller.actor)
    installation.wake("dispatch")
    return job


async def cancel(installation: Installation, caller: Caller, number: int) -> None:
    """End a job: one that waits has ended when this returns, what runs gets TERM, then KILL.

    One that has ended stays as it is.
    """

    def end(write: Write) -> None:
        job = asked_for(installation, caller, "cancel", write, number)
        if apply.cancel(write, job, Reason.CANCELLED):
            write.record("job-cancelled", job.key, {"number": number})
            apply.advance(write, number)

    await installation.database.write(end, caller.actor)
    installation.wake(f"job/{number}")


def _grants(caller: Caller, submission: Submission) -> Mapping[str, Level]:
    """The submitter may do everything, whoever may write may read."""
    readers = {_subject(name): Level.READ for name in submission.readers}
    writers = {_subject(name): Level.WRITE for name in submission.writers}
    return {**readers, **writers, caller.subject: Level.OWNER}


def _subject(name: str) -> str:
    return grants.EVERYBODY if name == "*" else f"User/{name.removeprefix('~')}"


def _refusal(installation: Installation, image: str) -> str | None:
    """Why no executor here can run a manifest with this image."""
    places = places_of(installation)
    if any(resolve_image(place.spec, image) is not None for place in places.values()):
        return None
    known = sorted({name for place in places.values() for name in place.spec.get("images") or {"host": {}}})
    return f"no executor of this server offers the image {image}; it has {', '.join(known)}"
