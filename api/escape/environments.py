"""Environments of the Escape State Service API: EN1 to EN5 (escape-state, 6.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Response, delete, get, post, put

from api.escape import deployed
from api.escape.errors import BadRequest
from api.escape.executions import refuse_active
from api.escape.requests import Asked, Force, Wait, any_body, body, kept, new_name, same_name, terms
from api.escape.writing import absent, all_of, answer, before, commit, there, unused
from reconciler.access import Caller, require, require_level
from reconciler.commands import deployments, jobs, tokens
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Scope
from reconciler.queries import declared
from reconciler.queries import deployments as queries
from reconciler.queries.deployments import Deployed
from specs.environment import Environment
from specs.meta import Key, environment_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

FIELDS = ("description", "protected", "inputs")
_MODEL = Environment().model_dump(mode="json")


@post(
    "/api/v1/state/{project:str}/change-environment-order", status_code=200, summary="Order of environments"
)
async def environment_order(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit. `order` (or the bare array) names every environment of the project once."""
    declared.project(installation, caller, project)
    require_level(caller, Level.WRITE, "changing the order of environments", Scope(project))
    data = await any_body(request)
    order = data.get("order") if isinstance(data, dict) else data
    key = Key("Project", None, None, project)

    def intent(tree: Tree) -> list[Wish]:
        spec = before(installation, tree, key, _no_project(project))
        names = _names(tree, project)
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(names):
            told = f"name each of {', '.join(sorted(names)) or 'no environments'} once"
            raise BadRequest("invalid-order", f"order: {told}.", {"order": told})
        if declared.in_order(spec["environment_order"], names) == order:
            return []
        return [Wish(key, {**spec, "environment_order": order})]

    allowed = frozenset({str(key)}).__contains__
    done = await commit(
        installation, caller, intent, terms(request, "POST environment-order", key, wait, allowed)
    )
    return answer(done, {"order": order})


@post("/api/v1/state/{project:str}/environments/", status_code=200, summary="Add an environment")
async def environment_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit; the environment comes last in the project's order."""
    declared.project(installation, caller, project)
    require_level(caller, Level.WRITE, "adding an environment", Scope(project))
    data = await body(request)
    key = Key("Environment", project, None, new_name(data, environment_name_fault))
    owner = Key("Project", None, None, project)

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Environment {key.name!r} already exists in {project}.")
        defaults = inherited(tree, key)
        spec = kept(defaults, data, FIELDS, defaults)
        parent = before(installation, tree, owner, _no_project(project))
        written = parent["environment_order"]
        order = [*declared.in_order(written, _names(tree, project)), key.name]
        if not written and declared.in_order((), order) == order:
            return [Wish(key, spec)]
        return [Wish(key, spec), Wish(owner, {**parent, "environment_order": order})]

    allowed = frozenset({str(key), str(owner)}).__contains__
    done = await commit(installation, caller, intent, terms(request, "POST environment", None, wait, allowed))
    spec, resource = done.spec(installation, key)
    content = shown(installation, caller, key, spec, await _in_short(installation, str(key)))
    return answer(done, content, resource.tag if resource else None)


@get(
    "/api/v1/state/{project:str}/environments/{environment:str}/",
    summary="An environment and its deployments",
)
async def environment_get(
    installation: Installation, caller: Caller, project: str, environment: str, full: bool = False
) -> Response[dict[str, Any]]:
    """`full=true`: deployments whole, instead of name, release, versions and statuses. `ETag` is for `If-Match`."""
    found = await queries.environment(installation, caller, project, environment)
    if full:
        inside = await queries.in_environment(installation, caller, found)
    else:
        inside = await _in_short(installation, found.key)
    content = shown(installation, caller, _key(found), found.spec or {}, inside, full=full)
    return Response(content, headers={"ETag": f'"{found.tag}"'})


