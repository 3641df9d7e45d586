"""Who is asking: the credential forms, the token behind them, and what its scope lets through (design 9).

No token, no data, also on loopback, unless the operator runs with `insecure_no_auth`. One answer for every wrong
credential. Routes that are open say so with `opt={"open": True}`.
"""

from __future__ import annotations

import asyncio
import base64
import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection, Request
from litestar.datastructures import Cookie
from litestar.exceptions import (
    ClientException,
    NotAuthorizedException,
    PermissionDeniedException,
    TooManyRequestsException,
)
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from api.paths import CIDER, ESCAPE, PDC, SQEDULE, SRHT, below
from reconciler.access import ROOT, Caller, is_active, rights_of
from reconciler.commands import tokens as token_commands
from reconciler.credentials import PREFIX, Execution, execution_of
from reconciler.installation import Installation
from reconciler.model.rights import Rights
from reconciler.queries import tokens as token_queries
from reconciler.queries.tokens import Token

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import MovingWindowRateLimiter

Who = tuple[str | None, str | None]
"""Address and, where one is given, name."""
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="steersman"'}
_BASIC = {"WWW-Authenticate": 'Basic realm="steersman", charset="UTF-8"'}
_MISSING = "give a token: `Authorization: Bearer TOKEN`; the first one is in the data directory, admin.token"
_UNKNOWN = "this token is not known here: it was mistyped, has ended, or was revoked; ask for another, or sign in again"
_STRANGE = (
    "insecure_no_auth lets in who asks for this server as localhost, by its address or by `external_url`, and not from "
    "a page of another server"
)
_NOTE_EVERY = timedelta(minutes=1)
_LENGTH = 40
COOKIE = "X-Escape-Token"
"""A header below /api/v1, and the cookie that sign-in sets."""

PUBLIC = "public"
"""Routes that need no token where the setting `anonymous_read` has their dialect say so: `opt={PUBLIC: DIALECT}`."""

OPEN_IF = "open_if"
"""Routes that need no token for some of what they show, which a function of the path's parameters tells."""

BY_TRIAL = {"by_trial": True}
"""Routes that also take the token of a trial, in the header `trial-token`, and judge it themselves."""

AFTERWARDS = {"afterwards": True}
"""Routes that also know the token of a script that has ended, if only to say so."""

ANYBODY = "Anybody"
"""The subject of who shows no token there."""


class Authentication(AbstractAuthenticationMiddleware):
    """Finds the caller of every request but those of open routes."""

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """The caller, or 401."""
        return await _identified(connection)


async def whoever(request: Request[Any, Any, Any]) -> Caller | None:
    """The caller of a request that needs none, which the framework does not ask; None: nobody who is known."""
    try:
        found: Caller = (await _identified(request)).user
    except (NotAuthorizedException, TooManyRequestsException):
        return None
    return None if found.subject == ANYBODY else found


