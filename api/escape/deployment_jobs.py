"""Deployment jobs of the Escape State Service API: DJ1 to DJ7 (escape-state, 6.4). Each is a declared Deployment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from litestar import MediaType, Response, delete, get, post, put

from api.escape import deployed, deployment_job_bodies, secret_inputs
from api.escape.errors import BadRequest
from api.escape.executions import refuse_active
from api.escape.requests import Asked, Force, Wait, body, new_name, same_name, terms, text, wrong
from api.escape.secret_inputs import SecretInputs
from api.escape.writing import absent, answer, before, commit, there, unused
from api.paths import plain
from reconciler.access import Caller, require
from reconciler.commands import deployments as commands
from reconciler.commands import jobs
from reconciler.errors import Forbidden
from reconciler.installation import Installation
from reconciler.model.deployment import Place
from reconciler.model.execution import status, ulid
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Scope
from reconciler.queries import declared
from reconciler.queries import deployments as queries
from reconciler.queries.deployments import Automation
from specs.meta import Key, deployment_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

JOBS = "/api/v1/deployment-jobs"
OF_PROJECT = f"{JOBS}/by-project/{{project:str}}"
OF_ENVIRONMENT = f"{OF_PROJECT}/by-environment/{{environment:str}}"
ONE = f"{OF_ENVIRONMENT}/by-name/{{deployment:str}}"
_NEVER = Automation(None, "", {})


@get(f"{JOBS}/", summary="All deployment jobs that the caller sees")
async def user_jobs(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """By project, order of environments, and name."""
    around = [
        each
        for project in declared.projects(installation, caller)
        for each in declared.environments(installation, caller, project).values()
    ]
    return await _of_environments(installation, caller, around)


@get(f"{OF_PROJECT}/", summary="Deployment jobs of a project")
async def project_jobs(installation: Installation, caller: Caller, project: str) -> list[dict[str, Any]]:
    """By order of environments, and name."""
    found = declared.project(installation, caller, project)
    around = declared.environments(installation, caller, found)
    return await _of_environments(installation, caller, around.values())


@get(f"{OF_ENVIRONMENT}/", summary="Deployment jobs of an environment")
async def environment_jobs(
    installation: Installation, caller: Caller, project: str, environment: str
) -> list[dict[str, Any]]:
    """By name."""
    found = declared.environment(installation, caller, project, environment)
    return await _of_environments(installation, caller, [found])


@post(f"{OF_PROJECT}/add", status_code=200, summary="Add a deployment job")
async def job_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit. `name`, `environment` and `release` are required."""
    found = declared.project(installation, caller, project)
    if (caller.rights.within(Scope(project)) or Level.READ) < Level.WRITE:
        raise Forbidden(
            "Forbidden", f"adding a deployment takes the role write on an environment of {project}"
        )
    data = await body(request)
    name, environment = new_name(data, deployment_name_fault), text(data, "environment")
    if environment not in declared.environments(installation, caller, found):
        told = f"There is no environment {environment!r} in {project}." if environment else "is required"
        raise BadRequest("invalid-reference", f"environment: {told}", {"environment": told})
    key = Key("Deployment", project, environment, name)
    require(installation, caller, "edit", str(key))
    if not text(data, "release"):
        raise wrong("release", "is required, NAMESPACE/APPLICATION without a version")
    secret = await secret_inputs.of_release(installation, data)
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Deployment {name!r} already exists in {project}/{environment}.")
        defaults = inherited(tree, key)
        spec = defaults | deployment_job_bodies.wanted(data, {}, defaults, "")
        return inputs.wishes(tree, spec, secret)

    done = await commit(
        installation, caller, intent, terms(request, "POST deployment-job", None, wait, inputs.allowed)
    )
    if done.written.applied:
        await commands.look(installation, Place(project, environment, name))
    spec, resource = done.spec(installation, key)
    known_of = await queries.automation(installation, [resource]) if resource else {}
    content = shown(installation, caller, key, spec, resource, known_of.get(str(key), _NEVER))
    return answer(done, content, resource.tag if resource else None)


@get(f"{ONE}/", summary="One deployment job")
async def job_get(
    installation: Installation, caller: Caller, project: str, environment: str, deployment: str
) -> Response[dict[str, Any]]:
    """`ETag` is for `If-Match`."""
    found = declared_job(installation, caller, project, environment, deployment)
    (content,) = await _of_resources(installation, caller, [found])
    return Response(content, headers={"ETag": f'"{found.tag}"'})


