"""The routes of the Escape State Service API, as `api.app` takes them in."""

from __future__ import annotations

from typing import Any

from api.escape import accounts, builds, environments, namespaces, projects, repositories
from api.escape.errors import DECLARED
from api.escape.requests import LARGEST_BODY, started
from api.paths import routes_of

_HANDLERS: list[Any] = [
    builds.user_builds,
    builds.state_builds,
    builds.environment_builds,
    builds.build_add,
    builds.build_get,
    builds.build_put,
    builds.build_delete,
    environments.environment_order,
    environments.environment_add,
    environments.environment_get,
    environments.environment_put,
    environments.environment_delete,
    namespaces.user_namespaces,
    namespaces.project_namespaces,
    namespaces.namespace_add,
    projects.project_list,
    projects.projects_by_group,
    projects.project_get,
    projects.project_put,
    projects.project_delete,
    projects.project_add,
    projects.reserved_namespaces,
    projects.reserved_group,
    accounts.account_list,
    accounts.account_add,
    accounts.account_delete,
    repositories.repository_list,
    repositories.repository_add,
    repositories.repository_put,
    repositories.repository_delete,
]

ROUTER = routes_of(_HANDLERS, DECLARED, started, LARGEST_BODY, "Escape state")
