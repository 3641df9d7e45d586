"""`/reconciler/jobs…`: lists, one job, cancel, retry, logs, attachments."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.params import Parameter
from litestar.response import File, ServerSentEvent, ServerSentEventMessage, Stream

from api.auth import Caller, needs
from reconciler.commands import jobs as commands
from reconciler.installation import Installation
from reconciler.queries import jobs, logs
from reconciler.queries.logs import Selection

Limit = Annotated[int, Parameter(ge=1, le=500)]
Offset = Annotated[int, Parameter(ge=0, le=2**62)]
Number = Annotated[int, Parameter(ge=1, le=2**62)]
_TEXT = "text/plain"  # Litestar adds the charset


@get("/reconciler/jobs", summary="Jobs, newest first")
async def job_list(
    installation: Installation,
    key: str | None = None,
    job_state: Annotated[str | None, Parameter(query="state")] = None,
    limit: Limit = 50,
    after: Annotated[int | None, Parameter(ge=0, le=2**62)] = None,
) -> dict[str, Any]:
    """`next` is the number to give as `after`."""
    return await jobs.page(installation, key=key, state=job_state, limit=limit, after=after)


@get("/reconciler/jobs/{number:int}", summary="One job with tasks, trials and scripts")
async def job(installation: Installation, number: Number) -> dict[str, Any]:
    """Whole."""
    return await jobs.get(installation, number)


@post("/reconciler/jobs/{number:int}/cancel", guards=[needs("write")], status_code=202, summary="End a job")
async def cancel(
    installation: Installation, request: Request[Caller, Any, Any], number: Number
) -> dict[str, Any]:
    """TERM, then KILL, to all that runs; 409 if it has ended."""
    return await commands.cancel(installation, number, request.user.actor)


@post(
    "/reconciler/jobs/{number:int}/retry", guards=[needs("write")], status_code=202, summary="Run a job again"
)
async def retry(
    installation: Installation, request: Request[Caller, Any, Any], number: Number
) -> dict[str, Any]:
    """A new job with the same specification, commit and inputs."""
    return await commands.retry(installation, number, request.user.actor)


@get("/reconciler/jobs/{number:int}/log", media_type=_TEXT, summary="The log so far, from a byte offset")
async def log(
    installation: Installation,
    number: Number,
    offset: Offset = 0,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> Stream:
    """One script's log; several follow each other under headings."""
    selection = Selection(task, trial, script)
    await logs.look(installation, number, selection)
    content = logs.read(installation, number, selection, offset)
    return Stream(content, media_type=_TEXT, headers={"X-Content-Type-Options": "nosniff"})


@get("/reconciler/jobs/{number:int}/log/stream", summary="The log live, as server-sent events")
async def log_stream(
    installation: Installation,
    request: Request[Caller, Any, Any],
    number: Number,
    offset: Offset = 0,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> ServerSentEvent:
    """Each message's id is the offset after it, its data `{text}`; `end` carries the state of what was selected."""
    selection = Selection(task, trial, script)
    await logs.look(installation, number, selection)
    resumed = request.headers.get("last-event-id", "")
    start = int(resumed) if resumed.isdecimal() and len(resumed) < 19 else offset
    return ServerSentEvent(_messages(installation, number, selection, start))


async def _messages(
    installation: Installation, number: int, selection: Selection, offset: int
) -> AsyncGenerator[ServerSentEventMessage, None]:
    async with aclosing(logs.follow(installation, number, selection, offset)) as live:
        async for position, chunk in live:
            text = chunk.decode("utf-8", "replace")
            yield ServerSentEventMessage(data=msgspec.json.encode({"text": text}).decode(), id=str(position))
    found = await logs.look(installation, number, selection)
    body = {"state": found.state.value, "reason": found.reason}
    yield ServerSentEventMessage(data=msgspec.json.encode(body).decode(), event="end")


@get("/reconciler/jobs/{number:int}/attachments", summary="Files that a job keeps")
async def attachment_list(installation: Installation, number: Number) -> dict[str, Any]:
    """With size and sha256."""
    items = await jobs.attachments_of(installation, number)
    return {
        "items": [
            {"path": i.path, "size": i.size, "digest": f"sha256:{i.digest}", "task": i.task, "trial": i.trial}
            for i in items
        ]
    }


@get("/reconciler/jobs/{number:int}/attachments/{path:path}", summary="One attachment's bytes")
async def attachment(
    installation: Installation, number: Number, path: str, task: str | None = None, trial: int | None = None
) -> File:
    """Always a download, never shown in place."""
    found, place = await jobs.attachment(installation, number, path.lstrip("/"), task, trial)
    return File(
        place,
        filename=Path(found.path).name,
        media_type="application/octet-stream",
        headers={"X-Content-Type-Options": "nosniff", "Digest": f"sha-256={found.digest}"},
    )
