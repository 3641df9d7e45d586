"""Builds of the Escape State Service API: BD1 to BD7 (escape-state, 6.2)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from litestar import MediaType, Response, delete, get, post, put

from api.escape import build_bodies, sealed
from api.escape.executions import refuse_active
from api.escape.requests import Asked, Force, Wait, body, new_name, same_name, terms
from api.escape.writing import absent, answer, before, commit, there, unused
from api.paths import plain
from reconciler.access import Caller, require
from reconciler.commands import jobs
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Scope
from reconciler.queries import declared
from specs import build_forms
from specs.meta import Key, plain_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

Builds = dict[str, dict[str, Any]]
FALLBACK_BRANCH = "main"

_STATUS: Mapping[State, str] = {
    State.PENDING: "pending",
    State.EXECUTING: "running",
    State.ABORTING: "running",
    State.PASSED: "ok",
}


@get("/api/v1/builds/", summary="All builds that the caller sees")
async def user_builds(installation: Installation, caller: Caller) -> dict[str, dict[str, Builds]]:
    """Project → environment → name → build."""
    around = {
        project.name: list(declared.environments(installation, caller, project).values())
        for project in declared.projects(installation, caller)
    }
    shown = await _of_environments(
        installation, caller, [each for found in around.values() for each in found]
    )
    return {name: {each.name: shown[each.key] for each in found} for name, found in around.items()}


@get("/api/v1/state/{project:str}/builds/", summary="Builds of a project")
async def state_builds(installation: Installation, caller: Caller, project: str) -> dict[str, Builds]:
    """Environment → name → build; also environments without any."""
    found = declared.project(installation, caller, project)
    around = list(declared.environments(installation, caller, found).values())
    shown = await _of_environments(installation, caller, around)
    return {each.name: shown[each.key] for each in around}


@get("/api/v1/state/{project:str}/environments/{environment:str}/builds/", summary="Builds of an environment")
async def environment_builds(
    installation: Installation, caller: Caller, project: str, environment: str
) -> Builds:
    """Name → build."""
    found = declared.environment(installation, caller, project, environment)
    return (await _of_environments(installation, caller, [found]))[found.key]


@post(
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/",
    status_code=200,
    summary="Add a build",
)
async def build_add(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit. `name` and `repo` are required, and at least one of `steps`, or `steps_from_yml`."""
    declared.environment(installation, caller, project, environment)
    require(installation, caller, "edit", str(Key("Build", project, environment, "_")))
    data = await body(request)
    key = Key("Build", project, environment, new_name(data, plain_name_fault))
    secrets = build_bodies.secrets(data, new=True)

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Build {key.name!r} already exists in {project}/{environment}.")
        defaults = inherited(tree, key)
        spec = build_bodies.wanted(data, {}, defaults, "")
        unused = build_forms.unused([spec])
        spec = {
            name: value
            for name, value in defaults.items()
            if name in build_bodies.EXTENSIONS and name not in unused
        } | spec
        kept = sealed.wishes(installation, tree, key, spec, secrets)
        return [Wish(key, spec), *kept]

    done = await commit(
        installation, caller, intent, terms(request, "POST build", None, wait, sealed.allowed(key))
    )
    spec, resource = done.spec(installation, key)
    content = _shown(installation, caller, key, spec, resource, None)
    return answer(done, content, resource.tag if resource else None)


@get(
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}/",
    summary="One build",
)
async def build_get(
    installation: Installation, caller: Caller, project: str, environment: str, build: str
) -> Response[dict[str, Any]]:
    """`ETag` is for `If-Match`."""
    declared.environment(installation, caller, project, environment)
    key = Key("Build", project, environment, plain(build))
    found = declared.one(installation, caller, key, _absence(key))
    content = await _with_status(installation, caller, found)
    return Response(content, headers={"ETag": f'"{found.tag}"'})


