"""Pipelines of the Escape State Service API: PL1 to PL8 (escape-state, 6.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import MediaType, Request, Response, delete, get, post, put
from litestar.exceptions import NotFoundException

from api.escape import pipeline_bodies
from api.escape.build_executions import why_of
from api.escape.requests import Asked, Force, Wait, body, decoded, new_name, same_name, terms
from api.escape.writing import absent, answer, before, commit, there, unused
from api.paths import plain
from reconciler.access import Caller, require
from reconciler.commands import pipelines as commands
from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.model.pipeline import Run
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Scope
from reconciler.queries import declared
from reconciler.queries import pipelines as queries
from specs.meta import Key, plain_name_fault
from specs.tree import Tree
from specs.write import Wish, inherited

_LARGEST_PAYLOAD = 64 << 10


@get("/api/v1/pipelines/", summary="All pipelines that the caller sees")
async def user_pipelines(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """By project and name."""
    return await _all(installation, caller, queries.visible(installation, caller))


@get("/api/v1/pipelines/by-project/{project:str}/", summary="Pipelines of a project")
async def project_pipelines(installation: Installation, caller: Caller, project: str) -> list[dict[str, Any]]:
    """By name."""
    of = declared.project(installation, caller, project)
    return await _all(
        installation, caller, list(declared.inside(installation, caller, "Pipeline", of).values())
    )


@post("/api/v1/pipelines/by-project/{project:str}/add", status_code=200, summary="Add a pipeline")
async def pipeline_add(
    installation: Installation, caller: Caller, request: Asked, project: str, wait: Wait = "10"
) -> Response[dict[str, Any]]:
    """A commit. `name` is required; the codes of its triggers are made by the server."""
    declared.project(installation, caller, project)
    require(installation, caller, "edit", str(Key("Pipeline", project, None, "_")))
    data = await body(request)
    key = Key("Pipeline", project, None, new_name(data, plain_name_fault))

    def intent(tree: Tree) -> list[Wish]:
        absent(installation, tree, key, f"Pipeline {key.name!r} already exists in {project}.")
        defaults = inherited(tree, key)
        extensions = {name: value for name, value in defaults.items() if name in pipeline_bodies.EXTENSIONS}
        wanted = extensions | pipeline_bodies.wanted(data, {}, defaults, {})
        return [Wish(key, pipeline_bodies.checked(wanted, key))]

    done = await commit(installation, caller, intent, terms(request, "POST pipeline", None, wait))
    spec, resource = done.spec(installation, key)
    content = _shown(installation, caller, key, spec, resource, None)
    return answer(done, content, resource.tag if resource else None)


@get("/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}/", summary="One pipeline")
async def pipeline_get(
    installation: Installation, caller: Caller, project: str, pipeline: str
) -> Response[dict[str, Any]]:
    """States are those of its newest run. `ETag` is for `If-Match`."""
    found, _ = pipeline_of(installation, caller, project, pipeline)
    (content,) = await _all(installation, caller, [found])
    return Response(content, headers={"ETag": f'"{found.tag}"'})


@put("/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}/", summary="Replace a pipeline")
async def pipeline_put(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    wait: Wait = "10",
) -> Response[dict[str, Any]]:
    """A commit, if there is a difference. Runs in flight go on with what they began with."""
    found, key = pipeline_of(installation, caller, project, pipeline)
    require(installation, caller, "edit", str(key))
    data = await body(request)
    same_name(data, key.name)
    ids = {
        queries.trigger_id(installation, found.uuid, trigger["name"]): trigger["name"]
        for trigger in (found.spec or {}).get("triggers") or ()
    }

    def intent(tree: Tree) -> list[Wish]:
        current = before(installation, tree, key, _absence(key))
        wanted = pipeline_bodies.wanted(data, current, inherited(tree, key), ids)
        return [Wish(key, pipeline_bodies.checked(wanted, key))]

    done = await commit(installation, caller, intent, terms(request, "PUT pipeline", key, wait))
    spec, resource = done.spec(installation, key)
    newest = await queries.newest(installation, [str(key)])
    content = _shown(installation, caller, key, spec, resource, newest.get(str(key)))
    return answer(done, content, resource.tag if resource else None)


@delete(
    "/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}/",
    status_code=200,
    media_type=MediaType.TEXT,
    summary="Delete a pipeline",
)
async def pipeline_delete(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    force: Force = False,
    wait: Wait = "10",
) -> Response[Any]:
    """A commit. Its runs stay readable; what another pipeline starts stays, also with `force`."""
    _, key = pipeline_of(installation, caller, project, pipeline)
    require(installation, caller, "delete", str(key))
    if await commands.live(installation, key) and not force:
        raise Conflict("InUse", "An execution is active; wait, or give force=true to cancel it.")

    def intent(tree: Tree) -> list[Wish]:
        there(installation, tree, key, _absence(key))
        unused(caller, tree, [str(key)])
        return [Wish(key, None)]

    done = await commit(installation, caller, intent, terms(request, "DELETE pipeline", key, wait))
    if done.written.branch is None and force:
        await commands.cancel_all(installation, caller, key)
    return answer(done, None)


@post(
    "/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}/trigger",
    status_code=200,
    summary="Start a run of a pipeline",
)
async def pipeline_trigger(
    installation: Installation, caller: Caller, request: Asked, project: str, pipeline: str
) -> dict[str, str]:
    """`reason` and `payload` may be given; both are kept with the run."""
    _, key = pipeline_of(installation, caller, project, pipeline)
    require(installation, caller, "trigger", str(key))
    data = await body(request, optional=True)
    run = await commands.trigger(installation, caller, key, why_of(data), data.get("payload"))
    return {"id": ulid(run.id)}


@post(
    "/api/v1/pipelines/by-project/{project:str}/pipelines/webhook/{code:str}",
    opt={"open": True},
    status_code=200,
    request_max_body_size=_LARGEST_PAYLOAD,
    summary="Start a run from outside, by its code",
)
async def pipeline_webhook(
    installation: Installation, request: Request[Any, Any, Any], project: str, code: str
) -> dict[str, str]:
    """The body, any JSON, is kept as the run's payload. Who guesses codes is slowed down."""
    address = request.client.host if request.client else None
    attempts = request.app.state.credentials.attempts
    attempts.check((address, None))
    raw = await request.body()
    payload = decoded(raw) if raw else None
    run = await commands.by_code(installation, project, plain(code), payload, address)
    if run is None:
        attempts.wrong((address, None))
        raise NotFoundException("There is nothing to start under this code.")
    return {"id": ulid(run.id)}


