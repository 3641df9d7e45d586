"""`/cider-ci/docs`: what every hyperlink's `api-doc` leads to. Open, as it says nothing of this installation."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from api import pages
from api.cider.relations import ALL, DOCS, FROM_ROOT, Endpoint


@get(DOCS, opt={"open": True}, media_type=pages.MEDIA_TYPE, summary="Documentation of the Cider-CI API")
async def docs() -> Response[bytes]:
    """Each endpoint with its methods, its parameters, and what it does."""
    content, headers = pages.render("cider-docs", endpoints=[_row(each) for each in _each_once()])
    return Response(content, media_type=pages.MEDIA_TYPE, headers=headers)


def _each_once() -> list[Endpoint]:
    """One for each place on the page: some are to be had at several paths."""
    return list({each.anchor: each for each in reversed(ALL)}.values())[::-1]


def _row(endpoint: Endpoint) -> dict[str, Any]:
    names = [name for name, each in FROM_ROOT.items() if each is endpoint]
    return {
        "anchor": endpoint.anchor,
        "name": endpoint.name,
        "methods": " ".join(method.upper() for method in endpoint.methods),
        "paths": [each.path for each in ALL if each.anchor == endpoint.anchor],
        "query": endpoint.query,
        "relation": names[0] if names else None,
        "told": endpoint.told.split("`"),  # every other part is code
    }
