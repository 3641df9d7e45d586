"""`/health`, `/reconciler/status`, `…/resources`, `…/schedules`, `…/why`, `…/schema.json`."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, get
from litestar.params import Parameter

from api.native.filters import one_of
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.model.status import Health, Sync
from reconciler.queries import executors, resources, rights, schedules, standing, status, why
from specs.kinds import KINDS
from specs.schema import file_schema

Limit = Annotated[int, Parameter(ge=1, le=1000)]


@get("/health", opt={"open": True}, summary="Liveness with revision and checks")
async def health(installation: Installation) -> Response[dict[str, Any]]:
    """Open without a token. 200 for `ok` and `degraded`, 503 for `unavailable`."""
    answer = await status.health(installation)
    if answer["status"] == "unavailable":
        return Response(answer, status_code=503, headers={"Retry-After": "2"})
    return Response(answer)


@get("/reconciler/status", summary="Source, counts, what is held and what is wrong")
async def overview(installation: Installation, caller: Caller) -> dict[str, Any]:
    """The whole at a glance."""
    return await status.status(installation, caller)


@get("/reconciler/resources", summary="Resources by KEY")
async def resource_list(
    installation: Installation,
    caller: Caller,
    kind: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    sync: str | None = None,
    health: str | None = None,
    prefix: Annotated[str | None, Parameter(max_length=500, description="what the KEY begins with")] = None,
    limit: Limit = 1000,
    after: str | None = None,
) -> dict[str, Any]:
    """A page of what is declared, narrowed by any of the filters; Deployments alone with what stands of them."""
    one_of("kind", kind, KINDS)
    one_of("state of sync", sync, Sync)
    one_of("health", health, Health)
    wanted = resources.Filter(kind, project, environment, sync, health, prefix)
    found = resources.find(installation, caller, wanted, limit, after)
    return await standing.of_deployments(installation, found) if kind == "Deployment" else found


@get("/reconciler/resources/{key:path}", summary="One resource whole")
async def resource(installation: Installation, caller: Caller, key: str) -> Response[dict[str, Any]]:
    """With its effective specification, the place that each field comes from, and what has become of it.

    `ETag` is for `If-Match`.
    """
    found = await standing.of_one(installation, await resources.get(installation, caller, key.lstrip("/")))
    return Response(found, headers={"ETag": f'"{found["tag"]}"'})


@get("/reconciler/schedules", summary="Schedules with their next times")
async def schedule_list(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Every schedule trigger."""
    return await schedules.upcoming(installation, caller)


@get("/reconciler/executors", summary="Executors, who serves them, and what waits for a place")
async def executor_list(installation: Installation, caller: Caller, limit: Limit = 100) -> dict[str, Any]:
    """`items` with load and workers; `queue`: the oldest trials that wait, and for what; `waiting`: how many."""
    return await executors.executors(installation, caller, limit)


@get("/reconciler/why/{key:path}", summary="Why something does not run")
async def why_key(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """The causes for one KEY; none means that nothing stands in the way."""
    return await why.why(installation, caller, key.lstrip("/"))


@get("/reconciler/can/{verb:str}/{key:path}", summary="May I, and why not")
async def can(installation: Installation, caller: Caller, verb: str, key: str) -> dict[str, Any]:
    """Which role a verb on a KEY takes, and which one the caller has."""
    return rights.can(installation, caller, verb, key.lstrip("/"))


@get("/reconciler/whoami", summary="Who the token speaks for")
async def whoami(caller: Caller) -> dict[str, Any]:
    """Subject, and the roles that the token leaves."""
    return rights.whoami(caller)


@get("/reconciler/schema.json", opt={"open": True}, summary="JSON Schema of a specification file")
async def schema() -> dict[str, Any]:
    """For editors; open without a token."""
    return file_schema()
