"""The state of deployments: ST1 to ST4, and who provides what: EN6 (escape-state, 6.5, 6.12).

The client puts a deployment's state here after each of its steps. That is one small transaction and never waits for
Git; only what is declared of a deployment is a commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import MediaType, Response, delete, get, post, put
from litestar.params import Parameter

from api.escape import deployed, secret_inputs
from api.escape.errors import BadRequest
from api.escape.requests import Asked, Wait, body, new_name, terms, text, wrong
from api.escape.secret_inputs import SecretInputs
from api.escape.writing import absent, answer, commit, there, unused
from reconciler.access import Caller, require
from reconciler.commands import deployments as commands
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.deployment import Place, State
from reconciler.model.state_file import MOST_LEVELS, declaration, read_state
from reconciler.queries import declared
from reconciler.queries import deployments as queries
from reconciler.queries.deployments import Deployed
from specs.meta import Key, deployment_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

PATH = "/api/v1/state/{project:str}/environments/{environment:str}/deployments/"
Declare = Annotated[
    bool, Parameter(description="Also declare a deployment that is not declared, in a commit")
]


@get(PATH, summary="One deployment with its state, or all of an environment in short")
async def state_get(
    installation: Installation,
    caller: Caller,
    project: str,
    environment: str,
    deployment: str | None = None,
    path: str | None = None,
    stage: str = "deploy",
) -> dict[str, Any]:
    """`path` (names joined by `:`) is a nested one, which hangs in this `stage` of the first."""
    around = await queries.environment(installation, caller, project, environment)
    if deployment is None:
        found = (await queries.in_environments(installation, [around.key]))[around.key]
        return {name: deployed.shown(each, whole=False) for name, each in found.items()}
    place = Place(project, environment, deployment)
    one = await _one(installation, caller, place)
    if path is None:
        return deployed.shown(one, whole=True)
    return _nested(one, path, stage)


@post(PATH, status_code=200, summary="Add a deployment")
async def state_add(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit: it is declared, with this `name`, `release`, `version`, `inputs` and `providers`."""
    declared.environment(installation, caller, project, environment)
    require(installation, caller, "edit", str(Key("Deployment", project, environment, "_")))
    data = await body(request)
    key = Key("Deployment", project, environment, new_name(data, deployment_name_fault))
    if not text(data, "release"):
        raise wrong("release", "is required, NAMESPACE/APPLICATION without a version")
    secret = await secret_inputs.of_release(installation, data)
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Deployment {key.name!r} already exists in {project}/{environment}.")
        spec = inherited(tree, key) | {
            field: data[field]
            for field in ("release", "version", "inputs", "providers")
            if data.get(field) is not None
        }
        return inputs.wishes(tree, spec, secret)

    done = await commit(
        installation, caller, intent, terms(request, "POST deployment", None, wait, inputs.allowed)
    )
    place = Place(project, environment, key.name)
    if done.written.applied:
        await commands.look(installation, place)
    spec, resource = done.spec(installation, key)
    found = await queries.one(installation, caller, place) or Deployed(place, None, _as_wished(key, spec))
    return answer(done, deployed.shown(found, whole=True), resource.tag if resource else None)


@put(PATH, media_type=MediaType.TEXT, summary="Put the state of a deployment")
async def state_put(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    declare: Declare = False,
    wait: Wait = "10",
) -> Response[Any]:
    """Only what is at `path` is replaced. Any move from any status is taken, and any deployment."""
    await queries.environment(installation, caller, project, environment)
    place = Place(project, environment, deployment)
    if message := deployment_name_fault(deployment):
        raise wrong("deployment", message)
    await commands.require_put(installation, caller, place)
    path, root_stage, state = _update(await body(request), place)
    await commands.put_state(installation, caller, place, path, root_stage, state)
    if declare and place.key not in declared.of_kind(installation, "Deployment"):
        return await _declare(installation, caller, request, place, wait)
    return Response("", status_code=200, media_type=MediaType.TEXT)


