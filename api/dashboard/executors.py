"""`/ui/executors`: where scripts run, and what waits for a place."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from api.dashboard.shell import PAGE, page
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import executors

_MOST = 100


@get("/ui/executors", **PAGE)
async def executor_list(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """Each with its load; then the queue."""
    return page(request, "executors", found=await executors.executors(installation, caller, _MOST))