@put("/api/v1/state/{project:str}/environments/{environment:str}/", summary="Change an environment")
async def environment_put(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference; `deployments` of the body are left alone."""
    declared.environment(installation, caller, project, environment)
    key = Key("Environment", project, None, environment)
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, environment)

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(key))
        return [Wish(key, kept(current, data, FIELDS, inherited(tree, key)))]

    done = await commit(installation, caller, intent, terms(request, "PUT environment", key, wait))
    spec, resource = done.spec(installation, key)
    content = shown(installation, caller, key, spec, await _in_short(installation, str(key)))
    return answer(done, content, resource.tag if resource else None)


@delete(
    "/api/v1/state/{project:str}/environments/{environment:str}/",
    status_code=200,
    summary="Hard delete of an environment",
)
async def environment_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    force: Force = False,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """One commit for all that is in it, and its state goes; no script runs. What a pipeline names is never forced."""
    found = declared.environment(installation, caller, project, environment)
    key, owner = Key("Environment", project, None, environment), Key("Project", None, None, project)
    require(installation, caller, "delete", str(key))
    inside = [
        *declared.keys_inside(installation, found),
        *await queries.keys_inside(installation, project, environment),
    ]
    active = await refuse_active(installation, inside, force=force)
    gone: list[Key] = []

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(key))
        gone[:] = [key, *all_of(installation, tree, project, environment)]
        unused(caller, tree, map(str, gone), {str(owner)})
        parent = before(installation, tree, owner, _no_project(project))
        order = [name for name in parent["environment_order"] if name != environment]
        rest = [Wish(owner, {**parent, "environment_order": order})]
        return [Wish(each, None) for each in gone] + (rest if order != parent["environment_order"] else [])

    def allowed(each: str) -> bool:
        return each in (str(key), str(owner)) or each.split("/")[1:3] == [project, environment]

    done = await commit(
        installation, caller, intent, terms(request, "DELETE environment", key, wait, allowed, hard=True)
    )
    undeclared = 0
    if done.written.branch is None:
        await jobs.cancel_all(installation, caller, active)
        undeclared = await deployments.drop_undeclared(installation, caller, project, environment)
        await tokens.revoke_within(installation, caller, project, environment)
        request.app.state.credentials.forget()
    kinds = [each.kind for each in gone]
    deleted = {"builds": kinds.count("Build"), "deployments": kinds.count("Deployment") + undeclared}
    return answer(done, {"deleted": deleted})


async def in_short(
    installation: Installation, caller: Caller, environments: Sequence[Resource]
) -> list[dict[str, Any]]:
    """Environments that are in force, with summaries of their deployments (7.14)."""
    inside = await queries.in_environments(installation, [each.key for each in environments])
    return [
        shown(installation, caller, _key(each), each.spec or {}, inside[each.key]) for each in environments
    ]


def shown(
    installation: Installation,
    caller: Caller,
    key: Key,
    spec: Mapping[str, Any],
    inside: Mapping[str, Deployed],
    *,
    full: bool = False,
) -> dict[str, Any]:
    """An environment as the caller sees it."""
    level = caller.rights.at(Scope(key.project, key.name)) or Level.READ
    return {
        "name": key.name,
        **{field: spec.get(field, _MODEL[field]) for field in FIELDS},
        "order": declared.position(installation, str(key.project), key.name),
        "permission": level.word,
        "deployments": {name: deployed.shown(found, whole=full) for name, found in inside.items()},
    }


def _key(environment: Resource) -> Key:
    return Key("Environment", environment.project, None, environment.name)


async def _in_short(installation: Installation, key: str) -> dict[str, Deployed]:
    return (await queries.in_environments(installation, [key]))[key]


def _names(tree: Tree, project: str) -> list[str]:
    return [d.name for d in tree.declared.values() if d.kind == "Environment" and d.project == project]


def _absence(key: Key) -> str:
    return f"There is no environment {key.name!r} in {key.project}."


def _no_project(name: str) -> str:
    return f"There is no project {name!r}."
