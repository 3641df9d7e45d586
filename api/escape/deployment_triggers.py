"""Deployment jobs started by hand: DJ8 to DJ11 (escape-state, 6.4, 9.5).

What is deployed by hand is what Git says. Whoever wants something else has it committed with the same call, or, where
nobody would put it back, deploys it as a deviation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Response, post

from api.escape import secret_inputs
from api.escape.build_executions import why_of
from api.escape.deployment_jobs import ONE, declared_job
from api.escape.errors import BadRequest
from api.escape.requests import Asked, Wait, body, flag, terms, text, wrong
from api.escape.secret_inputs import SecretInputs
from api.escape.writing import Done, answer, before, commit, there, unused
from reconciler.access import Caller, require
from reconciler.commands import deployments
from reconciler.commands import executions as commands
from reconciler.commands.executions import Asked as Wanted
from reconciler.commands.executions import Made
from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.model.deployment import of
from reconciler.model.execution import Type, ulid
from reconciler.model.resource import Resource
from reconciler.queries import deployments as queries
from specs.meta import Key
from specs.release import wanted_version_fault
from specs.tree import Tree
from specs.write import Wish


@dataclass(frozen=True, slots=True)
class Order:
    """A DeployTrigger: what of the declared is to be other than it is, and how that is meant."""

    other: Mapping[str, Any]
    commit: bool
    override: bool
    trigger: Mapping[str, Any]


@post(f"{ONE}/trigger", status_code=200, summary="Deploy now")
async def job_trigger(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """What is declared; with `commit` another version, which is committed first; with `override` as a deviation."""
    found = declared_job(installation, caller, project, environment, deployment)
    require(installation, caller, "trigger", found.key)
    order = await _order(installation, found, await body(request, optional=True))
    if not order.other:
        made = await commands.trigger_deployment(
            installation, caller, found.key, Type.DEPLOY, trigger=order.trigger
        )
        return Response(_id(made))
    if not order.commit:
        _may_deviate(found, order)
        wanted = Wanted(**order.other)
        made = await commands.trigger_deployment(
            installation, caller, found.key, Type.DEPLOY, wanted, order.trigger
        )
        return Response(_id(made))
    wanted = Wanted(**order.other)
    await deployments.may_start(installation, found, Type.DEPLOY, wanted)
    done = await _edited(installation, caller, request, found, order.other, wait)
    if done.written.branch is not None:
        return answer(done, None)
    begun = commands.trigger_deployment(installation, caller, found.key, Type.DEPLOY, wanted, order.trigger)
    return answer(done, await _begun(installation, found, Type.DEPLOY, begun))


@post(f"{ONE}/trigger/destroy", status_code=200, summary="Run the destroy stage")
async def job_destroy(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """Commits `suspend: true` first, unless `suspend` is false; with `delete`, the declaration is removed instead."""
    found = declared_job(installation, caller, project, environment, deployment)
    require(installation, caller, "trigger", found.key)
    data = await body(request, optional=True)
    delete, suspend = flag(data, "delete"), data.get("suspend") is None or flag(data, "suspend")
    trigger = _trigger(data)
    await deployments.may_start(installation, found, Type.DESTROY)
    if delete:
        done = await _removed(installation, caller, request, found, wait)
        if done.written.branch is not None:
            return answer(done, None)
        begun = deployments.destroy_removed(installation, caller, found, trigger)
        return answer(done, await _begun(installation, found, Type.DESTROY, begun))
    if not suspend:
        made = await commands.trigger_deployment(
            installation, caller, found.key, Type.DESTROY, trigger=trigger
        )
        return Response(_id(made))
    done = await _edited(installation, caller, request, found, {"suspend": True}, wait)
    if done.written.branch is not None:
        return answer(done, None)
    made = await commands.trigger_deployment(installation, caller, found.key, Type.DESTROY, trigger=trigger)
    return answer(done, _id(made))


@post(f"{ONE}/trigger/errand", status_code=200, summary="Run an errand")
async def job_errand(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
) -> dict[str, str]:
    """`errand_name` of what is deployed, with `errand_inputs`; `name` and `inputs` mean the same."""
    found = declared_job(installation, caller, project, environment, deployment)
    require(installation, caller, "trigger", found.key)
    data = await body(request)
    name = text(data, "errand_name") or text(data, "name")
    if not name:
        raise wrong("errand_name", "is required, and is a text")
    given = data.get("errand_inputs") if data.get("errand_inputs") is not None else data.get("inputs")
    if given is not None and not isinstance(given, dict):
        raise wrong("errand_inputs", "must be an object")
    wanted = Wanted(errand_name=name, errand_inputs=given or {})
    made = await commands.trigger_deployment(
        installation, caller, found.key, Type.ERRAND, wanted, _trigger(data)
    )
    return _id(made)


@post(f"{ONE}/trigger/smoke", status_code=200, summary="Run smoke tests again")
async def job_smoke(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
) -> dict[str, str]:
    """Of what is deployed."""
    found = declared_job(installation, caller, project, environment, deployment)
    require(installation, caller, "trigger", found.key)
    data = await body(request, optional=True)
    made = await commands.trigger_deployment(
        installation, caller, found.key, Type.SMOKE, trigger=_trigger(data)
    )
    return _id(made)


async def _order(installation: Installation, job: Resource, data: Mapping[str, Any]) -> Order:
    """What a body wants that is not declared."""
    spec = job.spec or {}
    other: dict[str, Any] = {}
    version = text(data, "version")
    if version and (fault := wanted_version_fault(version)):
        raise wrong("version", fault)
    if version and version != spec["version"]:
        release = str(spec["release"] or job.name)
        found = await queries.release_version(installation, release, version)
        if found is None:
            told = f"there is no release of {release} with the version {version}"
            raise BadRequest("invalid-reference", f"version: {told}.", {"version": told})
        if found != await queries.release_version(installation, release, spec["version"]):
            other["version"] = version
    for field in ("inputs", "providers"):
        value = data.get(field)
        if value is not None and not isinstance(value, dict):
            raise wrong(field, "must be an object")
        if value is not None and {**spec[field], **value} != spec[field]:
            other[field] = {**spec[field], **value}
    return Order(other, flag(data, "commit"), flag(data, "override"), _trigger(data))


def _trigger(data: Mapping[str, Any]) -> dict[str, Any]:
    why = why_of(dict(data))
    return {"reason": why} if why else {}


def _may_deviate(job: Resource, order: Order) -> None:
    """Conflict where Git says otherwise, and where it would be put back at once."""
    spec, what = job.spec or {}, " and ".join(order.other)
    if not order.override:
        raise Conflict(
            "DeclaredVersion",
            f"Git declares another {what} at {job.location}; give commit=true to change it there, or override=true.",
        )
    if spec["reconcile"] == "auto" and not spec["suspend"]:
        raise Conflict(
            "DeclaredVersion",
            f"What is declared at {job.location} would be put back at once, as it says `reconcile: auto`; "
            "give commit=true.",
        )


async def _edited(
    installation: Installation,
    caller: Caller,
    request: Asked,
    job: Resource,
    fields: Mapping[str, Any],
    wait: str,
) -> Done:
    """A commit that sets these fields of a job, if they are not so already."""
    key = Key("Deployment", job.project, job.environment, job.name)
    secret = await secret_inputs.of_release(installation, {**(job.spec or {}), **fields})
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        spec = {**before(installation, tree, key, f"There is no {key}."), **fields}
        return inputs.wishes(tree, spec, secret) if "inputs" in fields else [Wish(key, spec)]

    told = terms(request, "POST deployment-trigger", None, wait, inputs.allowed)
    return await commit(installation, caller, intent, told)


async def _removed(
    installation: Installation, caller: Caller, request: Asked, job: Resource, wait: str
) -> Done:
    """A commit that removes the declaration of a job."""
    key = Key("Deployment", job.project, job.environment, job.name)
    inputs = SecretInputs(installation, key)

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, f"There is no {key}.")
        unused(caller, tree, [str(key)])
        return [Wish(key, None), *inputs.gone(tree)]

    told = terms(request, "POST deployment-destroy", None, wait, inputs.allowed)
    return await commit(installation, caller, intent, told)


async def _begun(
    installation: Installation, job: Resource, kind: Type, begun: Awaitable[Made]
) -> dict[str, str]:
    """The execution that follows a commit; that may have had it started already."""
    try:
        return _id(await begun)
    except Conflict as error:
        found = await queries.execution_at(installation, of(job.key), kind)
        if error.reason != "DeploymentBusy" or found is None:
            raise
        return {"id": ulid(found)}


def _id(made: Made) -> dict[str, str]:
    return {"id": ulid(made.id)}
