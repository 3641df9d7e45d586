"""Headers that let pages of other origins read answers of this API (cider-ci, 3.6): an ASGI callable around the app.

Such a page gives a token of its own: neither a cookie nor what a browser remembers of Basic counts there (`api.auth`).
"""

from __future__ import annotations

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.paths import CIDER, below

_ALWAYS = {
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "Content-Type, Accept, Authorization",
    "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
}


def around(app: ASGIApp) -> ASGIApp:
    """The same app, in which answers below the paths of this API carry these headers."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and below(scope["path"], CIDER):
            send = _with_headers(send, Headers.from_scope(scope).get("origin"))
        await app(scope, receive, send)

    return call


def _with_headers(send: Send, origin: str | None) -> Send:
    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableScopeHeaders.from_message(message)
            headers.add("access-control-allow-origin", origin or "*")
            for name, value in _ALWAYS.items():
                headers.add(name, value)
            headers.add("vary", "Origin")
        await send(message)

    return added