async def _identified(connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
    """The caller, or 401."""
    installation: Installation = connection.app.state.installation
    address = connection.client.host if connection.client else None
    of_pdc = below(connection.scope["path"], PDC)
    if installation.settings.insecure_no_auth and _is_harmless(connection, installation.url):
        return AuthenticationResult(replace(ROOT, address=address), None)
    credentials: Credentials = connection.app.state.credentials
    if of_pdc:
        return await _of_pdc(connection, credentials, installation)
    bare = "authorization" not in connection.headers and COOKIE not in connection.cookies
    stand_in = _stand_in(connection, installation) if bare else None
    if stand_in is not None:
        return AuthenticationResult(stand_in, None)
    without = "authorization" not in connection.headers and is_public(connection)
    if without or _for_trials(connection):
        return AuthenticationResult(Caller(ANYBODY, Rights(), address=address), None)
    if below(connection.scope["path"], CIDER):
        return await _of_cider(connection, credentials, installation.url)
    name, secret = _given(connection, installation.url)
    over = bool(connection.route_handler.opt.get("afterwards"))
    caller = await credentials.caller(secret, address, name, over=over) if secret else None
    if caller is None and _is_open(connection, installation):
        caller = Caller(ANYBODY, Rights(), address=address)
    if caller is None:
        if secret and below(connection.scope["path"], *SRHT) and credentials.is_shut_out(secret):
            raise PermissionDeniedException(detail="the account of this token is disabled, or gone")
        detail = _UNKNOWN if secret else _MISSING
        if installation.settings.insecure_no_auth:
            detail = _STRANGE
        raise NotAuthorizedException(detail=detail, headers=_CHALLENGE)
    return AuthenticationResult(caller, secret)


def _is_harmless(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> bool:
    """Where everybody is the administrator, may a browser have been sent by a page of somebody else?

    By that page's origin, or by a name of its own for this address: then it is nobody here.
    """
    host = connection.base_url.hostname or ""
    if host not in ("localhost", urlsplit(url).hostname) and not _is_address(host):
        return False
    reads = connection.scope.get("method") in ("GET", "HEAD", "OPTIONS")
    return (reads and not below(connection.scope["path"], PDC)) or from_here(connection, url)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def still(request: Request[Caller, Any, Any]) -> bool:
    """Would the same request have the same caller with the same rights now? Asked by what goes on for long."""
    if request.auth is None:
        return True
    caller = request.user
    found: Caller | None = await request.app.state.credentials.caller(request.auth, caller.address, None)
    return found == caller


def _given(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> tuple[str | None, str | None]:
    """(name, token) of a request, in the forms that are taken where it goes."""
    header = connection.headers.get("authorization", "")
    if below(connection.scope["path"], *SRHT):
        return None, _two_words(header)
    name, secret = credential(header)
    return name, secret or _escape_token(connection, url)


def _stand_in(connection: ASGIConnection[Any, Any, Any, Any], installation: Installation) -> Caller | None:
    """Whom a request without credentials acts as, where the operator has named somebody for its served API."""
    dialect = _dialect(connection.scope["path"])
    subject = None if dialect is None else installation.settings.anonymous_as.get(dialect)
    if subject is None or not is_active(installation, subject):
        return None
    address = connection.client.host if connection.client else None
    return Caller(subject, rights_of(installation, subject), address=address)


def _dialect(path: str) -> Literal["pdc", "sqedule"] | None:
    """The served API of a path, of those that know callers without credentials who may write."""
    if below(path, PDC):
        return "pdc"
    return "sqedule" if below(path, SQEDULE) else None


async def _of_pdc(
    connection: ASGIConnection[Any, Any, Any, Any], credentials: Credentials, installation: Installation
) -> AuthenticationResult:
    """The caller in the forms of PDC (pdc, 3.11): a token, or none; any scheme but these is as good as none.

    From pages of other origins neither cookies nor Basic credentials count, which browsers send by themselves, and
    nobody acts as somebody.
    """
    address = connection.client.host if connection.client else None
    scheme, _, rest = connection.headers.get("authorization", "").partition(" ")
    own = from_here(connection, installation.url)
    name, secret = None, None
    if scheme.lower() in ("token", "bearer") and rest == token_of_nobody(installation):
        scheme = ""
    if scheme.lower() in ("token", "bearer"):
        secret = "" if " " in rest else rest
    elif scheme.lower() == "basic" and own:
        name, secret = credential(f"Basic {rest}")
        secret = secret or ""
    elif own and not scheme:
        secret = _escape_token(connection, installation.url)
    if secret is not None:
        caller = await credentials.caller(secret, address, name) if secret else None
        if caller is None:
            raise NotAuthorizedException(detail="Invalid token.")
        return AuthenticationResult(caller, secret)
    bare = own and not scheme and COOKIE not in connection.cookies
    stand_in = _stand_in(connection, installation) if bare else None
    if stand_in is None and is_public(connection):
        stand_in = Caller(ANYBODY, Rights(), address=address)
    if stand_in is None:
        raise NotAuthorizedException(detail="Authentication credentials were not provided.")
    return AuthenticationResult(stand_in, None)


async def _of_cider(
    connection: ASGIConnection[Any, Any, Any, Any], credentials: Credentials, url: str
) -> AuthenticationResult:
    """The caller in the forms of the Cider-CI API (cider-ci, 3.4); 422 for a header that cannot be decoded.

    Browsers send cookies, and the Basic credentials that they remember, by themselves: from pages of other origins
    neither counts.
    """
    address = connection.client.host if connection.client else None
    for secret in _secrets(connection, url):
        caller = await credentials.caller(secret, address, None)
        if caller is not None:
            return AuthenticationResult(caller, secret)
    detail = "give a token: as name or password of Basic credentials, or as `Authorization: token TOKEN`"
    raise NotAuthorizedException(detail=detail, headers=_BASIC)


def _secrets(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> list[str]:
    """What may be the token of a request, the likeliest first."""
    scheme, _, rest = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return [rest.strip()] if rest.strip() else []
    own = from_here(connection, url)
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except ValueError:  # also of base64, and of text that is not ASCII
            raise ClientException(
                detail="the Authorization header cannot be decoded", status_code=422
            ) from None
        given = filter(None, (password, name))
        return sorted(given, key=lambda each: not each.startswith(PREFIX)) if own else []
    secret = _escape_token(connection, url) if own and not scheme else None
    return [secret] if secret else []


def _for_trials(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """A request that shows a trial's token to a route that judges it."""
    return "trial-token" in connection.headers and bool(connection.route_handler.opt.get("by_trial"))


def _is_open(connection: ASGIConnection[Any, Any, Any, Any], installation: Installation) -> bool:
    """Is just this shown to anybody?"""
    shows = connection.route_handler.opt.get(OPEN_IF)
    return shows is not None and bool(shows(installation, connection.path_params))


def _two_words(header: str) -> str | None:
    """The token of `token TOKEN` or `Bearer TOKEN`, exactly so (builds-srht, 2.1)."""
    scheme, *rest = header.split(" ")
    return rest[0] if scheme in ("token", "Bearer") and len(rest) == 1 and rest[0] else None


def is_public(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """A page that its served API shows to anybody, where the operator has opened that (design 9).

    Who is known reads there at least what they would read without a token.
    """
    opened = connection.app.state.installation.settings.anonymous_read
    return connection.route_handler.opt.get(PUBLIC) in opened


def _escape_token(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> str | None:
    """The token in the forms of the Escape API (escape-state, 3.3): a header there, or a cookie, everywhere.

    Browsers send cookies by themselves, so what may change things must come from a page of this very server.
    """
    if below(connection.scope["path"], ESCAPE) and COOKIE in connection.headers:
        return connection.headers[COOKIE]
    secret = connection.cookies.get(COOKIE)
    if secret and connection.scope.get("method") not in ("GET", "HEAD"):
        own = _own_origins(connection, url)
        if connection.headers.get("origin") not in own:
            raise PermissionDeniedException(detail=f"a request with a cookie must carry Origin: {url}")
    return secret


def session_cookie(installation: Installation, name: str, value: str, path: str, seconds: int) -> Cookie:
    """A cookie that no script sees and no other site's form takes along."""
    secure = installation.url.startswith("https:")
    return Cookie(name, path, value, max_age=seconds, secure=secure, httponly=True, samesite="lax")


def token_of_nobody(installation: Installation) -> str:
    """What PDC gives as a token to who may come without one: as good as none there, and of no use elsewhere."""
    return installation.keys.mac("token-of-nobody", "pdc")[:_LENGTH]


def from_here(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> bool:
    """Does it come from no page, or from one of this very server?"""
    return connection.headers.get("origin") in (None, *_own_origins(connection, url))


def _own_origins(connection: ASGIConnection[Any, Any, Any, Any], url: str) -> set[str]:
    """Of pages of this very server."""
    return {url} if url.startswith("https:") else {url, str(connection.base_url).rstrip("/")}


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
    """Callers by secret. Tokens are remembered in memory while they hold, so that a request costs no query."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.attempts = Attempts(installation.settings.wrong_credentials_per_minute)
        self._known: dict[str, Token] = {}
        self._forgotten = 0
        self._noted: dict[str, datetime] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def caller(
        self, secret: str, address: str | None, name: str | None, *, over: bool = False
    ) -> Caller | None:
        """Whoever shows this secret, with the rights of this moment; a script only while it runs, or if it may be
        `over`.
        """
        installation = self._installation
        token = await self._find(secret, (address, name))
        if token is None:
            return None
        if isinstance(token, Execution):
            live = await token_queries.is_live(installation, token)
            if not live and not over:  # of no use when its trial is over, but nobody guessed it
                return None
            return Caller(f"Job/{token.job}", Rights(), token.trial, address, job=token.job, over=not live)
        if not is_active(installation, token.subject):
            return None
        rights = rights_of(installation, token.subject).narrowed(token.level, token.scope)
        return Caller(token.subject, rights, token.id, address, most=token.level, within=token.scope)

    async def _find(self, secret: str, who: Who) -> Token | Execution | None:
        """What holds now and has this secret."""
        now = datetime.now(UTC)
        token = self._known.get(secret)
        forgotten = self._forgotten
        if token is None:
            execution = execution_of(self._installation.keys, secret)
            if execution is not None:
                return execution
            self.attempts.check(who)
            token = await token_queries.find(self._installation, secret)
        if token is None:
            self.attempts.wrong(who)
            return None
        if not token.valid(now):  # of no use any more, but nobody guessed it
            self._known.pop(secret, None)
            return None
        if forgotten == self._forgotten:  # nothing was revoked since it was looked up
            self._known[secret] = token
        self._note(token.id, now)
        return token

    def is_shut_out(self, secret: str) -> bool:
        """Is it a token that was found just now, of somebody who is disabled or gone?"""
        token = self._known.get(secret)
        return token is not None and not is_active(self._installation, token.subject)

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
        except ValueError:  # also of base64, and of text that is not ASCII
            return None, None
        return f"name {name}" if name else None, secret or None
    return None, None
