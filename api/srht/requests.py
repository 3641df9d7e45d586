"""What requests of this API have in common: scopes, numbers in paths, bodies, pages (builds-srht, 2.2, 2.3, 2.5)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from api.srht.errors import BadRequest
from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.json_text import Unreadable, decode
from reconciler.model.rights import INSTALLATION, Level

Asked = Request[Caller, Any, Any]
LARGEST_BODY = 1 << 20
PER_PAGE = 50
READ = {"scope": "jobs:read"}
WRITE = {"scope": "jobs:write"}

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_START = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_FORM = "application/x-www-form-urlencoded"


def scopes(caller: Caller) -> frozenset[str]:
    """The scopes that a caller's token has here. Jobs are in no project, so a token that is kept to one has none."""
    if caller.within != INSTALLATION:
        return frozenset()
    both = caller.most >= Level.WRITE and not caller.running
    return frozenset({READ["scope"], WRITE["scope"]} if both else {READ["scope"]})


def scoped(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard: the token must have the scope that the route names, if it names one."""
    wanted = handler.opt.get("scope")
    if wanted is not None and wanted not in scopes(connection.user):
        raise PermissionDeniedException(detail=f"this takes a token with the scope {wanted}")


def number(text: str) -> int:
    """The number of a job in a path; NotFound for what is none."""
    if not _NUMBER.fullmatch(text):
        raise NotFound("NoSuchJob", "there is no such job")
    return int(text)


def start_of(text: str) -> int | None:
    """Where a page begins: at this number; None: at the top."""
    if not text or text == "-1":
        return None
    if not _START.fullmatch(text):
        raise BadRequest([("start", "must be an integer")])
    return int(text)


async def body(request: Asked) -> dict[str, Any]:
    """The object that a body holds. A form holds strings only."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = await request.body()
    if kind == _FORM:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    if kind != "application/json":
        raise BadRequest([(None, "send a JSON object with Content-Type: application/json")])
    try:
        value = decode(raw)
    except Unreadable as error:
        raise BadRequest([(None, f"the body {error}")]) from error
    if not isinstance(value, dict):
        raise BadRequest([(None, "the body must be a JSON object")])
    return value
