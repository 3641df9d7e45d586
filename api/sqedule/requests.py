"""What requests of this API have in common: callers, numbers in paths, pages, bodies (sqedule, 3.2, 3.4, 3.6)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from api.auth import PUBLIC, is_public
from api.paths import plain
from api.sqedule.errors import JSON, VARY, BadRequest, bad_input
from reconciler.access import Caller
from reconciler.commands.reviews import Asked as Writing
from reconciler.json_text import Unreadable, decode
from reconciler.model.rights import INSTALLATION, Level, Rights

Asked = Request[Caller, Any, Any]
LARGEST_BODY = 4 << 20
DIALECT = "sqedule"
OPEN: dict[str, Any] = {PUBLIC: DIALECT}
"""Of routes that only read: without credentials, where the operator has opened that."""

_RELEASE, _VERSION = 1 << 64, 1 << 32
_MOST, _USUAL = 1000, 100
_FARTHEST = 1 << 62
_NUMBER = re.compile(r"[0-9]+", re.ASCII)


def from_here(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: from pages of other origins nothing counts that a browser sends by itself."""
    scheme = connection.headers.get("authorization", "").partition(" ")[0].lower()
    if scheme in ("bearer", "token") or connection.scope["method"] in ("GET", "HEAD", "OPTIONS"):  # type: ignore[typeddict-item]
        return
    url: str = connection.app.state.installation.url
    own = {url} if url.startswith("https:") else {url, str(connection.base_url).rstrip("/")}
    if connection.headers.get("origin") not in (None, *own):
        raise NotAuthorizedException(
            detail="from pages of another origin, give a token: `Authorization: Bearer TOKEN`"
        )


def reader(request: Asked) -> Caller:
    """Who asks; where anybody is let in without credentials, everybody reads everything."""
    caller = request.user
    if not is_public(request):
        return caller
    return replace(caller, rights=Rights({INSTALLATION: Level.READ, **caller.rights.roles}))


def writing(request: Asked) -> Writing:
    """Who asks, and by which endpoint, for the commands."""
    return Writing(request.user, f"{request.method} {plain(request.url.path)}")


def text(request: Asked, name: str) -> str:
    """A part of the path."""
    return plain(str(request.path_params[name]))


def release_id(request: Asked) -> int:
    """The number of a release in a path."""
    return _unsigned(request, "id", _RELEASE)


def version_number(request: Asked, name: str) -> int:
    """The number of a version, or the id of a proposal, in a path."""
    return _unsigned(request, name, _VERSION)


def _unsigned(request: Asked, name: str, beyond: int) -> int:
    given = text(request, name)
    digits = given.lstrip("0")
    if not _NUMBER.fullmatch(given) or len(digits) > 20 or int(given) >= beyond:
        raise BadRequest(detail=f"Invalid parameter {name}: it is no unsigned integer below {beyond}")
    return int(given)


def page(request: Asked) -> tuple[int | None, int]:
    """How many of a list, and how many before them: limit (None: no limit) and offset."""
    query = parse_qs(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    number = _query(query, "page", 1, (1, None))
    size = _query(query, "per_page", _USUAL, (0, _MOST))
    if size == 0:
        return None, 0 if number == 1 else _FARTHEST
    return size, min((number - 1) * size, _FARTHEST)


def _query(query: dict[str, list[str]], name: str, usual: int, within: tuple[int, int | None]) -> int:
    if name not in query:
        return usual
    given = query[name][-1]
    least, most = within
    number = int(given) if _NUMBER.fullmatch(given) and len(given) <= 40 else -1
    if number < least or (most is not None and number > most):
        told = f"at least {least}" if most is None else f"from {least} to {most}"
        raise BadRequest(detail=f"Invalid parameter {name}: it is an integer, {told}")
    return number


async def body(request: Asked) -> dict[str, Any]:
    """The object that a body holds, whatever type it says it is; keys with null are as good as absent."""
    raw = await request.body()
    if not raw.strip():
        raise bad_input("the body is empty; send at least {}")
    try:
        value = decode(raw)
    except Unreadable as error:
        raise bad_input(f"the body {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_input("the body must be a JSON object")
    return {name: item for name, item in value.items() if item is not None}


def answer(content: Any, status: int = 200) -> Response[bytes]:
    """An answer of this API."""
    return Response(msgspec.json.encode(content), status_code=status, media_type=JSON, headers=VARY)
