"""The list of what this API has (pdc, 5.8), and new releases made like others (5.9)."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from api.pdc import query, releases
from api.pdc.addresses import METHODS, place
from api.pdc.answers import answer
from api.pdc.bodies import MISSING, body
from api.pdc.errors import NOT_FOUND, Failure, detail
from api.pdc.inputs import taken
from api.pdc.noun import taken as not_unique
from api.pdc.query import SHAPING, known_only
from api.pdc.serving import admitted
from api.pdc.writing import comment_of, waits
from reconciler.commands import products
from reconciler.commands.products import Draft, Thing

ROOT = ("Product Definition Center", "All that there is, by name.")
CLONE = ("Clone a Release", "A new release with the values of an old one, but for those that are given.")
_OLD = "old_release_id"


async def root(request: Request[Any, Any, Any]) -> Response[Any]:
    """GET."""
    asked = admitted(request, place(request.scope["path"]), *ROOT)
    known_only(asked.query, ())
    return answer(asked, {name: f"{asked.base}/{name}/" for name in sorted(METHODS)})


async def clone(request: Request[Any, Any, Any]) -> Response[Any]:
    """POST: the schedule and what deployments it holds are the old one's own."""
    asked = admitted(request, place(request.scope["path"]), *CLONE)
    known_only(asked.query, SHAPING)
    shaped = query.shape(asked.query, releases.NOUN.names)
    sent = await body(request)
    if not isinstance(sent, dict) and sent is not MISSING:
        raise detail(400, "Invalid data. Expected a dictionary.")
    changes = {} if sent is MISSING else dict(sent)
    old = changes.pop(_OLD, None)
    if not isinstance(old, str) or not old:
        raise detail(400, f"Missing {_OLD}.")

    def work(draft: Draft) -> Thing:
        found = draft.find("ProductRelease", old)
        if found is None:
            raise Failure(404, NOT_FOUND)
        given = taken(changes, releases.INPUTS, releases.NOUN.read_only, draft, whole=False)
        values = releases.current(found) | given
        if all(
            values[name] == releases.current(found)[name] for name in ("short", "version", "release_type")
        ):
            raise not_unique(f"The new release would be {old} too: give another version.")
        return releases.create(draft, values)

    written, thing, catalogue = await products.change(
        asked.installation,
        asked.caller,
        work,
        endpoint=f"{request.method} {request.url.path}",
        comment=comment_of(asked),
    )
    if not written.applied or thing.name not in catalogue.releases:
        return waits(asked, written)
    return answer(asked, shaped(releases.body(catalogue.releases[thing.name])), 201)
