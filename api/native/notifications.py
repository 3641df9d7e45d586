"""`/reconciler/notifications`: who is told of what happens, and how that goes (own-kinds, Notification)."""

from __future__ import annotations

from typing import Any

from litestar import get, post

from reconciler.access import Caller
from reconciler.commands import notifications as commands
from reconciler.installation import Installation
from reconciler.queries import notifications as queries


@get("/reconciler/notifications", summary="Receivers of Notifications, and what waits for them")
async def notification_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Those that fail first."""
    return {"items": await queries.receivers(installation, caller)}


@post("/reconciler/notifications/test/{key:path}", status_code=200, summary="Send a test notice")
async def notification_test(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """To each receiver of a Notification, at once; whether it was taken is told of each."""
    return await commands.send_test(installation, caller, key.lstrip("/"))
