"""Answers that are given again for a moment, while nothing that is stored has changed (design 15, "Caches").

An ASGI callable around the app. Routes whose answer follows from what is stored, and from the request's own header
fields, say so with `opt=STEADY`; many who ask for the same page then cost little more than sending it. Every change is
a new version of the store, also a revoked token or a lost role; what only time does (a token expires) is at most
`_SECONDS` late. It knows no route and no credential.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
)

from api.paths import asked_for_head

STEADY = {"steady": True}
"""In the `opt` of a route."""

_SECONDS = 0.5
_MOST = 256
_LARGEST = 256 * 1024
_TOLD_APART = (b"authorization", b"accept", b"accept-encoding", b"origin", b"host")
_MATTERLESS = frozenset({*_TOLD_APART, b"user-agent", b"connection", b"accept-language", b"cache-control"})
_Key = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer whole, the version that it was made from, and when, by the monotonic clock."""

    version: int
    at: float
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    async def send(self, send: Send) -> None:
        """Once more."""
        await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class _Heard:
    """What goes by of an answer, if it is a good one in one piece."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.headers: tuple[tuple[bytes, bytes], ...] | None = None
        self.body: bytes | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.headers = tuple(message["headers"]) if message["status"] == 200 else None
        elif message["type"] == "http.response.body":
            whole = self.body is None and not message["more_body"]
            self.body = message["body"] if whole else b""
            self.headers = self.headers if whole else None
        await self._send(message)


class _Answers:
    """Those that are kept, those given last at the end, and those that are being made, with their versions."""

    def __init__(self, app: ASGIApp, version: Callable[[], int]) -> None:
        self._app, self._version = app, version
        self._known: OrderedDict[_Key, _Answer] = OrderedDict()
        self._making: dict[_Key, tuple[int, asyncio.Event]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        version, making = self._version(), self._making.get(key)
        if making is not None and making[0] == version and self._fresh(key, version) is None:
            await making[1].wait()  # somebody asks for the same at this very moment
        found = self._fresh(key, self._version())
        if found is not None:
            await found.send(send)
            return
        await self._make(key, scope, receive, send)

    def _fresh(self, key: _Key, version: int) -> _Answer | None:
        found = self._known.get(key)
        fits = found is not None and found.version == version and time.monotonic() - found.at < _SECONDS
        return found if fits else None

    async def _make(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        version, at, heard = self._version(), time.monotonic(), _Heard(send)
        steady = key in self._known  # of others nobody waits: they may stream
        made = asyncio.Event()
        if steady:
            self._making[key] = version, made
        try:
            await self._app(scope, receive, heard)
            if _is_steady(scope) and heard.headers is not None and len(heard.body or b"") <= _LARGEST:
                self._keep(key, _Answer(version, at, heard.headers, heard.body or b""))
        finally:
            made.set()
            if self._making.get(key) == (version, made):
                del self._making[key]

    def _keep(self, key: _Key, answer: _Answer) -> None:
        self._known[key] = answer
        self._known.move_to_end(key)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def around(app: ASGIApp, version: Callable[[], int]) -> ASGIApp:
    """The same app; `version` is that of what is stored now."""
    return _Answers(app, version)


def _key(scope: Scope) -> _Key | None:
    """All that such an answer may depend on; None: it may depend on more, or is no GET."""
    if scope["type"] != ScopeType.HTTP or scope["method"] != "GET" or asked_for_head(scope):
        return None
    given: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name not in _MATTERLESS or name in given:
            return None
        given[name] = value
    return scope["raw_path"], scope["query_string"], *(given.get(name, b"") for name in _TOLD_APART)


def _is_steady(scope: Scope) -> bool:
    handler = scope.get("route_handler")
    return handler is not None and bool(handler.opt.get("steady"))
