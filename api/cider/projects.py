"""`/cider-ci/repositories/projects/…`: Repositories, which are declared in Git and changed there (cider-ci, 4.19)."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, patch, post

from api.cider.answers import Asked, answer
from api.cider.negotiation import ROA
from api.cider.parameters import documented
from api.cider.relations import COMMITS, JOBS, PROJECT, PROJECT_LIST, address, relation
from api.cider.requests import cut, listing
from api.cider.roa import Links
from reconciler.access import Caller
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.queries import listings

_SHOWN = ("branch_include_match", "branch_exclude_match", "max_head_age_seconds", "cron")


@get(PROJECT_LIST.route, operation_class=documented(PROJECT_LIST), media_type=ROA, summary="Repositories")
async def project_list(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """By their KEYs."""
    asked = listing(request, PROJECT_LIST)
    found = listings.repositories(installation, caller)
    items, more = cut(found, asked, lambda resource: resource.uuid)
    links = asked.links([each.uuid for each in items], PROJECT, more=more)
    return answer(request, {"projects": [{"id": each.uuid} for each in items]}, links)


@get(PROJECT.route, media_type=ROA, summary="A repository")
async def project_get(
    installation: Installation, caller: Caller, request: Asked, repository: str
) -> Response[bytes]:
    """With the ways to its commits and jobs."""
    found = _found(installation, caller, repository)
    if found is None:
        raise NotFound("NoSuchId", f"there is no project with the id {repository[:100]}")
    url = {"repository_url": (found.spec or {})["url"]}
    relations = {
        "projects": relation(PROJECT_LIST),
        "commits": relation(COMMITS, url),
        "jobs": relation(JOBS, url),
    }
    links = Links(PROJECT.name, address(PROJECT, id=found.uuid), relations)
    return answer(request, _properties(found), links)


@post(PROJECT_LIST.route, summary="Repositories are declared in Git")
async def project_create(installation: Installation) -> None:
    """403, always."""
    raise _declared(installation, None)


@patch(PROJECT.route, summary="Repositories are declared in Git")
async def project_change(installation: Installation, caller: Caller, repository: str) -> None:
    """403, always."""
    raise _declared(installation, _found(installation, caller, repository))


@delete(PROJECT.route, summary="Repositories are declared in Git")
async def project_delete(installation: Installation, caller: Caller, repository: str) -> None:
    """403, always."""
    raise _declared(installation, _found(installation, caller, repository))


def _found(installation: Installation, caller: Caller, uuid: str) -> Resource | None:
    return next((each for each in listings.repositories(installation, caller) if each.uuid == uuid), None)


def _properties(found: Resource) -> dict[str, Any]:
    spec = found.spec or {}
    triggers = spec.get("cider_ci") or {}
    return {
        "id": found.uuid,
        "key": found.key,
        "name": found.name,
        "git_url": spec["url"],
        "enabled": bool(triggers.get("enabled")),
        **{field: triggers.get(field) for field in _SHOWN},
    }


def _declared(installation: Installation, found: Resource | None) -> Forbidden:
    source = installation.snapshot.current.source
    where = source.url if source is not None else "the repository of specifications"
    place = f"{found.key} at {found.location}" if found is not None else "a Repository"
    return Forbidden("Declared", f"projects are declared in Git: change {place} in {where}")
