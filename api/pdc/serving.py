"""The order in which a request is judged, and who may do what (pdc, 3.7, 3.9, 3.11).

Called by every route. Credentials are `api.auth`'s, addresses without a slash `around`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from litestar import Request, Response
from litestar.exceptions import NotAuthorizedException

from api.auth import ANYBODY, is_public, whoever
from api.paths import plain
from api.pdc import negotiation, reading, writing
from api.pdc.addresses import Place, place
from api.pdc.answers import Asked, answer
from api.pdc.bodies import PARSED, body
from api.pdc.errors import NOT_FOUND, Failure, detail
from api.pdc.noun import Key, Noun
from api.pdc.query import PAGING, SHAPING, known_only, query
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.rights import INSTALLATION, Level, Rights
from reconciler.queries import products

RIGHTS = {"POST": "create", "GET": "read", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_WHOLE_LIST = PAGING | SHAPING | {"ordering"}


def may(request: Request[Any, Any, Any], caller: Caller, method: str) -> bool:
    """Has somebody the right that a method takes?"""
    if method == "GET":
        return is_public(request) or caller.rights.within(INSTALLATION) is not None
    held = caller.rights.at(INSTALLATION)
    return held is not None and held >= Level.WRITE


def admitted(
    request: Request[Any, Any, Any], found: Place | None, title: str, about: str, *, open: bool = False
) -> Asked:
    """A request that has the right, a method that there is, and a form to be answered in.

    `open`: whoever is somebody has the right.
    """
    if found is None:
        raise Failure(404, NOT_FOUND)
    caller: Caller = request.user
    if caller.subject == ANYBODY and request.method != "GET":
        raise NotAuthorizedException(detail="Authentication credentials were not provided.")
    if not open and not may(request, caller, request.method):
        right = RIGHTS.get(request.method, request.method)
        role = "a role on something" if request.method == "GET" else "the role write on the installation"
        raise detail(403, f"You do not have the right to {right} {found.name}: it takes {role}.")
    if request.method not in found.methods:
        allowed = {"Allow": ", ".join(found.methods)}
        raise detail(405, f'Method "{request.method}" not allowed.', allowed)
    form = negotiation.chosen(request.headers.get("accept"))
    if form is None:
        raise detail(406, "Could not satisfy the request Accept header.")
    read = query(request.scope["query_string"])
    return Asked(request, request.app.state.installation, caller, found, read, form, title, about)


async def serve(request: Request[Any, Any, Any], noun: Noun, ident: str | None = None) -> Response[Any]:
    """Any request to a collection, or to one of its objects."""
    if request.method == "OPTIONS":
        return await _options(request, noun, ident)
    asked = admitted(request, place(request.scope["path"]), titled(noun, ident), noun.about)
    known_only(asked.query, {*noun.filters, *_WHOLE_LIST})
    name = None if ident is None else plain(ident)
    if request.method == "GET":
        return await (reading.listed(asked, noun) if name is None else reading.one(asked, noun, name))
    if noun.writes is None:
        if name is not None:
            raise Failure(404, NOT_FOUND)
        raise detail(400, noun.instead)
    writer = await writing.writer(asked, noun, noun.writes)
    if request.method == "DELETE":
        return await (writer.remove_all(await body(request)) if name is None else writer.remove(name))
    sent = await body(request)
    if request.method == "POST":
        return await writer.create(sent)
    partial = request.method == "PATCH"
    if name is None:
        return await writer.update_all(sent, partial=partial)
    return await writer.update(name, sent, partial=partial)


async def _options(request: Request[Any, Any, Any], noun: Noun, ident: str | None) -> Response[Any]:
    """What may be done here, by whoever asks."""
    caller = await whoever(request)
    installation: Installation = request.app.state.installation
    name = None if ident is None else plain(ident)
    there = name is None or noun.find((await products.catalogue(installation)), name) is not None
    allowed = caller is not None and may(request, caller, "POST") and there and noun.writes is not None
    verbs = (("POST", "PUT") if name is None else ("PUT",)) if allowed else ()
    found = place(request.scope["path"])
    methods = found.methods if found is not None else ()
    actions = {verb: _told(noun.keys) for verb in verbs if verb in methods}
    return described(request, titled(noun, ident), noun.about, actions)


def described(
    request: Request[Any, Any, Any], title: str, about: str, actions: Mapping[str, Any] | None = None
) -> Response[Any]:
    """The answer to OPTIONS."""
    form = negotiation.chosen(request.headers.get("accept")) or negotiation.Form(negotiation.JSON)
    found = place(request.scope["path"]) or Place("", False, ())
    told: dict[str, Any] = {
        "name": title,
        "description": about,
        "renders": [negotiation.JSON, negotiation.HTML],
        "parses": list(PARSED),
    }
    if actions:
        told["actions"] = actions
    read = query(request.scope["query_string"])
    nobody, installation = Caller(ANYBODY, Rights()), request.app.state.installation
    return answer(Asked(request, installation, nobody, found, read, form, title, about), told)


def titled(noun: Noun, ident: str | None) -> str:
    """How people call it."""
    return f"{noun.title} {'List' if ident is None else 'Instance'}"


def _told(keys: Iterable[Key]) -> dict[str, dict[str, Any]]:
    found = {}
    for key in keys:
        told: dict[str, Any] = {
            "type": key.type,
            "required": key.required,
            "read_only": key.read_only,
            "label": key.name.replace("_", " ").capitalize(),
        }
        found[key.name] = told | ({"max_length": key.max_length} if key.max_length else {})
    return found