@delete(PATH, status_code=200, media_type=MediaType.TEXT, summary="Hard delete of a deployment's state")
async def state_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    wait: Wait = "10",
) -> Response[Any]:
    """No script runs. One that is declared goes with its declaration, in a commit."""
    declared.environment(installation, caller, project, environment)
    place = Place(project, environment, deployment)
    if place.key not in declared.of_kind(installation, "Deployment"):
        await commands.drop_state(installation, caller, place)
        return Response("", status_code=200, media_type=MediaType.TEXT)
    key = Key("Deployment", project, environment, deployment)
    require(installation, caller, "delete", str(key))
    await commands.refuse_busy(installation, place)
    await commands.refuse_consumed(installation, place)
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, commands.absence(place))
        unused(caller, tree, [str(key)])
        return [Wish(key, None), *inputs.gone(tree)]

    told = terms(request, "DELETE deployment-state", key, wait, inputs.allowed, hard=True)
    return answer(await commit(installation, caller, intent, told), None)


@get(
    "/api/v1/state/{project:str}/environments/{environment:str}/providers/",
    summary="Providers in an environment",
)
async def providers(
    installation: Installation, caller: Caller, project: str, environment: str, type: str | None = None
) -> dict[str, list[str]]:
    """Interface → names of the deployments that provide it; `type` is one interface."""
    around = await queries.environment(installation, caller, project, environment)
    found = await queries.providers(installation, around)
    return found if type is None else {name: found[name] for name in found if name == type}


async def _one(installation: Installation, caller: Caller, place: Place) -> Deployed:
    found = await queries.one(installation, caller, place)
    if found is None:
        raise NotFound("NoSuchDeployment", commands.absence(place))
    return found


def _nested(found: Deployed, path: str, stage: str) -> State:
    """What is at a path within a deployment; NotFound where nothing is."""
    if message := deployment.path_fault(path, found.place.name, stage):
        raise wrong("path", message)
    state = found.state or deployment.empty(found.place.name)
    nested = deployment.at_path(state, path, stage)
    if nested is None:
        raise NotFound("NoSuchDeployment", f"There is nothing at {path} in the stage {stage}.")
    return deployment.shown(nested, whole=True)


def _update(data: Mapping[str, Any], place: Place) -> tuple[str, str, State]:
    """(path, root stage, state) of a DeploymentUpdate."""
    path, root_stage = text(data, "path") or place.name, text(data, "root_stage")
    if message := deployment.path_fault(path, place.name, root_stage):
        raise wrong("path", message)
    names = path.split(":")
    if len(names) > MOST_LEVELS:
        raise wrong("path", f"is nested deeper than {MOST_LEVELS} levels")
    for name in names:
        if message := deployment_name_fault(name):
            raise wrong("path", message)
    if data.get("state") is None:
        raise wrong("state", "is required, and is an object")
    read = read_state(data["state"], names[-1])
    if read.faults:
        told = "; ".join(f"{field}: {message}" for field, message in read.faults[:5])
        raise BadRequest("invalid-field", told, dict(read.faults))
    return path, root_stage, read.state


async def _declare(
    installation: Installation, caller: Caller, request: Asked, place: Place, wait: str
) -> Response[Any]:
    """A commit that declares what is there; it starts nothing by itself."""
    key = Key("Deployment", place.project, place.environment, place.name)
    found = await queries.one(installation, caller, place)
    state = (found.state if found else None) or deployment.empty(place.name)
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        if str(key) in tree.declared:
            return []
        return inputs.wishes(tree, inherited(tree, key) | declaration(state), deployment.looks_secret)

    told = terms(request, "PUT deployment-state", None, wait, inputs.allowed)
    return answer(await commit(installation, caller, intent, told), None)


def _as_wished(key: Key, spec: Mapping[str, Any]) -> State:
    """What is not applied yet, as it will be."""
    state = deployment.empty(key.name, spec.get("release"))
    return {**state, "inputs": dict(spec.get("inputs") or {})}
