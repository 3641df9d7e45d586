"""`/reconciler/jobs/N/log…`: the log of a job as text, as a live stream, and searched.

The text is the same for all three routes, and so are its byte offsets.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import ClientException
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from api.auth import still
from api.live import kept_alive
from api.log_answers import MEDIA_TYPE, OutsideError, answer
from api.problems import problem
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import logs
from reconciler.queries.log_search import LONGEST_ANY_CASE, Query, search
from reconciler.queries.logs import Selection, Text

Number = Annotated[int, Parameter(ge=1, le=2**62)]
Offset = Annotated[int, Parameter(ge=0, le=2**62)]
Word = Annotated[str, Parameter(min_length=1, max_length=200)]
Limit = Annotated[int, Parameter(ge=1, le=500)]


@get("/reconciler/jobs/{number:int}/log", media_type=MEDIA_TYPE, summary="The log so far, from a byte offset")
async def log(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    number: Number,
    offset: Offset = 0,
    since: datetime | None = None,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> Response[Any]:
    """One script's log; several follow each other under headings.

    `since` begins with what was printed at that time, or up to a second before; `X-Log-Offset` says where that is.
    `Range` counts from there, and its total is not known while what was selected still runs.
    """
    text = await logs.now(installation, caller, number, Selection(task, trial, script))
    start = await _start(text, offset, since)
    try:
        return await answer(request, text, start, {"X-Log-Offset": str(start)})
    except OutsideError as error:
        return problem(416, "RangeNotSatisfiable", error.detail, dict(error.headers or {}))


@get("/reconciler/jobs/{number:int}/log/stream", summary="The log live, as server-sent events")
async def log_stream(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    number: Number,
    offset: Offset = 0,
    since: datetime | None = None,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> ServerSentEvent:
    """Each message's id is the offset after it, its data `{text}`; `end` carries the state of what was selected."""
    selection = Selection(task, trial, script)
    text = await logs.now(installation, caller, number, selection)
    resumed = request.headers.get("last-event-id", "")
    known = resumed.isdecimal() and len(resumed) < 19
    start = int(resumed) if known else await _start(text, offset, since)
    messages = _messages(installation, number, selection, start)
    return ServerSentEvent(kept_alive(messages, partial(still, request), request.app.state.leaving))


@get("/reconciler/jobs/{number:int}/log/search", summary="Lines of the log that have a text")
async def log_search(
    installation: Installation,
    caller: Caller,
    number: Number,
    q: Word,
    ignore_case: bool = False,
    offset: Offset = 0,
    limit: Limit = 50,
    task: str | None = None,
    trial: int | None = None,
    script: str | None = None,
) -> dict[str, Any]:
    """`line` counts in the script's log, `offset` in the job's; `next` is the number to give as `offset`.

    `q` is literal. There may be a `next` without items: one answer goes through 128 MiB at most.
    """
    if ignore_case and not q.isascii() and len(q) > LONGEST_ANY_CASE:
        longest = f"at most {LONGEST_ANY_CASE} characters"
        raise ClientException(detail=f"q: with letters beyond ASCII and without regard to case, {longest}")
    if "\n" in q or "\r" in q:
        raise ClientException(detail="q: lines are searched one by one, so it must not have a line end")
    text = await logs.now(installation, caller, number, Selection(task, trial, script))
    return await search(text, Query(q, ignore_case), offset, limit)


async def _start(text: Text, offset: int, since: datetime | None) -> int:
    """Where an answer begins; both count."""
    if since is None:
        return offset
    if since.tzinfo is None:
        raise ClientException(detail="since: give it with its zone, such as 2026-07-01T12:00:00Z")
    return max(offset, await logs.since(text, since))


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
