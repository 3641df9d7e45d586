"""`/cider-ci/api/`: the entry point (cider-ci, 4.1)."""

from __future__ import annotations

from importlib.metadata import version

from litestar import Response, get

from api.cider.answers import Asked, answer
from api.cider.negotiation import ROA
from api.cider.relations import FROM_ROOT, ROOT, relation
from api.cider.roa import Links
from api.paths import segments


@get(ROOT.route, media_type=ROA, summary="The entry point")
async def root(request: Asked) -> Response[bytes]:
    """Where everything is, for who follows links."""
    if not segments(request.scope["raw_path"]).endswith("/"):
        return Response(b"", status_code=302, headers={"location": ROOT.path})
    body = {"message": "Welcome to the Cider-CI API of Steersman", "version": version("steersman")}
    links = Links(ROOT.name, ROOT.path, {name: relation(endpoint) for name, endpoint in FROM_ROOT.items()})
    return answer(request, body, links)