def pipeline_of(
    installation: Installation, caller: Caller, project: str, pipeline: str
) -> tuple[Resource, Key]:
    """A pipeline that the caller sees, and its KEY; NotFound."""
    declared.project(installation, caller, project)
    key = Key("Pipeline", project, None, plain(pipeline))
    return declared.one(installation, caller, key, _absence(key)), key


def _absence(key: Key) -> str:
    return f"There is no pipeline {key.name!r} in {key.project}."


async def _all(installation: Installation, caller: Caller, found: list[Resource]) -> list[dict[str, Any]]:
    newest = await queries.newest(installation, [each.key for each in found])
    return [
        _shown(
            installation,
            caller,
            Key("Pipeline", each.project, None, each.name),
            each.spec or {},
            each,
            newest.get(each.key),
        )
        for each in found
    ]


def _shown(
    installation: Installation,
    caller: Caller,
    key: Key,
    spec: Mapping[str, Any],
    resource: Resource | None,
    newest: Run | None,
) -> dict[str, Any]:
    """A pipeline as the caller sees it (7.9). Codes and the key of signatures are for those who may write."""
    phases = pipeline_bodies.declared_phases(spec, newest)
    status = newest.status.value if newest is not None else "new"
    writes = level_of(caller, str(key.project)) >= Level.WRITE
    uuid = resource.uuid if resource is not None else ""
    triggers = [
        {
            "id": queries.trigger_id(installation, uuid, each["name"]) if uuid else "",
            "type": each["type"],
            "name": each["name"],
            "webhooktoken": queries.trigger_code(installation, uuid, each["name"]) if uuid and writes else "",
        }
        for each in spec.get("triggers") or ()
    ]
    more = {
        "name": key.name,
        "project": key.project,
        "permission": level_of(caller, str(key.project)).word,
        "triggers": triggers,
        "webhook_secret": queries.signing_secret(installation, uuid) if uuid and writes else "",
    }
    return pipeline_bodies.shown(spec, phases, status, more)


def level_of(caller: Caller, project: str) -> Level:
    """The caller's role on a project that it sees."""
    return caller.rights.at(Scope(project)) or Level.READ
