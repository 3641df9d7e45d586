"""Paths and methods that the router cannot see by itself: `%2F` inside of a segment, and HEAD (escape-state, 3.1, 3.2).

An ASGI callable around the app's own. A server hands out decoded paths, in which an encoded slash looks like any
other; here a segment keeps its `%2F` (and `%25`), and the route takes it out with `plain`. HEAD is answered as GET
without the body. Only below the prefixes of served APIs that are made so.
"""

from __future__ import annotations

import re
from typing import cast
from urllib.parse import unquote

from litestar.types import ASGIApp, Message, Receive, Scope, Send

_KEPT = re.compile(r"(%2[Ff]|%25)")


def around(app: ASGIApp, prefix: str) -> ASGIApp:
    """The same app, for which paths below `prefix` keep encoded slashes, and which answers HEAD there."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(prefix):
            seen = {**scope, "path": segments(scope["raw_path"])}
            if scope.get("method") == "HEAD":
                seen["method"] = "GET"
                send = _without_body(send)
            scope = cast("Scope", seen)  # the server looks at its own again
        await app(scope, receive, send)

    return call


def segments(raw: bytes) -> str:
    """A path decoded but for slashes and per cents inside of its segments."""
    path = raw.decode("latin-1").partition("?")[0]
    return "".join(part if _KEPT.fullmatch(part) else unquote(part) for part in _KEPT.split(path))


def plain(segment: str) -> str:
    """A segment of such a path as it was meant."""
    return _KEPT.sub(lambda found: unquote(found[0]), segment)


def _without_body(send: Send) -> Send:
    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    return headers_only
