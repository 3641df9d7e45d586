"""How the client logs in: a helper that is none of the published endpoints (escape-state, 16).

It is told where to show a token of this server, and gets the very same one back for its profile.
"""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response, get, post
from litestar.exceptions import NotAuthorizedException

from api.auth import COOKIE, Credentials
from api.escape.requests import body, text
from reconciler.errors import NotFound
from reconciler.installation import Installation

METHODS = "/api/v1/auth/login-methods"
_LOGIN = "/api/v1/auth/login"
_KIND = "secret-token"


@get(METHODS, opt={"open": True}, summary="How the command line client may log in")
async def login_methods(installation: Installation) -> dict[str, dict[str, str]]:
    """Name → address and type. 404 where nobody needs to."""
    if installation.settings.insecure_no_auth:
        raise NotFound("NoAuthentication", "This server asks for no token.")
    method = {"url": f"{installation.url}{_LOGIN}", "type": _KIND}
    return {"service-account": method, "token": method}


@post(_LOGIN, opt={"open": True}, status_code=200, media_type=MediaType.TEXT, summary="Log in with a token")
async def login(request: Request[Any, Any, Any]) -> Response[str]:
    """`secret_token` comes back in the header X-Escape-Token if it is good, and if `username` (if given) has it."""
    data = await body(request)
    name, secret = text(data, "username"), text(data, "secret_token")
    credentials: Credentials = request.app.state.credentials
    address = request.client.host if request.client else None
    caller = await credentials.caller(secret, address, f"name {name}" if name else None) if secret else None
    if caller is None or not _is(caller.subject, name):
        raise NotAuthorizedException(detail="There is no such token.")
    return Response("", status_code=200, media_type=MediaType.TEXT, headers={COOKIE: secret})


def _is(subject: str, name: str) -> bool:
    """Is this how somebody may call themselves: `alice`, `deployer`, or `platform/deployer`?"""
    return name in ("", subject, subject.partition("/")[2], subject.rpartition("/")[2])
