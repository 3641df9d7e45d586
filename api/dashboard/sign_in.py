"""`/ui/sign-in`, `/ui/sign-out`, `/ui/scheme`: in and out of the dashboard, and its colours.

By a token of any sort, which the browser then keeps in a cookie that no script sees; or at the identity provider
(`api.native.sign_in`). Forms count only if they come from a page of this very server.
"""

from __future__ import annotations

import contextlib
import re
from http import HTTPStatus
from typing import Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import PermissionDeniedException, TooManyRequestsException

from api.auth import COOKIE, from_here, session_cookie, whoever
from api.dashboard import forms
from api.dashboard.shell import FORM, PAGE, SCHEME, away, page
from reconciler.commands import sign_in as commands
from reconciler.errors import Conflict
from reconciler.installation import Installation

_HERE = re.compile(
    r"/(?!/)[!-\[\]-~]{0,1999}"
)  # a path of this server, printable ASCII without the backslash
_YEAR = 365 * 86400


@get("/ui/sign-in", opt={"open": True}, **PAGE)
async def sign_in_page(
    installation: Installation, request: Request[Any, Any, Any], to: str = "/"
) -> Response[bytes]:
    """The form, and the way to the identity provider if there is one."""
    return _form(installation, request, to, None, HTTPStatus.OK)


@post("/ui/sign-in", opt={"open": True}, **FORM)
async def sign_in_form(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """The cookie for a token that holds; else the form again, with what is wrong."""
    _only_from_here(installation, request)
    given = await forms.read(request)
    to, secret = given.get("to", "/"), given.get("token", "").strip()
    address = request.client.host if request.client else None
    try:
        caller = await request.app.state.credentials.caller(secret, address, None) if secret else None
    except TooManyRequestsException as error:
        return _form(installation, request, to, f"Refused: {error.detail}.", HTTPStatus.TOO_MANY_REQUESTS)
    if caller is None:
        message = "This token is not, or no longer, good here. Look for spaces or a line that was cut."
        return _form(installation, request, to, message, HTTPStatus.FORBIDDEN)
    answer = away(_goal(to))
    seconds = int(installation.settings.sign_in_hours * 3600)
    answer.set_cookie(session_cookie(installation, COOKIE, secret, "/", seconds))
    return answer


@post("/ui/sign-out", opt={"open": True}, **FORM)
async def sign_out(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """The browser forgets the token, also one that is over; one that a sign-in has made ends with it."""
    _only_from_here(installation, request)
    caller = await whoever(request)
    if caller is not None:
        with contextlib.suppress(Conflict):  # the token is from elsewhere, and goes on there
            await commands.sign_out(installation, caller)
            request.app.state.credentials.forget()
    answer = away("/ui/sign-in")
    answer.set_cookie(session_cookie(installation, COOKIE, "", "/", 0))
    return answer


@post("/ui/scheme", opt={"open": True}, **FORM)
async def scheme(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Dark or light, for this browser."""
    _only_from_here(installation, request)
    given = await forms.read(request)
    chosen = given.get("scheme") if given.get("scheme") in ("dark", "light") else ""
    answer = away(_goal(given.get("to", "/")))
    answer.set_cookie(Cookie(SCHEME, "/", chosen, max_age=_YEAR if chosen else 0, samesite="lax"))
    return answer


def _form(
    installation: Installation, request: Request[Any, Any, Any], to: str, message: str | None, code: int
) -> Response[bytes]:
    provider = installation.settings.oidc is not None
    return page(request, "sign-in", code=code, to=_goal(to), message=message, provider=provider)


def _goal(to: str) -> str:
    """Nobody is sent to another server."""
    return to if _HERE.fullmatch(to) else "/"


def _only_from_here(installation: Installation, request: Request[Any, Any, Any]) -> None:
    """Routes that need no token are not asked by the authentication where they come from."""
    if "origin" not in request.headers or not from_here(request, installation.url):
        raise PermissionDeniedException(detail="this form is only taken from a page of this server")
