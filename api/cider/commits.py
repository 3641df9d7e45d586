"""`/cider-ci/api/commits…`: where who wants to know the id of a tree begins (cider-ci, 4.15)."""

from __future__ import annotations

from litestar import Response, get

from api.cider import properties
from api.cider.answers import Asked, answer
from api.cider.jobs import ALIASES, git_of
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import COMMIT, COMMITS, JOBS, address, relation
from api.cider.requests import PER_PAGE, listing
from api.cider.roa import Links
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import listings
from reconciler.queries.listings import Filters


@get(COMMITS.route, operation_class=documented(COMMITS), media_type=ROA, summary="Commits, newest first")
async def commit_list(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """Of the repositories that may be seen; each once, however many have it."""
    asked = listing(request, COMMITS, ALIASES)
    filters = Filters(tree=asked.filters.get("tree_id"), git=git_of(asked.filters))
    found = await listings.commits(installation, caller, filters, asked.span)
    shown = found[:PER_PAGE]
    links = asked.links([each.row.id for each in shown], COMMIT, more=len(found) > PER_PAGE)
    return answer(request, {"commits": [properties.commit(each) for each in shown]}, links)


@get(COMMIT.route, media_type=ROA, summary="A commit")
async def commit_get(
    installation: Installation, caller: Caller, request: Asked, commit: str
) -> Response[bytes]:
    """With the way to the jobs of its tree."""
    found = await listings.commit(installation, caller, commit)
    relations = {"jobs": relation(JOBS, {"tree_id": found.row.tree})}
    links = Links(COMMIT.name, address(COMMIT, id=found.row.id), relations)
    return answer(request, properties.commit(found), links)
