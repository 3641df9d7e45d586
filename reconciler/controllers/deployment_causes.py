"""Why a deployment is not as it is declared, in words (design 8.4). Pure; asked by `queries.why`.

What its pass has found out (providers that are missing, back-off, drift) stands in its conditions, and is told with
those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from reconciler.controllers.why import Cause
from reconciler.model import deployment as state_of
from reconciler.model.job import Job
from reconciler.model.resource import Resource
from reconciler.model.status import Sync
from specs.deployment import is_own_package


class Waiting(Protocol):
    """An execution that is held, and what keeps it: {reason, message, where}."""

    @property
    def job(self) -> int: ...
    @property
    def causes(self) -> Sequence[Mapping[str, Any]]: ...


def causes_of_deployment(
    resource: Resource,
    state: Mapping[str, Any],
    live: Sequence[Job],
    latest: Job | None,
    held: Sequence[Waiting] = (),
) -> tuple[Cause, ...]:
    """What is at work on it or waits to be let go, how that failed, or what keeps it from beginning."""
    spec = resource.spec
    if spec is None:
        return ()
    if live:
        waits = tuple(
            Cause(cause["reason"], f"job {hold.job}: {cause['message']}", cause["where"])
            for hold in held
            for cause in hold.causes
        )
        return waits + tuple(
            Cause("AwaitsExecution", f"job {job.number} ({_task(job)}) has not ended", f"job/{job.number}")
            for job in live
            if not job.held
        )
    return (*_failed(state, latest), *_idle(resource, spec, state))


def _failed(state: Mapping[str, Any], latest: Job | None) -> Iterator[Cause]:
    code = state_of.code(state)
    if code not in state_of.ERRORS:
        return
    status = state_of.stage(state, state_of.DEPLOY)["status"]
    told = f"its status is {code}"
    if status.get("data"):
        told += f": {status['data']}"
    if latest is None:
        yield Cause("LastDeployFailed", told)
    else:
        told += f"; `steersman logs {latest.number}` shows how"
        yield Cause("LastDeployFailed", told, f"job/{latest.number}")


def _idle(resource: Resource, spec: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Cause]:
    where = resource.location
    if spec.get("disabled"):
        yield Cause("Disabled", "the deployment says `disabled: true`", where)
    elif spec.get("suspend"):
        yield Cause("Suspended", "the deployment says `suspend: true`", where)
    elif spec.get("follow") and not spec.get("version"):
        if not state_of.is_deployed(state):
            told = f"it follows {spec['follow']}, where nothing stands without failure yet"
            yield Cause("NothingWanted", told, where)
    elif not spec.get("version") and not is_own_package(spec):
        told = "it names no version, so nothing is wanted: commit one, or let a pipeline's deploy step do so"
        yield Cause("NothingWanted", told, where)
    elif spec.get("reconcile") == "manual" and resource.sync is Sync.OUT_OF_SYNC:
        told = "what is declared is not what stands, and it says `reconcile: manual`"
        yield Cause("Manual", f"{told}; `steersman trigger {resource.key}` deploys it", where)


def _task(job: Job) -> str:
    return job.tasks[0].name if job.tasks else job.state.value
