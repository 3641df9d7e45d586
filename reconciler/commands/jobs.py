"""Jobs by hand: trigger, cancel, retry (design 14.8, 13.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from reconciler.access import Caller, missing, require, require_job
from reconciler.apply import jobs as apply
from reconciler.apply.jobs import Order
from reconciler.controllers.builds import inputs_of
from reconciler.errors import Conflict, NotFound, Refused
from reconciler.installation import Installation
from reconciler.model.job import Checkout, Job, Origin, Reason, State, outdated, owner_of
from reconciler.model.resource import Resource
from reconciler.passes.builds import repository_of
from reconciler.passes.executions import checkout_of
from reconciler.store import grants
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.build import work_digest

_MOST_UNFINISHED = 100
_NOT_PASSED = frozenset({State.FAILED, State.DEFECTIVE, State.ABORTED})


async def trigger(
    installation: Installation,
    caller: Caller,
    key: str,
    inputs: Mapping[str, str],
    branch: str | None,
    commit: str | None,
) -> dict[str, Any]:
    """Make a job of a Build, whatever is owed. An invalid Build runs its last good version."""
    require(installation, caller, "trigger", key)
    resource = _build(installation, key)
    spec = resource.spec or {}
    if spec.get("disabled"):
        raise Conflict("Disabled", f"{key} says `disabled: true` at {resource.location}")
    _check_inputs(resource, inputs)
    repository = repository_of(installation, resource)
    checkout = await checkout_of(installation, resource, repository, branch, commit)
    work = work_digest(spec, repository.url if repository else None)
    told = {"type": "manual", "user": caller.subject.rpartition("/")[2]}
    order = Order(resource, work, checkout, told, inputs_of(spec, inputs))
    number, job_id = await installation.database.write(lambda w: _create(w, order), caller.actor)
    installation.wake("dispatch")
    installation.wake(key)
    return {"number": number, "id": job_id}


async def cancel(installation: Installation, caller: Caller, number: int, why: str = "") -> dict[str, Any]:
    """Ask a job to end; what runs gets TERM, then KILL. One that has ended stays as it is.

    `why`: for the event log.
    """

    def work(write: Write) -> Job:
        job = asked_for(installation, caller, "cancel", write, number)
        if apply.cancel(write, job, Reason.CANCELLED):
            body = {"number": number} | ({"why": why} if why else {})
            write.record("job-cancelled", job.key, body)
            apply.advance(write, number)  # what waits has ended then
        elif job.state.finished:
            raise Conflict("Finished", f"job {number} has {job.state.value} already")
        return job

    job = await installation.database.write(work, caller.actor)
    installation.wake(f"job/{number}")
    return {"number": number, "id": job.id}


async def abort(installation: Installation, caller: Caller, number: int) -> Job:
    """As `cancel`; what waits has ended when this returns, and what has ended already stays as it is."""

    def end(write: Write) -> Job:
        job = asked_for(installation, caller, "cancel", write, number)
        if apply.cancel(write, job, Reason.CANCELLED):
            write.record("job-cancelled", job.key, {"number": number})
            apply.advance(write, number)
        return load(write, number)

    job = await installation.database.write(end, caller.actor)
    installation.wake(f"job/{number}")
    return job


async def resume(installation: Installation, caller: Caller, number: int) -> Job:
    """One more trial of every task that ended without passing; what they kept from starting starts (cider-ci 5.1)."""

    def work(write: Write) -> Job:
        job = asked_for(installation, caller, "retry", write, number)
        _go_on(write, caller, job)
        return load(write, number)

    job = await installation.database.write(work, caller.actor)
    installation.wake(f"job/{number}")
    installation.wake("dispatch")
    return job


def _may_go_on(job: Job) -> None:
    """Not a job that is being ended, or that waits for a start: nothing of that may begin by another door."""
    if job.state is State.ABORTING:
        raise Conflict("Aborting", f"job {job.number} is being ended; try again when it has")
    if job.held and not job.state.finished:
        raise Conflict("Held", f"job {job.number} waits for its start; start it first")


def _go_on(write: Write, caller: Caller, job: Job) -> bool:
    """One more trial of all that ended without passing; False: there is nothing of that kind."""
    _may_go_on(job)
    ended = [task for task in job.tasks if task.state in _NOT_PASSED]
    for task in ended:
        rows.again(write.connection, job, task, caller.subject, write.now, write.version)
    if not ended:
        return False
    for task in job.tasks:
        if task.state is State.SKIPPED and task.reason in (Reason.NEEDS, Reason.WHEN):
            rows.reopen(write.connection, task.id)
    rows.note_resumed(write.connection, job.number, caller.subject, write.now)
    body = {"number": job.number, "tasks": [task.name for task in ended]}
    write.record("job-resumed", job.key, body)
    apply.advance(write, job.number)
    return True


async def cancel_all(installation: Installation, caller: Caller, numbers: Iterable[int]) -> None:
    """Ask jobs to end; those that have ended meanwhile stay as they are."""
    for number in numbers:
        with suppress(Conflict, NotFound):
            await cancel(installation, caller, number)


async def retry(installation: Installation, caller: Caller, number: int) -> dict[str, Any]:
    """A new job with the specification, commit and inputs of a finished one (design 13.7); `outdated`: what is
    declared by now is another specification.

    Of a project configuration a tree has one job of each key: it goes on with what has not passed.
    """

    def work(write: Write) -> tuple[int, str, Job]:
        old = asked_for(installation, caller, "retry", write, number)
        if not old.state.finished:
            raise Conflict(
                "NotFinished", f"job {number} is still {old.state.value}; cancel it first, or wait"
            )
        if old.origin is Origin.CONFIGURATION:
            if not _go_on(write, caller, old):
                raise Conflict("Passed", f"all tasks of job {number} have passed, and its tree is no other")
            return number, old.id, old
        own_tree = old.checkout.url is None and owner_of(old.key) is None
        own = ("key", "name", "number")  # of the old job, and of no other
        new = NewJob(
            key=old.key,
            specification={k: v for k, v in old.specification.items() if k not in own},
            work_digest=old.work_digest,
            checkout=Checkout() if own_tree else old.checkout,
            trigger={"type": "retry", "of": number},
            inputs=old.inputs,
            actor=caller.subject,
            retry_of=number,
            grants=grants.all_of(write.connection, number),
        )
        made = apply.insert(write, new)
        return made, load(write, made).id, old

    made, job_id, old = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    resource = installation.snapshot.current.resources.get(old.key)
    earlier = resource is not None and outdated(old, resource)
    return {"number": made, "id": job_id, "key": old.key, "outdated": earlier}


async def try_again(installation: Installation, caller: Caller, number: int, task: str) -> tuple[Job, str]:
    """One more trial of one task, in any state of it and above `max_trials` (cider-ci 4.9); the job, and the trial."""

    def work(write: Write) -> tuple[Job, str]:
        job = asked_for(installation, caller, "retry", write, number)
        found = next((each for each in job.tasks if each.id == task), None)
        if found is None:
            raise NotFound("NoSuchTask", f"job {number} has no task {task}")
        _may_go_on(job)
        if sum(not trial.state.finished for trial in found.trials) >= _MOST_UNFINISHED:
            raise Conflict("TooMany", f"task {found.name} has {_MOST_UNFINISHED} trials that have not ended")
        trial = rows.again(write.connection, job, found, caller.subject, write.now, write.version)
        write.record("trial-asked", job.key, {"number": number, "task": found.name, "trial": trial})
        apply.advance(write, number)
        return load(write, number), trial

    made = await installation.database.write(work, caller.actor)
    installation.wake(f"job/{number}")
    installation.wake("dispatch")
    return made


def _create(write: Write, order: Order) -> tuple[int, str]:
    number = apply.create(write, order)
    return number, load(write, number).id


def load(write: Write, number: int) -> Job:
    """A job whole, inside of a write. NotFound."""
    job = rows.load(write.connection, number)
    if job is None:
        raise NotFound("NoSuchJob", f"there is no job {number}")
    return job


def asked_for(installation: Installation, caller: Caller, verb: str, write: Write, number: int) -> Job:
    """The job, if the caller may ask this of it."""
    job = load(write, number)
    require_job(installation, caller, verb, job, grants.of(write.connection, number, caller.subject))
    return job


def _build(installation: Installation, key: str) -> Resource:
    resource = installation.snapshot.current.resources.get(key)
    if resource is None:
        raise missing(key)
    if resource.kind != "Build":
        raise Refused("NotRunnable", f"{key} is a {resource.kind}; only a Build can be triggered")
    if resource.spec is None:
        raise Conflict("Invalid", f"{key} never had a good specification; see `steersman why {key}`")
    return resource


def _check_inputs(resource: Resource, given: Mapping[str, str]) -> None:
    declared = {item["id"]: item for item in (resource.spec or {}).get("inputs") or ()}
    for name, value in given.items():
        item = declared.get(name)
        if item is None and not (resource.spec or {}).get("tasks"):
            continue  # of a release: whether its plan knows it is seen when it is read
        if item is None:
            known = ", ".join(declared) or "none"
            raise Refused("UnknownInput", f"{resource.key} has no input {name!r}; its inputs: {known}")
        if "\0" in value:
            raise Refused("InvalidInput", f"input {name} holds a NUL, which no environment variable can")
        if item.get("items") and value not in [str(choice) for choice in item["items"]]:
            choices = ", ".join(str(choice) for choice in item["items"])
            raise Refused("InvalidInput", f"input {name} must be one of {choices}, not {value!r}")
    missing = [name for name, item in declared.items() if item.get("default") is None and name not in given]
    if missing:
        raise Refused("MissingInput", f"{resource.key} needs a value for {', '.join(missing)}")
