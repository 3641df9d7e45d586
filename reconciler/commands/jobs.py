"""Jobs by hand: trigger, cancel, retry (design 14.8, 13.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from reconciler.access import Caller, missing, require, require_job
from reconciler.apply import jobs as apply
from reconciler.apply.jobs import Order
from reconciler.controllers.builds import inputs_of
from reconciler.controllers.declared_only import declared_only
from reconciler.errors import Conflict, NotFound, Refused
from reconciler.installation import Installation
from reconciler.model.job import Checkout, Job, Reason, State
from reconciler.model.resource import Resource
from reconciler.passes.builds import Repository, branch_of, mirror_of, repository_of
from reconciler.store import grants
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from specs.build import work_digest


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
    checkout = await _checkout(installation, resource, repository, branch, commit)
    work = work_digest(spec, repository.url if repository else None)
    order = Order(resource, work, checkout, {"type": "manual"}, inputs_of(spec, inputs))
    number, job_id = await installation.database.write(lambda w: _create(w, order), caller.actor)
    installation.wake("dispatch")
    installation.wake(key)
    return {"number": number, "id": job_id}


async def cancel(installation: Installation, caller: Caller, number: int) -> dict[str, Any]:
    """Ask a job to end; what runs gets TERM, then KILL. One that has ended stays as it is."""

    def work(write: Write) -> Job:
        job = asked_for(installation, caller, "cancel", write, number)
        if apply.cancel(write, job, Reason.CANCELLED):
            write.record("job-cancelled", job.key, {"number": number})
        elif job.state.finished:
            raise Conflict("Finished", f"job {number} has {job.state.value} already")
        return job

    job = await installation.database.write(work, caller.actor)
    installation.wake(f"job/{number}")
    return {"number": number, "id": job.id}


async def cancel_all(installation: Installation, caller: Caller, numbers: Iterable[int]) -> None:
    """Ask jobs to end; those that have ended meanwhile stay as they are."""
    for number in numbers:
        with suppress(Conflict, NotFound):
            await cancel(installation, caller, number)


async def retry(installation: Installation, caller: Caller, number: int) -> dict[str, Any]:
    """A new job with the specification, commit and inputs of a finished one (design 13.7)."""

    def work(write: Write) -> tuple[int, str]:
        old = asked_for(installation, caller, "retry", write, number)
        if not old.state.finished:
            raise Conflict(
                "NotFinished", f"job {number} is still {old.state.value}; cancel it first, or wait"
            )
        own = ("key", "name", "number")  # of the old job, and of no other
        new = NewJob(
            key=old.key,
            specification={k: v for k, v in old.specification.items() if k not in own},
            work_digest=old.work_digest,
            checkout=old.checkout,
            trigger={"type": "retry", "of": number},
            inputs=old.inputs,
            actor=caller.subject,
            retry_of=number,
            grants=grants.all_of(write.connection, number),
        )
        made = apply.insert(write, new)
        return made, load(write, made).id

    made, job_id = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    return {"number": made, "id": job_id}


async def try_again(installation: Installation, caller: Caller, number: int, task: str) -> tuple[Job, str]:
    """One more trial of one task, in any state of it and above `max_trials` (cider-ci 4.9); the job, and the trial."""

    def work(write: Write) -> tuple[Job, str]:
        job = asked_for(installation, caller, "retry", write, number)
        found = next((each for each in job.tasks if each.id == task), None)
        if found is None:
            raise NotFound("NoSuchTask", f"job {number} has no task {task}")
        if job.state is State.ABORTING:
            raise Conflict("Aborting", f"job {number} is being ended; try again when it has")
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
    if not resource.spec.get("tasks"):
        raise Conflict("NotCarriedOut", declared_only(resource.kind, resource.spec) or f"{key} has no tasks")
    return resource


def _check_inputs(resource: Resource, given: Mapping[str, str]) -> None:
    declared = {item["id"]: item for item in (resource.spec or {}).get("inputs") or ()}
    for name, value in given.items():
        item = declared.get(name)
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


async def _checkout(
    installation: Installation,
    resource: Resource,
    repository: Repository | None,
    branch: str | None,
    commit: str | None,
) -> Checkout:
    if repository is None:
        if branch or commit:
            raise Refused("NoRepository", f"{resource.key} has no repo, so branch and commit mean nothing")
        return Checkout()
    age = 0 if commit is None else 5
    mirror = await mirror_of(installation, repository.url, age, repository.secret)
    if commit is not None:
        found = await mirror.resolve(commit)
        if found is None:
            raise Refused("CommitGone", f"{repository.url} has no commit {commit}")
        return Checkout(repository.url, found, await mirror.tree_of(found), branch, secret=repository.secret)
    name = branch or branch_of(resource.spec or {}, repository) or await mirror.default_branch()
    head = await mirror.head(name) if name else None
    if head is None:
        raise Refused(
            "BranchMissing",
            f"{repository.url} has no branch {name}" if name else f"{repository.url} is empty",
        )
    return Checkout(repository.url, head, await mirror.tree_of(head), name, secret=repository.secret)
