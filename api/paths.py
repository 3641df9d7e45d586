"""Whose paths are whose, and what the router cannot see by itself: `%2F` inside of a segment, and HEAD (escape-state,
3.1, 3.2; builds-srht, 2.3; cider-ci, 4.17).

An ASGI callable around the app's own. A server hands out decoded paths, in which an encoded slash looks like any
other; here a segment keeps its `%2F` (and `%25`), and the route takes it out with `plain`. HEAD is answered as GET
without the body, and `asked_for_head` tells whom it would cost much. Only on paths of served APIs that are made so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import unquote

from litestar import Router
from litestar.handlers import WebsocketRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Guard, Message, Receive, Scope, Send

UI = "/ui"
ESCAPE = "/api/v1"
CIDER = "/cider-ci"
SRHT = ("/api/jobs", "/api/job-group", "/logs")
PDC = "/rest_api"
SQEDULE = "/v1"

_HEAD = "asked_for_head"
_KEPT = re.compile(r"(%2[Ff]|%25)")


def below(path: str, *roots: str) -> bool:
    """Is it one of these paths, or inside of one?"""
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def around(app: ASGIApp, owned: Callable[[str], bool]) -> ASGIApp:
    """The same app, in which `owned` paths keep encoded slashes, and which answers HEAD there, and for pages."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        page = below(scope["path"], UI)
        if page or owned(scope["path"]):
            seen = {**scope} if page else {**scope, "path": segments(scope["raw_path"])}
            if scope.get("method") == "HEAD":
                seen |= {"method": "GET", _HEAD: True}
                send = _without_body(send)
            scope = cast("Scope", seen)  # the server looks at its own again
        await app(scope, receive, send)

    return call


def asked_for_head(scope: Mapping[str, Any] | Scope) -> bool:
    """Was this GET a HEAD? Then its body goes nowhere."""
    return _HEAD in scope


def routes_of(
    handlers: list[Any], declared: Mapping[int, ResponseSpec], guard: Guard, largest_body: int, tag: str
) -> Router:
    """The routes of one served API, with its errors in the OpenAPI document, under a heading of their own."""
    for handler in handlers:
        if not isinstance(handler, WebsocketRouteHandler):
            handler.responses = {**declared, **(handler.responses or {})}
    router = Router(
        path="/", route_handlers=handlers, guards=[guard], request_max_body_size=largest_body, tags=[tag]
    )
    _tell_all_methods(router)
    return router


def _tell_all_methods(router: Router) -> None:
    """Let OPTIONS name every method of a path: it knows those that there were when it was made."""
    for place, route in enumerate(router.routes):
        if isinstance(route, HTTPRoute):
            own = [each for each in route.route_handlers if "OPTIONS" not in each.http_methods]
            router.routes[place] = HTTPRoute(path=route.path, route_handlers=own)


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
