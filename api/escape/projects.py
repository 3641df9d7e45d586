"""Projects of the Escape State Service API: PR1 to PR7, PR10 (escape-state, 6.10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from litestar import Response, delete, get, post, put

from api.escape import environments
from api.escape.errors import BadRequest
from api.escape.executions import refuse_active
from api.escape.requests import Asked, Force, Wait, body, kept, same_name, terms
from api.escape.writing import absent, all_of, answer, before, commit, there, unused
from reconciler.access import Caller, require, require_level, rights_of
from reconciler.commands import deployments, jobs, tokens
from reconciler.errors import Forbidden
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.model.rights import INSTALLATION, LEVELS, Level, Scope
from reconciler.queries import declared
from reconciler.queries import deployments as deployed
from specs.meta import Key, project_name_fault
from specs.project import Project
from specs.tree import Tree
from specs.write import Wish

FIELDS = ("description", "org_url", "logo", "is_public")
OWNERS = "owners"
"""The binding that makes whoever creates a project its owner."""

_MODEL = Project().model_dump(mode="json")
_COUNTED = {"Environment": "environments", "Build": "builds", "Deployment": "deployments"}
_COUNTED |= {"Pipeline": "pipelines", "Repository": "repositories"}


@get("/api/v1/state/", summary="Projects that the caller has a role in")
async def project_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Name → project, without its environments."""
    return {
        found.name: _of_resource(installation, caller, found)
        for found in declared.projects(installation, caller)
    }


@get("/api/v1/state/__get_projects_by_group", summary="Projects that a team has a role in")
async def projects_by_group(
    installation: Installation,
    caller: Caller,
    group: str | None = None,
    name: str | None = None,
    team: str | None = None,
) -> dict[str, Any]:
    """For its members and administrators. `permission` is the team's; `name` and `team` are synonyms of `group`."""
    wanted = group or name or team
    if not wanted:
        raise BadRequest("invalid-field", "Give the parameter group.", {"group": "is required"})
    rights = declared.rights_of_team(installation, caller, wanted)
    found = {}
    for project in declared.projects(installation, caller):
        if rights.within(Scope(project.name)) is not None:
            level = rights.at(Scope(project.name)) or Level.READ
            found[project.name] = _of_resource(installation, caller, project) | {"permission": level.word}
    return found


@get("/api/v1/state/{project:str}/", summary="A project and its environments")
async def project_get(installation: Installation, caller: Caller, project: str) -> Response[dict[str, Any]]:
    """Environments in order, with summaries of their deployments. `ETag` is for `If-Match`."""
    found = declared.project(installation, caller, project)
    content = await _whole(installation, caller, project, found.spec or {})
    return Response(content, headers={"ETag": f'"{found.tag}"'})