@put(
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}/",
    summary="Replace a build",
)
async def build_put(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    build: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference. The key changes only with `update_private_key`."""
    declared.environment(installation, caller, project, environment)
    key = Key("Build", project, environment, plain(build))
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, key.name)
    secrets = build_bodies.secrets(data, new=False)

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(key))
        branch = _branch(tree_repository(tree, key, current), current)
        spec = build_bodies.wanted(data, current, inherited(tree, key), branch)
        kept = sealed.wishes(installation, tree, key, spec, secrets)
        return [Wish(key, spec), *kept]

    done = await commit(
        installation, caller, intent, terms(request, "PUT build", key, wait, sealed.allowed(key))
    )
    spec, resource = done.spec(installation, key)
    states = await declared.newest_states(installation, [str(key)])
    content = _shown(installation, caller, key, spec, resource, states.get(str(key)))
    return answer(done, content, resource.tag if resource else None)


@delete(
    "/api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}/",
    status_code=200,
    media_type=MediaType.TEXT,
    summary="Delete a build",
)
async def build_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    build: str,
    force: Force = False,
    wait: Wait = "10",
) -> Response[Any]:
    """A commit. Its executions stay readable; what a pipeline refers to stays, also with `force`."""
    declared.environment(installation, caller, project, environment)
    key = Key("Build", project, environment, plain(build))
    require(installation, caller, "delete", str(key))
    secrets = sealed.secret_keys(key)

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(key))
        unused(caller, tree, [str(key)])
        return [Wish(key, None), *sealed.gone(tree, secrets)]

    active = await refuse_active(installation, [str(key)], force=force)
    done = await commit(
        installation, caller, intent, terms(request, "DELETE build", key, wait, sealed.allowed(key))
    )
    if done.written.branch is None:
        await jobs.cancel_all(installation, caller, active)
    return answer(done, None)


async def _of_environments(
    installation: Installation, caller: Caller, environments: Sequence[Resource]
) -> dict[str, Builds]:
    """KEY of the environment → name → build."""
    everything = declared.by_environment(installation, "Build")
    found = {each.key: everything.get(each.key, {}) for each in environments}
    states = await declared.newest_states(installation, [b.key for bs in found.values() for b in bs.values()])
    return {
        environment: {
            name: _of_resource(installation, caller, build, states.get(build.key))
            for name, build in builds.items()
        }
        for environment, builds in found.items()
    }


async def _with_status(installation: Installation, caller: Caller, build: Resource) -> dict[str, Any]:
    states = await declared.newest_states(installation, [build.key])
    return _of_resource(installation, caller, build, states.get(build.key))


def _of_resource(
    installation: Installation, caller: Caller, build: Resource, state: State | None
) -> dict[str, Any]:
    key = Key("Build", build.project, build.environment, build.name)
    return _shown(installation, caller, key, build.spec or {}, build, state)


def _shown(
    installation: Installation,
    caller: Caller,
    key: Key,
    spec: Mapping[str, Any],
    resource: Resource | None,
    state: State | None,
) -> dict[str, Any]:
    """A build as the caller sees it (7.1). The code of its webhook is for those who may write."""
    level = caller.rights.at(Scope(key.project, key.environment)) or Level.READ
    code = code_of(installation, resource.uuid, spec) if resource and level >= Level.WRITE else ""
    repositories = declared.of_kind(installation, "Repository")
    repository = repositories.get(f"Repository/{key.project}/{spec.get('repo')}")
    branch = _branch(repository.spec if repository else None, spec)
    head = {
        "id": resource.uuid if resource else "",
        "name": key.name,
        "project": key.project,
        "environment": key.environment,
        "status": "new" if state is None else _STATUS.get(state, "failed"),
    }
    tail = {"webhook_token": code, "permission": level.word}
    return head | build_bodies.shown(spec, branch) | tail


def _branch(repository: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> str:
    """The branch that is built: the first one named, or the repository's."""
    named: Iterable[str | None] = (
        spec.get("branch"),
        *(spec.get("branches") or ())[:1],
        (repository or {}).get("branch"),
    )
    return next(filter(None, named), FALLBACK_BRANCH)


def tree_repository(tree: Tree, key: Key, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Repository that a build names, as it is declared."""
    found = tree.declared.get(f"Repository/{key.project}/{spec.get('repo')}")
    return found.spec if found else None


def code_of(installation: Installation, uuid: str, spec: Mapping[str, Any]) -> str:
    """The code of the build's webhook: made by the server's key, so that nothing need be kept."""
    mark = installation.keys.mac("build-webhook", f"{uuid}:{spec.get('webhook_rotation') or 0}")
    return base64.urlsafe_b64encode(bytes.fromhex(mark)).decode().rstrip("=")


def _absence(key: Key) -> str:
    return f"There is no build {key.name!r} in {key.project}/{key.environment}."
