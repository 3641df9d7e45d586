"""Who is asking: the credential forms, the token behind them, and what its scope lets through (design 9).

No token, no data, also on loopback, unless the operator runs with `insecure_no_auth`. One answer for every wrong
credential. Routes that are open say so with `opt={"open": True}`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from reconciler.access import ROOT, Caller, rights_of
from reconciler.commands import tokens as token_commands
from reconciler.installation import Installation
from reconciler.queries import tokens as token_queries
from reconciler.queries.tokens import Token

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="steersman"'}
_NOTE_EVERY = timedelta(minutes=1)


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
        secret = credential(connection.headers.get("authorization", ""))
        token = await connection.app.state.credentials.find(secret) if secret else None
        if token is None:
            detail = "give a token: `Authorization: Bearer TOKEN`; the first one is in the data directory, admin.token"
            raise NotAuthorizedException(detail=detail, headers=_CHALLENGE)
        rights = rights_of(installation, token.subject).narrowed(token.level, token.scope)
        caller = Caller(token.subject, rights, token.id, address, most=token.level, within=token.scope)
        return AuthenticationResult(caller, token)


class Credentials:
    """Tokens by secret, remembered in memory while they hold, so that a request costs no query."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._known: dict[str, Token] = {}
        self._noted: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, secret: str) -> Token | None:
        """The valid token with this secret."""
        now = datetime.now(UTC)
        token = self._known.get(secret)
        if token is None:
            token = await token_queries.find(self._installation, secret)
        if token is None or not token.valid(now):
            return None
        self._known[secret] = token
        self._note(token.id, now)
        return token

    def forget(self) -> None:
        """After a revocation: ask the store again."""
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


def credential(header: str) -> str | None:
    """The token in an Authorization header: Bearer, token or Token, or Basic with the token as password."""
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if scheme.lower() in ("bearer", "token"):
        return rest or None
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return decoded.partition(":")[2] or None
    return None
