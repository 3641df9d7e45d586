"""`/reconciler/jobs…`: lists, one job, cancel, retry, attachments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from litestar import get, post
from litestar.params import Parameter
from litestar.response import File

from api.native.filters import one_of
from api.unchanged import STEADY
from reconciler.access import Caller
from reconciler.commands import jobs as commands
from reconciler.installation import Installation
from reconciler.model.job import Of, State
from reconciler.queries import jobs

Limit = Annotated[int, Parameter(ge=1, le=500)]
Number = Annotated[int, Parameter(ge=1, le=2**62)]


@get("/reconciler/jobs", opt=STEADY, summary="Jobs, newest first")
async def job_list(
    installation: Installation,
    caller: Caller,
    key: str | None = None,
    job_state: Annotated[str | None, Parameter(query="state")] = None,
    limit: Limit = 50,
    after: Annotated[int | None, Parameter(ge=0, le=2**62)] = None,
    project: str | None = None,
    branch: str | None = None,
) -> dict[str, Any]:
    """Narrowed by any of the filters, `state` to several too: `failed,defective`; `next` is the number for `after`."""
    for word in () if job_state is None else job_state.split(","):
        one_of("state of a job", word, State)
    of = Of(project, branch)
    return await jobs.page(installation, caller, key=key, state=job_state, limit=limit, after=after, of=of)


@get("/reconciler/jobs/{number:int}", summary="One job with tasks, trials and scripts")
async def job(installation: Installation, caller: Caller, number: Number) -> dict[str, Any]:
    """Whole."""
    return await jobs.get(installation, caller, number)


@post("/reconciler/jobs/{number:int}/cancel", status_code=202, summary="End a job")
async def cancel(installation: Installation, caller: Caller, number: Number) -> dict[str, Any]:
    """TERM, then KILL, to all that runs; 409 if it has ended."""
    return await commands.cancel(installation, caller, number)


@post("/reconciler/jobs/{number:int}/retry", status_code=202, summary="Run a job again")
async def retry(installation: Installation, caller: Caller, number: Number) -> dict[str, Any]:
    """A new job with the same specification, commit and inputs; `outdated` where its KEY says something else by now."""
    return await commands.retry(installation, caller, number)


@get("/reconciler/jobs/{number:int}/attachments", summary="Files that a job keeps")
async def attachment_list(installation: Installation, caller: Caller, number: Number) -> dict[str, Any]:
    """With size and sha256."""
    items = await jobs.attachments_of(installation, caller, number)
    return {
        "items": [
            {"path": i.path, "size": i.size, "digest": f"sha256:{i.digest}", "task": i.task, "trial": i.trial}
            for i in items
        ]
    }


@get("/reconciler/jobs/{number:int}/attachments/{path:path}", summary="One attachment's bytes")
async def attachment(
    installation: Installation,
    caller: Caller,
    number: Number,
    path: str,
    task: str | None = None,
    trial: int | None = None,
) -> File:
    """Always a download, never shown in place."""
    found, place = await jobs.attachment(installation, caller, number, path.lstrip("/"), task, trial)
    return File(
        place,
        filename=Path(found.path).name,
        media_type="application/octet-stream",
        headers={"X-Content-Type-Options": "nosniff", "Digest": f"sha-256={found.digest}"},
    )