@put(f"{ONE}/", summary="Change a deployment job")
async def job_put(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference. What the body leaves out is kept, and null clears it."""
    declared.environment(installation, caller, project, environment)
    key = Key("Deployment", project, environment, plain(deployment))
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, key.name)
    given = text(data, "environment")
    if given not in ("", environment):
        told = f"is {environment!r} in the path, and cannot be changed"
        raise BadRequest("name-mismatch", f"environment: {told}.", {"environment": told})
    known = declared.of_kind(installation, "Deployment").get(str(key))
    secret = await secret_inputs.of_release(installation, {**((known.spec if known else None) or {}), **data})
    given_inputs = data.get("inputs") is not None
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(key))
        spec = deployment_job_bodies.wanted(data, current, inherited(tree, key), key.name)
        return inputs.wishes(tree, spec, lambda name: given_inputs and secret(name))

    done = await commit(
        installation, caller, intent, terms(request, "PUT deployment-job", key, wait, inputs.allowed)
    )
    if done.written.applied:
        await commands.look(installation, Place(project, environment, key.name))
    spec, resource = done.spec(installation, key)
    known_of = await queries.automation(installation, [resource]) if resource else {}
    content = shown(installation, caller, key, spec, resource, known_of.get(str(key), _NEVER))
    return answer(done, content, resource.tag if resource else None)


@delete(f"{ONE}/", status_code=200, media_type=MediaType.TEXT, summary="Remove a deployment job")
async def job_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    force: Force = False,
    wait: Wait = "10",
) -> Response[Any]:
    """A commit; what is deployed is left or destroyed, as `on_delete` says. What others need stays, also by force."""
    declared.environment(installation, caller, project, environment)
    key = Key("Deployment", project, environment, plain(deployment))
    require(installation, caller, "delete", str(key))
    await commands.refuse_consumed(installation, Place(project, environment, key.name))
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(key))
        unused(caller, tree, [str(key)])
        return [Wish(key, None), *inputs.gone(tree)]

    active = await refuse_active(installation, [str(key)], force=force)
    done = await commit(
        installation, caller, intent, terms(request, "DELETE deployment-job", key, wait, inputs.allowed)
    )
    if done.written.branch is None:
        await jobs.cancel_all(installation, caller, active)
    return answer(done, None)


def declared_job(
    installation: Installation, caller: Caller, project: str, environment: str, deployment: str
) -> Resource:
    """The Deployment that a path means."""
    declared.environment(installation, caller, project, environment)
    key = Key("Deployment", project, environment, plain(deployment))
    return declared.one(installation, caller, key, _absence(key))


def shown(
    installation: Installation,
    caller: Caller,
    key: Key,
    spec: Mapping[str, Any],
    resource: Resource | None,
    known: Automation,
) -> dict[str, Any]:
    """A deployment job as the caller sees it (7.5)."""
    level = caller.rights.at(Scope(key.project, key.environment)) or Level.READ
    head = {
        "id": resource.uuid if resource else "",
        "name": key.name,
        "project": key.project,
        "environment": key.environment,
        "status": "new" if known.newest is None else status(known.newest[1]),
        "sync": deployed.sync(resource),
        "deployed_version": known.version,
        "errands": [
            {
                "name": name,
                "description": each.get("description") or "",
                "inputs": each.get("inputs") or [],
            }
            for name, each in sorted(known.errands.items())
        ],
        "last_execution_id": "" if known.newest is None else ulid(known.newest[0]),
        "permission": level.word,
    }
    return head | deployment_job_bodies.shown(spec, key.name)


async def _of_environments(
    installation: Installation, caller: Caller, environments: Iterable[Resource]
) -> list[dict[str, Any]]:
    everything = declared.by_environment(installation, "Deployment")
    found = [job for each in environments for job in everything.get(each.key, {}).values()]
    return await _of_resources(installation, caller, found)


async def _of_resources(
    installation: Installation, caller: Caller, found: Sequence[Resource]
) -> list[dict[str, Any]]:
    known = await queries.automation(installation, found)
    return [
        shown(
            installation,
            caller,
            Key("Deployment", each.project, each.environment, each.name),
            each.spec or {},
            each,
            known[each.key],
        )
        for each in found
    ]


def _absence(key: Key) -> str:
    return f"There is no deployment {key.name!r} in {key.project}/{key.environment}."
