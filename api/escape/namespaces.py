"""Namespaces of the Escape State Service API: NS1 to NS3 (escape-state, 6.9). They stand in the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response, get, post

from api.escape.requests import Asked, Wait, body, new_name, terms
from api.escape.writing import answer, before, commit
from reconciler.access import Caller, require
from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.queries import declared
from specs.meta import Key
from specs.project import claimed
from specs.release import namespace_fault
from specs.tree import Tree
from specs.write import Wish

_FIELDS = ("description", "logo", "org_url")


@get("/api/v1/state/namespaces", summary="Namespaces of all projects that the caller has a role in")
async def user_namespaces(installation: Installation, caller: Caller) -> dict[str, dict[str, Any]]:
    """`namespaces`: name → the caller's permission, and the project that owns it."""
    found = {
        item["name"]: {"permission": declared.level(caller, project).word, "project": project.name}
        for project in declared.projects(installation, caller)
        for item in (project.spec or {})["namespaces"]
    }
    return {"namespaces": dict(sorted(found.items()))}


@get("/api/v1/state/{project:str}/namespaces/", summary="Namespaces of a project")
async def project_namespaces(installation: Installation, caller: Caller, project: str) -> dict[str, Any]:
    """Name → namespace."""
    found = declared.project(installation, caller, project)
    items = sorted((found.spec or {})["namespaces"], key=lambda item: str(item["name"]))
    return {item["name"]: _shown(item, project) for item in items}


@post("/api/v1/state/{project:str}/add-namespace", status_code=200, summary="Give a project a namespace")
async def namespace_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit. A namespace has one project only."""
    declared.project(installation, caller, project)
    key = Key("Project", None, None, project)
    require(installation, caller, "edit", str(key))
    data = await body(request)
    name = new_name(data, namespace_fault)
    item = {field: data[field] for field in _FIELDS if data.get(field) not in (None, "")} | {"name": name}

    def intent(tree: Tree) -> list[Wish]:
        spec = before(installation, tree, key, f"There is no project {project!r}.")
        for other in tree.declared.values():
            if other.kind == "Project" and name in claimed(other.spec or {}):
                raise Conflict("AlreadyExists", f"The namespace {name!r} has a project already.")
        return [Wish(key, {**spec, "namespaces": [*spec["namespaces"], item]})]

    done = await commit(installation, caller, intent, terms(request, "POST namespace", key, wait))
    spec, _ = done.spec(installation, key)
    made = next((each for each in spec["namespaces"] if each["name"] == name), item)
    return answer(done, _shown(made, project))


def _shown(item: Mapping[str, Any], project: str) -> dict[str, Any]:
    texts = {field: item.get(field) or "" for field in _FIELDS}
    return {"name": item["name"], **texts, "project": project}
