"""This server as an organization, and its members signing in (sqedule, 2.10, 5.3).

There is one organization; a password is a token.
"""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from typing import Any

from litestar import Request, Response, get, patch, post

from api.sqedule import answers
from api.sqedule.errors import BadRequest, LoginFailed, bad_input
from api.sqedule.requests import OPEN, Asked, answer, body, reader, text
from reconciler.commands import reviews as commands
from reconciler.errors import Conflict, Forbidden
from reconciler.installation import Installation
from reconciler.queries import reviews, tokens

_ID, _NAME = "default", "Steersman"
_DAYS = timedelta(days=365)
_WRONG = "incorrect organization, name or password"
_OPEN: dict[str, Any] = {"open": True}


@get("/v1/about", opt=_OPEN, summary="The version of this server")
async def about() -> Response[bytes]:
    """Without credentials."""
    return answer({"version": version("steersman")})


@get("/v1/organization", opt=OPEN, summary="The caller's organization")
async def organization_get(request: Asked) -> Response[bytes]:
    """There is one."""
    reviews.require_reader(reader(request))
    return answer({"id": _ID, "display_name": _NAME})


@patch("/v1/organization", summary="Change the caller's organization")
async def organization_change(request: Asked) -> Response[bytes]:
    """Its id and name are those of this server, which nobody changes here."""
    return await _unchanged(request)


@get("/v1/organizations/{id:str}", opt=OPEN, summary="An organization")
async def one_organization(request: Asked) -> Response[bytes]:
    """The caller's own."""
    reviews.require_reader(reader(request))
    _is_ours(request)
    return answer({"id": _ID, "display_name": _NAME})


@patch("/v1/organizations/{id:str}", summary="Change an organization")
async def one_organization_change(request: Asked) -> Response[bytes]:
    """As the caller's own."""
    _is_ours(request)
    return await _unchanged(request)


@post("/v1/auth/login", opt=_OPEN, status_code=200, summary="Sign in with a token as the password")
async def login(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """The token given back is the very one."""
    try:
        data = await body(request)
        name = _member(installation, data)
    except BadRequest as error:
        raise LoginFailed(detail=error.detail) from error
    password = data.get("password")
    if not isinstance(password, str) or data.get("organization_id") != _ID or name is None:
        raise LoginFailed(detail=_WRONG)
    address = request.client.host if request.client else None
    caller = await request.app.state.credentials.caller(password, address, f"name {name}")
    if caller is None or caller.subject != name:
        raise LoginFailed(detail=_WRONG)
    return await _token(installation, request, password)


@post("/v1/auth/refresh-token", opt=_OPEN, status_code=200, summary="How long a token is good")
async def refresh(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """The token given back is the very one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    address = request.client.host if request.client else None
    known = None
    if scheme.lower() == "bearer" and secret:
        known = await request.app.state.credentials.caller(secret, address, None)
    if known is None:
        raise LoginFailed(detail="give a token: `Authorization: Bearer TOKEN`")
    return await _token(installation, request, secret)


async def _token(installation: Installation, request: Request[Any, Any, Any], secret: str) -> Response[bytes]:
    found = await tokens.find(installation, secret)
    if found is None:
        raise LoginFailed(detail=_WRONG)
    expires = found.expires or installation.now() + _DAYS
    shown = answers.shown_to(installation, request)
    return answer({"code": 200, "expire": shown.time(expires), "token": secret})


def _member(installation: Installation, data: dict[str, Any]) -> str | None:
    """The subject that a body names: a user by address or name, or a service account; None: nobody."""
    email, account = data.get("email"), data.get("service_account_name")
    if (email is None) == (account is None):
        raise bad_input("give exactly one of email, service_account_name")
    resources = installation.snapshot.current.resources
    if account is not None:
        found = [
            key
            for key, each in resources.items()
            if each.kind == "ServiceAccount"
            and isinstance(account, str)
            and each.name.lower() == account.lower()
        ]
        return found[0] if len(found) == 1 else None
    if email == "admin":
        return "User/admin"
    found = [
        key
        for key, each in resources.items()
        if each.kind == "User" and email in ((each.spec or {}).get("email"), each.name)
    ]
    return found[0] if len(found) == 1 else None


def _is_ours(request: Asked) -> None:
    if text(request, "id").lower() != _ID:
        raise Forbidden("Forbidden", "this is somebody else's organization")


async def _unchanged(request: Asked) -> Response[bytes]:
    commands.require_writer(request.user)
    data = await body(request)
    for name, value in (("id", _ID), ("display_name", _NAME)):
        if not isinstance(data.get(name, value), str):
            raise bad_input(f"{name} must be a string")
        if data.get(name, value) != value:
            raise Conflict("Fixed", f"{name} is {value}, and cannot be changed")
    return answer({"id": _ID, "display_name": _NAME})
