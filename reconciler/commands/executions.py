"""Executions by hand: Builds run, Deployments deployed, tested, destroyed, their errands run (design 13.7).

As with all doors, the caller's rights are asked for first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.access import Caller, missing, require
from reconciler.commands import jobs
from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.model.execution import Execution, Type
from reconciler.model.resource import Resource
from reconciler.passes.executions import Asked as Asked
from reconciler.passes.executions import Made as Made
from reconciler.passes.executions import Prepared, make, prepare_build, prepare_deployment
from reconciler.store import executions
from reconciler.store.database import Write


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """How a Build is to be run; all of it may be left out. `steps`: only these, by index; `trigger`: more about why."""

    branch: str | None = None
    commit: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[int] | None = None
    only_changed: bool = False
    trigger: Mapping[str, Any] = field(default_factory=dict)


async def trigger_build(
    installation: Installation, caller: Caller, key: str, order: BuildOrder | None = None
) -> Made:
    """Run a Build now. Conflict (Disabled, SpecInvalid), NotFound, Refused."""
    require(installation, caller, "trigger", key)
    order = order or BuildOrder()
    resource = _good(installation, key)
    prepared = await prepare_build(
        installation,
        resource,
        branch=order.branch,
        commit=order.commit,
        variables=order.variables,
        steps=None if order.steps is None else list(order.steps),
        only_changed=order.only_changed,
    )
    return await _made(installation, caller, prepared, order.trigger)


async def trigger_deployment(
    installation: Installation,
    caller: Caller,
    key: str,
    type_: Type,
    asked: Asked | None = None,
    trigger: Mapping[str, Any] | None = None,
    *,
    last_good: bool = False,
) -> Made:
    """Do something to a Deployment now; `last_good`: also to one whose newest specification is invalid.

    Conflict (Disabled, DeploymentBusy, NotDeployed, InUse, SpecInvalid), NotFound, Refused.
    """
    require(installation, caller, "trigger", key)
    resource = _good(installation, key, last_good=last_good)
    prepared = await prepare_deployment(installation, resource, type_, asked or Asked())
    return await _made(installation, caller, prepared, trigger or {})


async def cancel(installation: Installation, caller: Caller, number: int, why: str = "") -> None:
    """Ask an execution to end; asking twice is no fault. Conflict (Finished)."""
    await jobs.cancel(installation, caller, number, why)


async def retry(installation: Installation, caller: Caller, number: int, *, head: bool = False) -> Made:
    """A new execution of the same commit, version and inputs; `head`: of the newest commit. Conflict, NotFound."""
    found = await installation.database.read(lambda c: executions.load(c, number))
    resource = None if found is None else installation.snapshot.current.resources.get(found.job.key)
    if resource is not None and (resource.spec or {}).get("disabled"):
        raise Conflict("Disabled", f"{resource.key} says `disabled: true` at {resource.location}")
    if found is not None and head and found.type is Type.BUILD and found.job.state.finished:
        order = BuildOrder(
            branch=found.job.checkout.branch,
            variables=found.job.inputs,
            trigger={"type": "retry", "of": number},
        )
        return await trigger_build(installation, caller, found.job.key, order)
    made = await jobs.retry(installation, caller, number)
    return Made(made["number"], made["id"])


def cancel_requested(execution: Execution) -> bool:
    """Was it asked to end?"""
    return execution.job.aborted_by is not None


async def _made(
    installation: Installation, caller: Caller, prepared: Prepared, trigger: Mapping[str, Any]
) -> Made:
    whole = {"type": "manual", "user": caller.subject.rpartition("/")[2]} | dict(trigger)

    def work(write: Write) -> Made:
        return make(write, prepared, whole, caller.subject)

    made: Made = await installation.database.write(work, caller.actor)
    installation.wake("dispatch")
    installation.wake(prepared.resource.key)
    return made


def _good(installation: Installation, key: str, *, last_good: bool = False) -> Resource:
    """A resource whose specification in Git is good, or once was. Conflict, NotFound."""
    resource = installation.snapshot.current.resources.get(key)
    if resource is None:
        raise missing(key)
    if resource.spec is None or (resource.invalid and not last_good):
        raise Conflict("SpecInvalid", f"{key} is not valid at {resource.location}; see `steersman why {key}`")
    return resource
