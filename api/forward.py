"""What only the leader may do is handed on to it, where this daemon follows (design 7.5).

An ASGI callable around the app, on PostgreSQL. Every writing request goes to the leader as it came, and its answer
comes back as it was, once this daemon shows what was written. Reads stay here. The leader learns the caller's address
from us, and believes it, since we prove that we have the server's key. Nothing is ever sent twice. On the leader the
same layer ends what it carries out when it leads no more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import structlog
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from reconciler.errors import SteersmanError, Transient
from reconciler.installation import Installation
from reconciler.queries import daemons

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)
Refuse = Callable[[Request[Any, Any, Any], Exception], Response[bytes]]
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_WRITING_READS = ("/reconciler/sign-in/callback",)
_PROOF, _VERSION = b"steersman-forwarded", b"steersman-version"
_PURPOSE = "forwarded"
_GOOD_FOR = 300.0  # seconds: clocks of machines differ
_OURS = frozenset({_PROOF, _VERSION, b"x-forwarded-for", b"x-forwarded-proto"})
_OF_ONE_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
_CONNECT, _ANSWER = 5.0, 300.0  # seconds
_IDLE = 2.0  # seconds that a connection is kept: less than the other side keeps it
_NO_LEADER = "no daemon leads at the moment, and only that one writes; one will within seconds: try again"


class _Gone(Exception):
    """The client has left before it had sent everything."""


def around(app: ASGIApp, installation: Installation, refuse: Refuse) -> ASGIApp:
    """The same app; `refuse` makes the answer of an error, as the served API of the path has it."""
    return app if installation.database.sqlite else _Forward(app, installation, refuse)


class _Forward:
    def __init__(self, app: ASGIApp, installation: Installation, refuse: Refuse) -> None:
        self._app, self._installation, self._refuse = app, installation, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        proof = _value(scope, _PROOF)
        if proof is not None:
            scope, send = self._believed(scope, proof.decode("latin-1"), send)
        if scope["method"] in _READS and scope["path"] not in _WRITING_READS:
            await self._app(scope, receive, send)
            return
        started = _Started(send)
        try:
            if self._installation.standing.leads:
                await self._installation.standing.carry(self._carried(scope, receive, started))
            elif proof is not None:  # it was sent to us by one who took us for the leader
                raise Transient("NoLeader", _NO_LEADER)
            else:
                await self._forward(scope, receive, started)
        except SteersmanError as error:
            if started.yes:
                raise
            await self._answer(scope, receive, send, error)
        except _Gone:
            log.info("client-left", path=scope["path"])

    async def _carried(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send, error: SteersmanError) -> None:
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        response = self._refuse(request, error)
        response.headers["Retry-After"] = "1"
        await response.to_asgi_response(request.app, request)(scope, receive, send)

    def _believed(self, scope: HTTPScope, proof: str, send: Send) -> tuple[HTTPScope, Send]:
        """What another daemon says of where a request comes from, if it is one; it learns what was written."""
        text, _, mark = proof.rpartition(" ")
        at, _, rest = text.partition(" ")
        address, _, scheme = rest.partition(" ")
        target = _target(scope).decode("latin-1")
        keys = self._installation.keys
        if not keys.is_mac(_PURPOSE, f"{scope['method']} {target} {text}", mark):
            return scope, send
        if not at.isdecimal() or abs(time.time() - int(at)) > _GOOD_FOR:
            log.warning("forwarded-late", by=at, note="do the clocks of the machines differ?")
            return scope, send

        async def with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                version = str(self._installation.database.version).encode()
                message = cast("Message", {**message, "headers": [*message["headers"], (_VERSION, version)]})
            await send(message)

        client = None if address == "-" else (address, 0)
        return cast("HTTPScope", {**scope, "client": client, "scheme": scheme}), with_version

    def _proof(self, scope: HTTPScope) -> bytes:
        client = scope["client"]
        text = f"{int(time.time())} {client[0] if client else '-'} {scope['scheme']}"
        target = _target(scope).decode("latin-1")
        mark = self._installation.keys.mac(_PURPOSE, f"{scope['method']} {target} {text}")
        return f"{text} {mark}".encode("latin-1")

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx  # who leads or is alone does without it

        return httpx.AsyncClient(
            timeout=httpx.Timeout(_ANSWER, connect=_CONNECT, pool=_CONNECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=_IDLE),
            follow_redirects=False,
            trust_env=False,
        )

    async def _forward(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        import httpx

        address = await daemons.leader(self._installation)
        if address is None:
            raise Transient("NoLeader", _NO_LEADER)
        headers = [(n, v) for n, v in _end_to_end(scope["headers"]) if n not in _OURS]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        request = httpx.Request(
            scope["method"],
            address,
            headers=[*headers, (_PROOF, self._proof(scope))],
            content=_body(receive) if has_body else None,
            extensions={**_timeouts(), "target": _target(scope)},
        )
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient("NoLeader", _NO_LEADER) from error
        except httpx.TransportError as error:
            raise Transient(
                "LeaderLost", "the leader went away before it answered; it may or may not have been done"
            ) from error
        try:
            await self._reach(response.headers.get(_VERSION.decode()))
            kept = [(n.lower(), v) for n, v in response.headers.raw]
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": [(n, v) for n, v in _end_to_end(kept) if n != _VERSION],
                }
            )
            async for part in response.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()

    async def _reach(self, version: str | None) -> None:
        """Who asks us next sees what was written; where the database is away meanwhile, soon."""
        if version is not None and version.isdecimal():
            with suppress(Transient):
                await daemons.reach(self._installation, int(version))


class _Started:
    """Has the answer begun?"""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.yes = False

    async def __call__(self, message: Message) -> None:
        self.yes = True
        await self._send(message)


async def _body(receive: Receive) -> AsyncGenerator[bytes, None]:
    """The client's, as it comes."""
    more = True
    while more:
        message = cast("HTTPReceiveMessage", await receive())
        if message["type"] == "http.disconnect":
            raise _Gone
        more = message["more_body"]
        if message["body"]:
            yield message["body"]


def _end_to_end(headers: Any) -> list[tuple[bytes, bytes]]:
    """Without those of one connection, which `Connection` may name more of."""
    named = {
        each.strip().lower() for name, value in headers if name == b"connection" for each in value.split(b",")
    }
    return [(name, value) for name, value in headers if name not in _OF_ONE_HOP and name not in named]


def _target(scope: HTTPScope) -> bytes:
    """Path and query as they came."""
    query = scope["query_string"]
    return scope["raw_path"].partition(b"?")[0] + (b"?" + query if query else b"")


def _value(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _timeouts() -> dict[str, Any]:
    """As a request that is built by hand needs them."""
    return {"timeout": {"connect": _CONNECT, "read": _ANSWER, "write": _ANSWER, "pool": _CONNECT}}
