"""The log of an execution over a WebSocket (escape-state, 12.3): what there is, then what comes, until its end.

Each client reads the log by itself, at its own pace, so a slow one slows nobody: it is told of a gap when it is far
behind what is printed, and let go when it takes nothing at all. Pings of the protocol are the server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from litestar import WebSocket
from litestar.exceptions import HTTPException, WebSocketDisconnect

from api.auth import COOKIE, Credentials, credential
from reconciler.access import ROOT, Caller
from reconciler.commands import execution_logs as commands
from reconciler.errors import NotFound, SteersmanError
from reconciler.installation import Installation
from reconciler.json_text import Unreadable, decode
from reconciler.queries import executions as queries
from reconciler.queries.log_entries import Tail

log = structlog.get_logger(__name__)
PROTOCOL = "escape.logs.v1"
BEHIND = 5_000
"""Entries that somebody may be behind of what is printed."""

_TOKEN = "escape.token."  # noqa: S105  (a prefix)
_KEPT = 1_000
_SLOW_SECONDS = 1.0
_STUCK_SECONDS = 30.0
_AGAIN_SECONDS = 15.0
_ENDED, _LEAVING, _REFUSED = 1000, 1001, 1008
_WHO, _MAY_NOT, _MISSING = 4401, 4403, 4404
_WORDS = {
    _LEAVING: "the server is stopping",
    _REFUSED: "the reader is too slow",
    _WHO: "no credential, or none that is good",
    _MAY_NOT: "this token is good for another execution",
    _MISSING: "there is no such execution",
}
Socket = WebSocket[Any, Any, Any]


async def serve(socket: Socket, installation: Installation, key: str, execution: str) -> None:
    """One client, from the handshake to the close."""
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocols=PROTOCOL if PROTOCOL in offered else None)
    secret = _secret(socket, offered)
    caller = await _caller(socket, installation, secret)
    if caller is None:
        await _close(socket, _WHO)
        return
    try:
        found = await queries.one(installation, caller, key, execution)
    except NotFound:
        await _close(socket, _MAY_NOT if caller.running else _MISSING)
        return
    first = _first(socket)
    if first is None:
        await _close(socket, _REFUSED, "from_seq must be a whole number")
        return
    tail = Tail(installation, found)
    await tail.begin(first)
    own = found.job.number if caller.job == found.job.number else None
    tasks = [
        asyncio.create_task(work)
        for work in (
            _send_all(socket, tail),
            _leaving(socket),
            _watch(socket, installation, caller, secret, own),
            _answer(socket),
        )
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _close(socket, _code([task for task in tasks if task in done]))


def _code(ended: Sequence[asyncio.Task[int]]) -> int:
    """The close code, by what ended first."""
    for task in ended:
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, WebSocketDisconnect):
            log.error("live-log-crashed", exc_info=error)
    return _LEAVING


async def _send_all(socket: Socket, tail: Tail) -> int:
    """Everything, as it comes; the close code."""
    clock = asyncio.get_running_loop().time
    await socket.send_text(_json(tail.first()))
    while (frames := await tail.news()) is not None:
        began = clock()
        try:
            async with asyncio.timeout(_STUCK_SECONDS):
                for frame in frames:
                    await socket.send_text(_json(frame))
        except TimeoutError:
            return _REFUSED
        if clock() - began > _SLOW_SECONDS and (lost := await tail.catch_up(BEHIND, _KEPT)) is not None:
            await socket.send_text(_json({"type": "gap", "from": lost[0], "to": lost[1]}))
    await socket.send_text(_json({"type": "end", "status": tail.status, "last_seq": tail.last}))
    return _ENDED


async def _leaving(socket: Socket) -> int:
    """Ends when the server does."""
    await socket.app.state.leaving.wait()
    return _LEAVING


async def _answer(socket: Socket) -> int:
    """Pings of the client's own; ends when it goes."""
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return _ENDED
        said: Any = None
        with suppress(Unreadable):
            said = decode(message.get("text") or message.get("bytes") or b"null")
        if isinstance(said, dict) and said.get("type") == "ping":
            await socket.send_text('{"type":"pong"}')


async def _watch(
    socket: Socket, installation: Installation, caller: Caller, secret: str | None, own: int | None
) -> int:
    """Ends when the credential is of no use any more; a worker's connection says that it is there."""
    while True:
        if own is not None:
            with suppress(SteersmanError):
                await commands.heard(installation, own)
        await asyncio.sleep(_AGAIN_SECONDS)
        if await _caller(socket, installation, secret) != caller and not caller.running:
            return _WHO


async def _caller(socket: Socket, installation: Installation, secret: str | None) -> Caller | None:
    if installation.settings.insecure_no_auth:
        return ROOT
    if secret is None:
        return None
    credentials: Credentials = socket.app.state.credentials
    address = socket.client.host if socket.client else None
    try:
        return await credentials.caller(secret, address, None)
    except HTTPException:  # too many wrong ones
        return None


def _secret(socket: Socket, offered: list[str]) -> str | None:
    """In whichever form it is given; a cookie only from a page of this very server."""
    for protocol in offered:
        if protocol.startswith(_TOKEN):
            return protocol.removeprefix(_TOKEN)
    if found := socket.headers.get(COOKIE) or socket.query_params.get("ticket"):
        return str(found)
    if found := credential(socket.headers.get("authorization", ""))[1]:
        return found
    origin = socket.headers.get("origin", "")
    url = str(socket.app.state.installation.url)
    here = {url} if url.startswith("https:") else {url, f"http://{socket.headers.get('host', '')}"}
    return socket.cookies.get(COOKIE) if origin in here else None


def _first(socket: Socket) -> int | None:
    given = socket.query_params.get("from_seq", "1")
    digits = given.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 9:
        return None
    return int(given) or 1


async def _close(socket: Socket, code: int, why: str = "") -> None:
    with suppress(Exception):  # it has gone
        await asyncio.wait_for(socket.close(code=code, reason=why or _WORDS.get(code, "")), _STUCK_SECONDS)


def _json(frame: dict[str, Any]) -> str:
    return msgspec.json.encode(frame).decode()
