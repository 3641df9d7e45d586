"""Jobs of manifests: submitted by somebody to whom they belong, started by hand where they wait for that (builds-srht).

A manifest is no resource: nothing of it comes into Git. Who may see and change its job is said with it.
"""

from __future__ import annotations

from reconciler.access import Caller
from reconciler.apply import jobs as apply
from reconciler.commands.jobs import asked_for, load
from reconciler.errors import Conflict, Forbidden
from reconciler.installation import Installation
from reconciler.model.job import Job, Reason
from reconciler.model.rights import INSTALLATION, Level
from reconciler.passes.manifests import TYPE, Submission, new_job
from reconciler.store import jobs as rows
from reconciler.store.database import Write

__all__ = ["TYPE", "Submission", "start", "submit"]


async def submit(installation: Installation, caller: Caller, submission: Submission) -> Job:
    """Make a job of it, safely stored. It belongs to the caller.

    Forbidden for scripts, for who may only read, and for tokens of one project: a manifest's job is in none.
    """
    if caller.running or caller.most < Level.WRITE or caller.within != INSTALLATION:
        raise Forbidden(
            "Forbidden", "to submit jobs takes a token of the level write that is kept to no project"
        )
    new = new_job(installation, caller.subject, submission)

    def make(write: Write) -> Job:
        return load(write, apply.insert(write, new))

    job = await installation.database.write(make, caller.actor)
    installation.wake("dispatch")
    return job


async def start(installation: Installation, caller: Caller, number: int) -> Job:
    """Let a job go that waits for a start. Conflict for any other."""

    def let_go(write: Write) -> Job:
        job = asked_for(installation, caller, "start", write, number)
        if job.reason == Reason.HELD:
            told = f"job {number} waits for more than a start: `steersman why {job.key}` tells for what"
            raise Conflict("Held", told)
        if not rows.let_go(write.connection, number, write.version):
            raise Conflict("NotHeld", f"job {number} does not wait for a start")
        write.record("job-started", job.key, {"number": number})
        apply.advance(write, number)
        return load(write, number)

    job = await installation.database.write(let_go, caller.actor)
    installation.wake("dispatch")
    return job
