"""`/ui/events` and `/ui/tokens`: what happened, newest first; who may come in by which token."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import Parameter

from api import problems
from api.dashboard import forms
from api.dashboard.shell import FORM, PAGE, away, page
from reconciler.access import Caller
from reconciler.commands import tokens as commands
from reconciler.commands.tokens import Wish
from reconciler.errors import Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.model.rights import LEVELS, Scope
from reconciler.queries import events
from reconciler.queries import tokens as queries

_PAGE = 100
_MOST = 200
_LONGEST_NAME = 100
_LARGEST = 1_500  # characters of an event's body that are shown


@get("/ui/events", **PAGE)
async def event_list(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    key: Annotated[str, Parameter(max_length=500)] = "",
    kind: Annotated[str, Parameter(max_length=100)] = "",
    before: Annotated[int | None, Parameter(ge=1, le=2**62)] = None,
) -> Response[bytes]:
    """Narrowed to a KEY or a kind of event."""
    found = await events.newest(installation, caller, before, _PAGE, key or None, kind or None)
    given = {"key": key, "kind": kind}
    return page(request, "events", found=found, given=given, before=before, largest=_LARGEST)


@get("/ui/tokens", **PAGE)
async def token_list(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """Those that the reader may revoke, and a form for a new one."""
    return await _shown(installation, caller, request, {}, None, None, HTTPStatus.OK)


@post("/ui/tokens", **FORM | {"status_code": 201})
async def token_create(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """A new one, whose secret this answer alone shows; refused: the form again, with what was given and why not."""
    given = await forms.read(request)
    try:
        made = await commands.create(installation, caller, _wish(given))
    except SteersmanError as error:
        code = problems.status_of(error)
        return await _shown(installation, caller, request, given, error.message, None, code)
    return await _shown(installation, caller, request, {}, None, made["token"], HTTPStatus.CREATED)


@post("/ui/tokens/{token:str}/revoke", **FORM)
async def token_revoke(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], token: str
) -> Response[bytes]:
    """It ends at once."""
    await commands.revoke(installation, caller, token)
    request.app.state.credentials.forget()
    return away("/ui/tokens")


def _wish(given: Mapping[str, str]) -> Wish:
    name, days = given.get("name", "").strip(), given.get("days", "") or "90"
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise Refused("BadForm", f"give the token a name of 1 to {_LONGEST_NAME} characters, to know it by")
    if not days.isdecimal() or len(days) > 6:
        raise Refused("BadForm", f"days is a whole number, not {days[:40]!r}")
    scope = Scope(given.get("project") or None, given.get("environment") or None)
    return Wish(name, given.get("level", "read"), int(days), given.get("subject") or None, scope)


async def _shown(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    given: Mapping[str, str],
    wrong: str | None,
    secret: str | None,
    code: int,
) -> Response[bytes]:
    found = (await queries.find_all(installation, caller))["items"]
    return page(
        request,
        "tokens",
        code=code,
        items=found[:_MOST],
        left=len(found) - _MOST,
        given=given,
        wrong=wrong,
        secret=secret,
        levels=list(LEVELS),
    )
