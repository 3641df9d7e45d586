"""Paths of this API end in no slash: one that does is sent to the one that does not (sqedule, 3.1).

An ASGI callable around the app's own.
"""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from api.paths import SQEDULE, below
from api.sqedule.errors import VARY


def around(app: ASGIApp) -> ASGIApp:
    """The same app, with 301 for GET and 307 for all else below the paths of this API."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope.get("raw_path", b"").partition(b"?")[0]
        if scope["type"] != ScopeType.HTTP or not sent.endswith(b"/") or not below(scope["path"], SQEDULE):
            await app(scope, receive, send)
            return
        target = sent.rstrip(b"/")
        query = scope["query_string"]
        location = target + (b"?" + query if query else b"")
        headers = [(b"location", location), (b"content-length", b"0")]
        headers += [(name.lower().encode(), value.encode()) for name, value in VARY.items()]
        status = 301 if scope["method"] in ("GET", "HEAD") else 307
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return call
