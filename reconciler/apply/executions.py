"""What a new job is besides, where it is the run of a release: an execution, which has its turn at a deployment (9.6).

Called inside the transaction that makes the job.
"""

from __future__ import annotations

from reconciler.errors import Conflict
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.gate import NAME as GATE
from reconciler.model.job import Job, Reason
from reconciler.store import deployments, executions, holds
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob


def note(write: Write, number: int, new: NewJob) -> None:
    """Keep the execution of a job, if it is one. Conflict where its deployment is busy."""
    wanted = next((task["stages"] for task in new.specification["tasks"] if "stages" in task), None)
    if wanted is None:
        return
    kind = Type(wanted["type"])
    _, project, environment, name = new.key.split("/", 3)
    record = dict(wanted.get("record") or {})
    if kind is Type.BUILD:
        record |= {"branch": new.checkout.branch or "", "steps": [], "releases": []}
    place = project, None if environment == "_" else environment, name
    executions.add(write.connection, number, kind, place, record, wanted.get("worker"))
    if kind is Type.BUILD:
        return
    if new.held:
        return  # it has its turn when it is let go
    if not begin(write, number, new.key, kind, str(wanted.get("signature") or "")):
        holder = deployments.busy_with(write.connection, state_of.of(new.key))
        raise Conflict(
            "DeploymentBusy", f"{new.key} is busy with execution {holder}; wait, or cancel that one"
        )


def begin(write: Write, number: int, key: str, kind: Type, signature: str) -> bool:
    """An execution has its turn at its deployment; False: another one is at it."""
    where = state_of.of(key)
    if not deployments.hold(write, where, number):
        return False
    if kind in (Type.DEPLOY, Type.DESTROY):
        _attempt(write, where, number, signature if kind is Type.DEPLOY else None)
    return True


def given_up(write: Write, job: Job, reason: str | None) -> None:
    """An execution has ended while it was held; one that somebody has cancelled is not made again by itself."""
    held = holds.of_jobs(write.connection, [job.number]).get(job.number)
    holds.drop(write, [job.number])
    write.wake(GATE)  # what was asked for it is of no use any more
    if held is None or held.type != Type.DEPLOY.value or reason != Reason.CANCELLED:
        return
    where = state_of.of(job.key)
    deployments.make(write, where)
    known = deployments.deployed_of(write.connection, where)
    signature = held.subject["signature"]
    deployments.note(write, where, deployed=known | {"attempt": signature, "stopped": signature})


def _attempt(write: Write, where: deployments.Place, number: int, signature: str | None) -> None:
    """Who tries something, and what; failures of something else do not count against it."""
    known = deployments.deployed_of(write.connection, where) | {"trying": number, "stopped": None}
    if signature is None or known.get("attempt") == signature:
        deployments.note(write, where, deployed=known)
        return
    deployments.note(write, where, deployed=known | {"attempt": signature}, tried=0, again_at=None)
