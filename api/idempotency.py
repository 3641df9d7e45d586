"""`Idempotency-Key` on POST: the same request under the same key is carried out once (escape-state, 3.8).

The first answer, if it is a good one, is given again for a day; what failed is tried again. A key belongs to its
caller with the token and the rights of that moment, and to one request: method, path, query and body. Requests under
one key wait for each other. A kill between the work and the note of it, or an answer of more than 16 KiB packed, is
the end of that promise: then the request is carried out again.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections import defaultdict
from typing import Any

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import ClientException
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.access import Caller
from reconciler.commands import answers
from reconciler.errors import SteersmanError
from reconciler.installation import Installation

log = structlog.get_logger(__name__)
HEADER = "Idempotency-Key"
_LONGEST = 255


class Idempotency:
    """Around every handler, within authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it, or let it be answered."""
        request: Request[Caller, Any, Any] = Request(scope, receive, send)
        key = request.headers.get(HEADER)
        if key is None or scope.get("method") != "POST" or scope.get("user") is None:
            await self._app(scope, receive, send)
            return
        if not key.isascii() or not key.isprintable() or not 0 < len(key) <= _LONGEST:
            raise ClientException(f"{HEADER} has 1 to {_LONGEST} printable ASCII characters")
        name = (request.user.subject, key)
        turns: Turns = request.app.state.turns
        turn = turns[name]
        turn.waiting += 1
        try:
            async with turn.lock:
                await self._once(key, request, send)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del turns[name]

    async def _once(self, key: str, request: Request[Caller, Any, Any], send: Send) -> None:
        installation: Installation = request.app.state.installation
        body = await request.body()
        caller = request.user
        roles = sorted((str(scope), level.word) for scope, level in caller.rights.roles.items())
        asked = [
            caller.token,
            roles,
            request.method,
            request.scope["path"],
            request.scope["query_string"].decode("latin-1"),
        ]
        digest = hashlib.sha256(msgspec.json.encode(asked) + body).hexdigest()
        found = await answers.find(installation, request.user, key, digest)
        if found is not None:
            for message in _unpacked(found):
                await send(message)
            return
        sent: list[Message] = []

        async def note(message: Message) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await self._remember(installation, request.user, (key, digest), sent)
            await send(message)

        await self._app(request.scope, _again(body, request.receive), note)

    async def _remember(
        self, installation: Installation, caller: Caller, name: tuple[str, str], sent: list[Message]
    ) -> None:
        if not 200 <= sent[0]["status"] < 300:  # type: ignore[typeddict-item]
            return
        try:
            if not await answers.remember(installation, caller, *name, _packed(sent)):
                log.info("answer-not-remembered", key=name[0])
        except SteersmanError as error:  # what was done was done, and is told
            log.warning("answer-not-remembered", key=name[0], message=error.message)


class _Turn:
    """Who has a key's turn, and how many want it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


Turns = dict[tuple[str, str], _Turn]


def no_turns() -> Turns:
    """For the whole app: its routes each have a middleware of their own."""
    return defaultdict(_Turn)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then whatever the connection says."""
    given = False

    async def call() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return call


def _packed(sent: list[Message]) -> bytes:
    start: Any = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])  # type: ignore[misc]
    return zlib.compress(msgspec.msgpack.encode((start["status"], list(start["headers"]), body)))


def _unpacked(packed: bytes) -> list[Any]:
    status, headers, body = msgspec.msgpack.decode(
        zlib.decompress(packed), type=tuple[int, list[tuple[bytes, bytes]], bytes]
    )
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return [start, {"type": "http.response.body", "body": body, "more_body": False}]
