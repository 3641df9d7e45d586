"""Who is asking: the credential forms, the token behind them, and what its scope lets through (design 9).

No token, no data, also on loopback, unless the operator runs with `insecure_no_auth`. One answer for every wrong
credential. Routes that are open say so with `opt={"open": True}`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException, TooManyRequestsException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from reconciler.access import ROOT, Caller, is_active, rights_of
from reconciler.commands import tokens as token_commands
from reconciler.installation import Installation
from reconciler.queries import tokens as token_queries
from reconciler.queries.tokens import Token

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

Who = tuple[str | None, str | None]
"""Address and, where one is given, name."""
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="steersman"'}
_NOTE_EVERY = timedelta(minutes=1)
_ESCAPE, _ESCAPE_TOKEN = "/api/v1/", "X-Escape-Token"


class Authentication(AbstractAuthenticationMiddleware):
    """Finds the caller of every request but those of open routes."""

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """The caller, or 401."""
        installation: Installation = connection.app.state.installation
        address = connection.client.host if connection.client else None
        if installation.settings.insecure_no_auth:
            return AuthenticationResult(replace(ROOT, address=address), None)
        name, secret = credential(connection.headers.get("authorization", ""))
        secret = secret or _escape_token(connection)
        token = await connection.app.state.credentials.find(secret, (address, name)) if secret else None
        if token is None or not is_active(installation, token.subject):
            detail = "give a token: `Authorization: Bearer TOKEN`; the first one is in the data directory, admin.token"
            raise NotAuthorizedException(detail=detail, headers=_CHALLENGE)
        rights = rights_of(installation, token.subject).narrowed(token.level, token.scope)
        caller = Caller(token.subject, rights, token.id, address, most=token.level, within=token.scope)
        return AuthenticationResult(caller, token)


def _escape_token(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """The token in the forms of the Escape API (escape-state, 3.3): a header, or a cookie.

    Browsers send cookies by themselves, so what may change things must come from a page of this very server.
    """
    if not connection.scope["path"].startswith(_ESCAPE):
        return None
    secret = connection.headers.get(_ESCAPE_TOKEN)
    if secret is not None:
        return secret
    secret = connection.cookies.get(_ESCAPE_TOKEN)
    own = str(connection.base_url).rstrip("/")
    if secret and connection.scope.get("method") != "GET" and connection.headers.get("origin") != own:
        raise PermissionDeniedException(detail=f"a request with a cookie must carry Origin: {own}")
    return secret


class Attempts:
    """Wrong credentials, counted by address and by name over a minute: beyond so many nothing is looked up."""

    def __init__(self, most: int) -> None:
        self._most = most

    @cached_property
    def _limiter(self) -> MovingWindowRateLimiter:
        from limits.storage import MemoryStorage  # only who guesses costs this
        from limits.strategies import MovingWindowRateLimiter

        return MovingWindowRateLimiter(MemoryStorage())

    @cached_property
    def _limit(self) -> RateLimitItem:
        from limits import RateLimitItemPerMinute

        return RateLimitItemPerMinute(self._most)

    def check(self, who: Who) -> None:
        """429 for an address or a name that was wrong too often."""
        if "_limiter" not in self.__dict__:
            return
        for part in filter(None, who):
            if not self._limiter.test(self._limit, part):
                again = self._limiter.get_window_stats(self._limit, part).reset_time - time.time()
                headers = {"Retry-After": str(max(1, math.ceil(again)))}
                raise TooManyRequestsException(
                    detail="too many wrong credentials from here; wait a minute", headers=headers
                )

    def wrong(self, who: Who) -> None:
        """One more."""
        for part in filter(None, who):
            self._limiter.hit(self._limit, part)


class Credentials:
    """Tokens by secret, remembered in memory while they hold, so that a request costs no query."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._attempts = Attempts(installation.settings.wrong_credentials_per_minute)
        self._known: dict[str, Token] = {}
        self._forgotten = 0
        self._noted: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, secret: str, who: Who) -> Token | None:
        """The valid token with this secret."""
        now = datetime.now(UTC)
        token = self._known.get(secret)
        forgotten = self._forgotten
        if token is None:
            self._attempts.check(who)
            token = await token_queries.find(self._installation, secret)
        if token is None or not token.valid(now):
            self._known.pop(secret, None)
            self._attempts.wrong(who)
            return None
        if forgotten == self._forgotten:  # nothing was revoked since it was looked up
            self._known[secret] = token
        self._note(token.id, now)
        return token

    def forget(self) -> None:
        """After a revocation: ask the store again."""
        self._forgotten += 1
        self._known.clear()

    def _note(self, token: str, now: datetime) -> None:
        """Store the last use, once a minute at most, without making the request wait."""
        last = self._noted.get(token)
        if last is not None and now - last < _NOTE_EVERY:
            return
        self._noted[token] = now
        task = asyncio.create_task(token_commands.note_use(self._installation, token, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def credential(header: str) -> tuple[str | None, str | None]:
    """(name, token) of an Authorization header: Bearer, token or Token, or Basic with the token as password."""
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if scheme.lower() in ("bearer", "token"):
        return None, rest or None
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, None
        return f"name {name}" if name else None, secret or None
    return None, None
