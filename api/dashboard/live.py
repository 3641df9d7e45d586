"""`/ui/live`: tells a page that something stored has changed; what, it finds out by asking for itself again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from litestar import Request, get
from litestar.response import ServerSentEvent, ServerSentEventMessage

from api.auth import still
from api.live import kept_alive
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries.events import changes

_PAUSE = 0.3


@get("/ui/live", include_in_schema=False)
async def live(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> ServerSentEvent:
    """A number that grows with each change; at once the one of now."""
    return ServerSentEvent(
        kept_alive(_messages(installation), partial(still, request), request.app.state.leaving)
    )


async def _messages(installation: Installation) -> AsyncGenerator[ServerSentEventMessage, None]:
    async for version in changes(installation):
        yield ServerSentEventMessage(data=str(version), event="version")
        await asyncio.sleep(_PAUSE)
