"""`/reconciler/events`, live and as pages; tokens; the audit of the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.params import Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from api.auth import still
from api.live import kept_alive
from api.native.bodies import TokenBody
from reconciler.access import Caller
from reconciler.commands import tokens
from reconciler.commands.tokens import Wish
from reconciler.installation import Installation
from reconciler.model.rights import Scope
from reconciler.queries import events
from reconciler.queries import tokens as token_queries

Limit = Annotated[int, Parameter(ge=1, le=1000)]
After = Annotated[int, Parameter(ge=0, le=2**62)]


@get("/reconciler/events", summary="The event log, oldest first")
async def event_list(
    installation: Installation,
    caller: Caller,
    after: After = 0,
    limit: Limit = 100,
    key: str | None = None,
    kind: str | None = None,
    newest: bool = False,
) -> dict[str, Any]:
    """`next` is the number to give as `after`; `newest`: the last ones that there are, without a `next`."""
    if newest:
        last = await events.newest(installation, caller, None, limit, key, kind)
        return {"items": last["items"][::-1], "next": None}
    return await events.page(installation, caller, after, limit, key, kind)


@get("/reconciler/events/stream", summary="The event log live, as server-sent events")
async def event_stream(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], after: After = 0
) -> ServerSentEvent:
    """Each message's id is the event's number."""
    resumed = request.headers.get("last-event-id", "")
    start = int(resumed) if resumed.isdecimal() and len(resumed) < 19 else after
    return ServerSentEvent(
        kept_alive(_messages(installation, caller, start), partial(still, request), request.app.state.leaving)
    )


async def _messages(
    installation: Installation, caller: Caller, after: int
) -> AsyncGenerator[ServerSentEventMessage, None]:
    async for event in events.follow(installation, caller, after):
        yield ServerSentEventMessage(
            data=msgspec.json.encode(event).decode(), id=str(event["seq"]), event=event["kind"]
        )


@get("/reconciler/audit", summary="Check the hash chain of the event log")
async def audit(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Names the first record that was changed, if any."""
    return await events.verify(installation, caller)


@get("/reconciler/tokens", summary="Tokens, without their secrets")
async def token_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Newest first."""
    return await token_queries.find_all(installation, caller)


@post("/reconciler/tokens", summary="A new token; its secret is shown once")
async def token_create(installation: Installation, caller: Caller, data: TokenBody) -> dict[str, Any]:
    """Good for its subject's rights, up to a level (`read`, `write`, `owner`) and inside of a project or environment.

    People make their own; administrators anybody's, members of a team those of its service accounts.
    """
    wish = Wish(data.name, data.level, data.days, data.subject, Scope(data.project, data.environment))
    return await tokens.create(installation, caller, wish)


@delete("/reconciler/tokens/{token:str}", summary="Revoke a token")
async def token_revoke(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], token: str
) -> None:
    """It ends at once."""
    await tokens.revoke(installation, caller, token)
    request.app.state.credentials.forget()
