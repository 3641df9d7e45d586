"""Executions on the wire (escape-state, 7.3, 7.6, 19): runs of builds and of deployment jobs, one and in pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Response
from litestar.params import Parameter

from api.escape.errors import BadRequest
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.execution import Execution, from_ulid, status, status_reason, ulid
from reconciler.queries import executions as queries
from reconciler.queries import log_entries
from reconciler.queries.executions import Listing
from specs.meta import Key, parse_key

PAGE = 50
PageSize = Annotated[str | None, Parameter(description=f"How many at most; {queries.MOST} are")]
PageFrom = Annotated[str | None, Parameter(description="Only executions with a lower id")]
_ENDS = frozenset({"ok", "failed", "skipped"})
_BY_HAND = ("manual", "retry")


async def pages(
    installation: Installation, caller: Caller, listing: Listing, size: str | None, page_from: str | None
) -> Response[list[dict[str, Any]]]:
    """A page of executions; the header says where the next one begins."""
    wanted = Listing(
        listing.kind,
        listing.project,
        listing.environment,
        listing.name,
        listing.status,
        _before(page_from),
        _size(size),
    )
    found, following = await queries.page(installation, caller, wanted)
    headers = {} if following is None else {"X-Next-Page-From": ulid(following)}
    return Response(await shown(installation, found), headers=headers)


async def shown(installation: Installation, found: Sequence[Execution]) -> list[dict[str, Any]]:
    """As they are answered."""
    last = await log_entries.last_numbers(installation, found)
    retried = await queries.ids(installation, found)
    return [_one(installation, each, last.get(each.job.number, 0), retried) for each in found]


def _one(
    installation: Installation, execution: Execution, log_seq: int, retried: Mapping[int, str]
) -> dict[str, Any]:
    job, record = execution.job, execution.record
    key = parse_key(job.key)
    resource = installation.snapshot.current.resources.get(job.key)
    about = {
        "id": resource.uuid if resource else "",
        "name": key.name,
        "project": key.project,
        "environment": key.environment,
    }
    head = {"id": ulid(job.id)}
    own = _build(about, execution) if key.kind == "Build" else _deployment(about, execution)
    common = {
        "status": status(job.state),
        "status_reason": status_reason(job),
        "cancel_requested": job.aborted_by is not None,
        "trigger": _trigger(execution, retried),
        "worker": execution.worker or _worker(execution),
        "log_seq": log_seq,
        "created_at": time(job.created_at),
    }
    times = {"started_at": job.started_at, "finished_at": job.finished_at}
    whole = head | own | common | {name: time(at) for name, at in times.items() if at is not None}
    if record.get("outputs"):
        whole["outputs"] = record["outputs"]
    return whole


def _build(about: dict[str, Any], execution: Execution) -> dict[str, Any]:
    job, record = execution.job, execution.record
    return {
        "build": about,
        "branch": record.get("branch") or job.checkout.branch or "",
        "commit": record.get("commit") or None,
        "steps": [
            {**step, "stages": _over(step.get("stages"))} if "stages" in step else step
            for step in record.get("steps") or ()
        ],
        "releases": list(record.get("releases") or ()),
    }


def _deployment(about: dict[str, Any], execution: Execution) -> dict[str, Any]:
    record = execution.record
    release, version = str(record.get("release") or ""), str(record.get("version") or "")
    snapshot = {"release": release, "version": version} | {
        name: value for name, value in (record.get("declared") or {}).items() if value is not None
    }
    return {
        "type": execution.type.value,
        "errand_name": str(record.get("errand_name") or ""),
        "errand_inputs": dict(record.get("errand_inputs") or {}),
        "deployment_job": about | snapshot | {"status": status(execution.job.state)},
        "release": release,
        "version": version,
        "stages": _over(record.get("stages")),
        "outputs": {},
    }


def _over(stages: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Those that have come to an end: no word of 7.3 is for a stage that is still at it, only for its step."""
    return [stage for stage in stages or () if stage["status"] in _ENDS]


def _trigger(execution: Execution, retried: Mapping[int, str]) -> dict[str, Any]:
    """Why it exists."""
    job = execution.job
    given = job.trigger
    kind = str(given.get("type") or "manual")
    run = str(given.get("pipeline") or "")
    before = retried.get(job.retry_of) if job.retry_of is not None else None
    by = job.actor.rpartition("/")[2] if kind in _BY_HAND else ""
    return {
        "type": kind,
        "user": str(given.get("user") or by),
        "pipeline_execution_id": _as_ulid(run),
        "retry_of": ulid(before) if before else "",
        "payload_digest": str(given.get("payload_digest") or ""),
        **({"reason": given["reason"]} if given.get("reason") else {}),
    }


def _as_ulid(text: str) -> str:
    """The id of a run, in whichever of its forms."""
    try:
        return ulid(str(UUID(text)))
    except ValueError:
        return text


def _worker(execution: Execution) -> str:
    """The executor that it has been given to."""
    found = [
        trial.executor for task in execution.job.tasks for trial in task.trials if trial.executor is not None
    ]
    return found[-1].partition("/")[2] if found else ""


def time(at: datetime) -> str:
    """A moment as answers have it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def key_of(kind: str, project: str, environment: str, name: str) -> str:
    """The KEY that a path means."""
    return str(Key(kind, project, environment, name))


def _size(given: str | None) -> int:
    if given is None:
        return PAGE
    if not given.isascii() or not given.isdecimal() or not given.strip("0"):
        raise _page("page_size", "must be a whole number from 1 on")
    return queries.MOST if len(given.lstrip("0")) > 9 else min(int(given), queries.MOST)


def _before(given: str | None) -> str | None:
    if given is None:
        return None
    found = from_ulid(given)
    if found is None:
        raise _page("page_from", "must be the id of an execution")
    return found


def _page(field: str, told: str) -> BadRequest:
    return BadRequest("invalid-page", f"{field}: {told}", {field: told})
