"""What every answer of this API has: CORS headers, `Allow` and `Vary`; and addresses without their last slash, which
are sent to the one with it (pdc, 3.1, 3.2, 3.12). An ASGI callable around the app.

A page of another origin gives a token of its own: neither a cookie nor Basic credentials count there (`api.auth`).
"""

from __future__ import annotations

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.paths import PDC, below, segments
from api.pdc.addresses import Place, place

_CORS = {
    "access-control-allow-credentials": "true",
    "access-control-allow-headers": "authorization, content-type, accept, origin, x-requested-with, x-csrftoken, "
    "pdc-change-comment",
    "access-control-allow-methods": "DELETE, GET, OPTIONS, PATCH, POST, PUT",
    "access-control-expose-headers": "pdc-warning",
    "access-control-max-age": "86400",
}


def around(app: ASGIApp) -> ASGIApp:
    """The same app, in which this API is so."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not below(scope["path"], PDC):
            await app(scope, receive, send)
            return
        found = place(segments(scope["raw_path"]))
        send = _with_headers(send, found, Headers.from_scope(scope).get("origin"))
        if found is not None and not scope["path"].endswith("/"):
            await _redirect(scope, send)
        else:
            await app(scope, receive, send)

    return call


def _with_headers(send: Send, found: Place | None, origin: str | None) -> Send:
    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableScopeHeaders.from_message(message)
            if message["status"] == 204:
                del headers["content-type"]
            headers["vary"] = "Accept" if origin is None else "Accept, Origin"
            if found is not None:
                headers["allow"] = ", ".join(found.methods)
            if origin is not None:
                headers["access-control-allow-origin"] = origin
                for name, value in _CORS.items():
                    headers[name] = value
        await send(message)

    return added


async def _redirect(scope: Scope, send: Send) -> None:
    raw = scope["raw_path"].partition(b"?")[0] + b"/"
    if scope["query_string"]:
        raw += b"?" + scope["query_string"]
    headers = [(b"location", raw), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 301, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
