"""Groups of jobs of manifests: made of jobs that wait for a start, started and cancelled together (builds-srht 3.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.access import Caller, own_group
from reconciler.apply import jobs as apply
from reconciler.errors import Refused
from reconciler.installation import Installation
from reconciler.model.job import JobGroup, Reason, State, manifest_key
from reconciler.model.owners import owner_name
from reconciler.store import job_groups
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from specs.manifest import Trigger


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """What a group is to be made of. `execute`: its jobs start at once."""

    jobs: Sequence[int]
    note: str | None = None
    triggers: Sequence[Trigger] = ()
    execute: bool = False


async def create(installation: Installation, caller: Caller, request: GroupRequest) -> JobGroup:
    """Refused, and nothing is changed, unless all jobs are the caller's, wait for a start, and are in no group."""

    def work(write: Write) -> JobGroup:
        members = list(dict.fromkeys(request.jobs))
        if not members:
            raise Refused("NoJobs", "a group has at least one job")
        own = manifest_key(owner_name(caller.subject))
        for number in members:
            job = rows.load(write.connection, number, scripts=False)
            if job is None or job.key != own:
                raise Refused("NotOwn", f"you have no job {number}")
            if not (job.held and job.state is State.PENDING):
                raise Refused("NotHeld", f"job {number} does not wait for a start")
            if job.group is not None:
                raise Refused("InGroup", f"job {number} is in group {job.group} already")
        triggers = [trigger.data() for trigger in request.triggers]
        number = job_groups.create(
            write.connection, caller.subject, request.note, triggers, members, write.now, write.version
        )
        write.record("job-group-created", own, {"number": number, "jobs": members})
        if request.execute:
            _start(write, _found(write, caller, number))
        return _found(write, caller, number)

    group = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    return group


async def start(installation: Installation, caller: Caller, number: int) -> JobGroup:
    """Those of its jobs that wait for a start are let go; the others stay as they are."""

    def work(write: Write) -> JobGroup:
        _start(write, _found(write, caller, number))
        return _found(write, caller, number)

    group = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    return group


async def cancel(installation: Installation, caller: Caller, number: int) -> JobGroup:
    """All of it ends; what has ended already stays as it is."""

    def work(write: Write) -> JobGroup:
        for job in _found(write, caller, number).jobs:
            if apply.cancel(write, job, Reason.CANCELLED):
                write.record("job-cancelled", job.key, {"number": job.number})
                apply.advance(write, job.number)
        return _found(write, caller, number)

    group = await installation.database.write(work, caller.actor)
    for job in group.jobs:
        installation.wake(f"job/{job.number}")
    return group


def _found(write: Write, caller: Caller, number: int) -> JobGroup:
    return own_group(caller, job_groups.load(write.connection, number), number)


def _start(write: Write, group: JobGroup) -> None:
    for job in group.jobs:
        if rows.let_go(write.connection, job.number, write.version):
            write.record("job-started", job.key, {"number": job.number})
            apply.advance(write, job.number)
