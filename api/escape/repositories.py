"""Repositories of the Escape State Service API: RE1 to RE4 (escape-state, 6.11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import MediaType, Response, delete, get, post, put

from api.escape import sealed
from api.escape.requests import Asked, Wait, body, flag, kept, new_name, same_name, terms, text, wrong
from api.escape.sealed import Change
from api.escape.writing import absent, answer, before, commit, there, unused
from api.paths import plain
from reconciler.access import Caller, require
from reconciler.commands.declare import Intent, Terms
from reconciler.installation import Installation
from reconciler.queries import declared
from specs.meta import Key, plain_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

FIELDS = ("url", "branch", "description", "private_key_ref", "webhook_secret_ref")
BRANCH = "main"
"""Shown where a repository names no branch: builds then take the remote's own default."""


@get("/api/v1/state/{project:str}/repositories/", summary="Repositories of a project")
async def repository_list(installation: Installation, caller: Caller, project: str) -> list[dict[str, Any]]:
    """By name."""
    found = declared.inside(
        installation, caller, "Repository", declared.project(installation, caller, project)
    )
    return [_shown(project, name, repository.spec or {}) for name, repository in found.items()]


@post("/api/v1/state/{project:str}/repositories/add-repository", status_code=200, summary="Add a repository")
async def repository_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit. `name` and `url` are required."""
    declared.project(installation, caller, project)
    require(installation, caller, "edit", str(Key("Repository", project, None, "_")))
    data = await body(request)
    key = Key("Repository", project, None, new_name(data, plain_name_fault))
    if not data.get("url"):
        raise wrong("url", "is required")
    value = text(data, "private_key")
    changes = [Change("private_key", value)] if value else []

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Repository {key.name!r} already exists in {project}.")
        return _wishes(installation, tree, key, {}, data, changes)

    return await _write(
        installation, caller, intent, key, terms(request, "POST repository", None, wait, sealed.allowed(key))
    )


@put("/api/v1/state/{project:str}/repositories/{name:str}/", summary="Change a repository")
async def repository_put(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference. The key changes only with `update_private_key`."""
    declared.project(installation, caller, project)
    key = Key("Repository", project, None, plain(name))
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, key.name)
    value = text(data, "private_key")
    changes = [Change("private_key", value or None)] if flag(data, "update_private_key") else []

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(key))
        return _wishes(installation, tree, key, current, data, changes)

    return await _write(
        installation, caller, intent, key, terms(request, "PUT repository", key, wait, sealed.allowed(key))
    )


@delete(
    "/api/v1/state/{project:str}/repositories/{name:str}/",
    status_code=200,
    media_type=MediaType.TEXT,
    summary="Remove a repository",
)
async def repository_delete(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, wait: Wait = "10"
) -> Response[Any]:
    """A commit. One that a build names stays."""
    declared.project(installation, caller, project)
    key = Key("Repository", project, None, plain(name))
    require(installation, caller, "delete", str(key))

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(key))
        unused(caller, tree, [str(key)])
        return [Wish(key, None), *sealed.gone(tree, sealed.secret_keys(key))]

    done = await commit(installation, caller, intent, terms(request, "DELETE repository", key, wait))
    return answer(done, None)


async def _write(
    installation: Installation, caller: Caller, intent: Intent, key: Key, wanted: Terms
) -> Response[Any]:
    done = await commit(installation, caller, intent, wanted)
    spec, resource = done.spec(installation, key)
    content = _shown(str(key.project), key.name, spec)
    return answer(done, content, resource.tag if resource else None)


def _wishes(
    installation: Installation,
    tree: Tree,
    key: Key,
    current: Mapping[str, Any],
    data: Mapping[str, Any],
    changes: list[Change],
) -> list[Wish]:
    """The repository after a body; a branch that is sent back as it was shown stays as it is written."""
    given = {name: value for name, value in data.items() if name != "branch" or value != _branch(current)}
    defaults = inherited(tree, key)
    spec = kept(current or defaults, given, FIELDS, defaults)
    secrets = sealed.wishes(installation, tree, key, spec, changes)
    return [Wish(key, spec), *secrets]


def _shown(project: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A repository (7.14). Pushes are told by signed hooks, so there is no code to show."""
    return {
        "name": name,
        "project": project,
        "url": spec["url"],
        "branch": _branch(spec),
        "description": spec["description"],
        "private_key": "",
        "private_key_set": bool(spec["private_key_ref"]),
        "webhook_token": "",
    }


def _branch(spec: Mapping[str, Any]) -> str:
    return spec.get("branch") or BRANCH


def _absence(key: Key) -> str:
    return f"There is no repository {key.name!r} in {key.project}."
