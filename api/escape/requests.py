"""What all requests of the Escape State Service API have in common: bodies, names, conditions (escape-state, 3.8).

Bodies are JSON objects whatever the content type says. Unknown fields are left alone; what a value of a known field
must be is the specification's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from api.escape.errors import BadRequest, Starting
from reconciler.access import Caller
from reconciler.commands.declare import Terms
from reconciler.installation import Installation
from reconciler.json_text import Unreadable, decode
from reconciler.queries import declared
from specs.meta import Key

Asked = Request[Caller, Any, Any]
LARGEST_BODY = 1 << 20
Wait = Annotated[
    str,
    Parameter(
        pattern=r"^(commit|[0-9]{1,3})$",
        description="Seconds for which the answer waits until the commit is applied, or `commit`",
    ),
]
Force = Annotated[bool, Parameter(description="Cancel executions that are active, instead of 409")]


async def started(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: nothing is known before the first revision is applied."""
    installation: Installation = connection.app.state.installation
    if not declared.started(installation):
        raise Starting(detail="The specs have not been read yet; try again in a moment.")


async def any_body(request: Asked) -> Any:
    """The JSON value of a body."""
    return decoded(await request.body())


def decoded(raw: bytes | str) -> Any:
    """JSON of a body, or of a line of it."""
    try:
        return decode(raw)
    except Unreadable as error:
        raise BadRequest("invalid-json", f"The body {error}.") from error


async def body(request: Asked, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object of a body."""
    if optional and not await request.body():
        return {}
    value = await any_body(request)
    if not isinstance(value, dict):
        raise BadRequest("invalid-json", "The body must be a JSON object.")
    return value


def new_name(data: Mapping[str, Any], fault: Callable[[str], str | None]) -> str:
    """The `name` of something to be made."""
    name = data.get("name")
    if not isinstance(name, str) or not name:
        raise wrong("name", "is required, and is a text")
    if message := fault(name):
        raise wrong("name", message)
    return name


def same_name(data: Mapping[str, Any], name: str) -> None:
    """The `name` of a body may be left out, or is the one of the path."""
    given = data.get("name")
    if given not in (None, "", name):
        raise BadRequest(
            "name-mismatch",
            f"The body names {given!r}, the path {name!r}.",
            {"name": f"is {name!r} in the path"},
        )


def flag(data: Mapping[str, Any], field: str) -> bool:
    """A boolean of a body that is no part of the specification."""
    value = data.get(field)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong(field, "must be true or false")
    return value


def text(data: Mapping[str, Any], field: str) -> str:
    """A text of a body that is no part of the specification; "" where it is absent or null."""
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(field, "must be a text")
    return value


def wrong(field: str, message: str) -> BadRequest:
    """One field is not what it should be."""
    return BadRequest("invalid-field", f"{field}: {message}", {field: message})


def kept(
    current: Mapping[str, Any], data: Mapping[str, Any], fields: Iterable[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Extension fields after a body: set, kept where it leaves them out, and cleared by null (escape-state, 3.8)."""
    found = dict(current)
    for field in fields:
        if field not in data:
            continue
        found.pop(field, None)
        value = defaults.get(field) if data[field] is None else data[field]
        if value is not None:
            found[field] = value
    return found


def terms(
    request: Asked,
    endpoint: str,
    key: Key | None,
    wait: str,
    allowed: Callable[[str], bool] | None = None,
    *,
    hard: bool = False,
) -> Terms:
    """How a write is wanted. `key`: what the If-Match header is about; `allowed`: KEYs whose role is asked for here;
    `hard`: the state of what it removes goes, too.
    """
    tag = request.headers.get("if-match")
    wanted = {} if tag is None or key is None else {str(key): tag.strip().removeprefix("W/").strip('"')}
    seconds = 0.0 if wait == "commit" else float(wait)
    return Terms(endpoint, wanted, seconds, allowed=allowed or (lambda _key: False), hard=hard)