@put("/api/v1/state/{project:str}/", summary="Change a project")
async def project_put(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference; `environments` of the body are left alone."""
    declared.project(installation, caller, project)
    key = Key("Project", None, None, project)
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, project)

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(project))
        return [Wish(key, _wanted(current, data))]

    done = await commit(installation, caller, intent, terms(request, "PUT project", key, wait))
    spec, resource = done.spec(installation, key)
    content = await _whole(installation, caller, project, spec)
    return answer(done, content, resource.tag if resource else None)


@delete("/api/v1/state/{project:str}/", status_code=200, summary="Hard delete of a project")
async def project_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    force: Force = False,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """One commit for everything in it, and its state goes; no script runs. What another project refers to stays."""
    found = declared.project(installation, caller, project)
    key = Key("Project", None, None, project)
    require(installation, caller, "delete", str(key))
    inside = [*declared.keys_inside(installation, found), *await deployed.keys_inside(installation, project)]
    active = await refuse_active(installation, inside, force=force)
    gone: list[Key] = []

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(project))
        gone[:] = [key, *all_of(installation, tree, project, None)]
        unused(caller, tree, map(str, gone))
        return [Wish(each, None) for each in gone]

    done = await commit(installation, caller, intent, terms(request, "DELETE project", key, wait, hard=True))
    undeclared = 0
    if done.written.branch is None:
        await jobs.cancel_all(installation, caller, active)
        undeclared = await deployments.drop_undeclared(installation, caller, project, None)
        await tokens.revoke_within(installation, caller, project, None)
        request.app.state.credentials.forget()
    kinds = [each.kind for each in gone]
    deleted = {word: kinds.count(kind) for kind, word in _COUNTED.items()}
    return answer(done, {"deleted": deleted | {"deployments": deleted["deployments"] + undeclared}})


@get("/api/v1/state/{project:str}/can-manage-subscriptions", summary="May the caller manage subscriptions?")
async def can_manage_subscriptions(
    installation: Installation, caller: Caller, project: str
) -> dict[str, bool]:
    """There is no billing here; owners may."""
    found = declared.project(installation, caller, project)
    return {"can_manage_subscriptions": declared.level(caller, found) is Level.OWNER}


@get("/api/v1/state/{project:str}/rbac/valid-roles", summary="Roles that can be bound in a project")
async def valid_roles(installation: Installation, caller: Caller, project: str) -> list[str]:
    """Of the whole project, then of each environment in order."""
    found = declared.project(installation, caller, project)
    places = [
        "global",
        *(f"environment:{name}" for name in declared.environments(installation, caller, found)),
    ]
    return [f"project:{project}:{place}:{word}" for place in places for word in LEVELS]


@post("/api/v1/state/{project:str}/add-project", status_code=200, summary="Add a project")
async def project_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit: the project, and a binding that makes the caller its owner."""
    return await _add(installation, caller, request, project, wait)


@post("/api/v1/state/namespaces/add-project", status_code=200, include_in_schema=False)
async def reserved_namespaces(installation: Installation, caller: Caller, request: Asked) -> Response[Any]:
    """A name that no project can have; the router finds no `{project}` in it."""
    return await _add(installation, caller, request, "namespaces", "10")


@post("/api/v1/state/__get_projects_by_group/add-project", status_code=200, include_in_schema=False)
async def reserved_group(installation: Installation, caller: Caller, request: Asked) -> Response[Any]:
    """Another one."""
    return await _add(installation, caller, request, "__get_projects_by_group", "10")


async def _add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: str
) -> Response[Any]:
    if installation.settings.project_creation != "any":
        require_level(caller, Level.OWNER, "adding a project")
    elif caller.most < Level.WRITE or caller.within != INSTALLATION:
        raise Forbidden("Forbidden", "a token that was narrowed cannot add a project")
    if message := project_name_fault(project):
        raise BadRequest("invalid-field", f"name: {message}", {"name": message})
    data = await body(request, optional=True)
    same_name(data, project)
    key, owners = Key("Project", None, None, project), Key("RoleBinding", project, None, OWNERS)

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Project {project!r} already exists.")
        return [
            Wish(key, _wanted({}, data)),
            Wish(owners, {"role": "owner", "subjects": [_subject(caller)]}),
        ]

    allowed = frozenset({str(key), str(owners)}).__contains__
    done = await commit(installation, caller, intent, terms(request, "POST project", None, wait, allowed))
    spec, resource = done.spec(installation, key)
    content = await _whole(installation, _as_now(installation, caller), project, spec)
    return answer(done, content, resource.tag if resource else None)


def _as_now(installation: Installation, caller: Caller) -> Caller:
    """The caller with the rights that the new binding gives."""
    rights = rights_of(installation, caller.subject).narrowed(caller.most, caller.within)
    return replace(caller, rights=rights)


def _subject(caller: Caller) -> dict[str, str]:
    kind, _, name = caller.subject.partition("/")
    if kind != "ServiceAccount":
        return {"kind": "User", "name": name}
    team, _, account = name.partition("/")
    return {"kind": kind, "team": team, "name": account}


def _wanted(current: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The specification after a body. "" for an address is none; a logo that is sent back stays in its file."""
    plain = {name: None if name == "org_url" and value == "" else value for name, value in data.items()}
    spec = kept(current, plain, FIELDS, {})
    if spec.get("logo") != current.get("logo"):
        spec.pop("logo_file", None)
    return spec


async def _whole(
    installation: Installation, caller: Caller, name: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    found = declared.environments_of(installation, caller, name, spec)
    around = await environments.in_short(installation, caller, list(found.values()))
    return _shown(installation, caller, name, spec) | {
        "environments": {each["name"]: each for each in around}
    }


def _of_resource(installation: Installation, caller: Caller, project: Resource) -> dict[str, Any]:
    return _shown(installation, caller, project.name, project.spec or {})


def _shown(installation: Installation, caller: Caller, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A project as the caller sees it (7.14), without its environments."""
    fields = {field: spec.get(field, _MODEL[field]) for field in FIELDS}
    return {
        "name": name,
        **fields,
        "org_url": fields["org_url"] or "",
        "permission": (caller.rights.at(Scope(name)) or Level.READ).word,
        "namespaces": [item["name"] for item in spec.get("namespaces") or ()],
        "environment_order": list(declared.environments_of(installation, caller, name, spec)),
    }


def _absence(name: str) -> str:
    return f"There is no project {name!r}."
