"""The routes of the Sqedule API, as `api.app` takes them in."""

from __future__ import annotations

from typing import Any

from api.paths import routes_of
from api.sqedule import organization, releases, reviewables
from api.sqedule.errors import DECLARED
from api.sqedule.requests import LARGEST_BODY, from_here
from reconciler.model.review import Kind

_HANDLERS: list[Any] = [
    organization.about,
    organization.organization_get,
    organization.organization_change,
    organization.one_organization,
    organization.one_organization_change,
    organization.login,
    organization.refresh,
    releases.release_list,
    releases.releases_of,
    releases.release_add,
    releases.release_get,
    releases.release_change,
    releases.event_list,
    releases.approval_list,
    releases.approval_add,
    reviewables.bindings_of,
    *(handler for kind in Kind for handler in reviewables.handlers(kind)),
]

ROUTER = routes_of(_HANDLERS, DECLARED, from_here, LARGEST_BODY, "Sqedule")
