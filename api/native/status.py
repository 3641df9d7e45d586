"""`/health`, `/reconciler/status`, `…/resources`, `…/schedules`, `…/why`, `…/schema.json`."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, get
from litestar.params import Parameter

from reconciler.installation import Installation
from reconciler.queries import resources, schedules, status, why
from specs.schema import file_schema

Limit = Annotated[int, Parameter(ge=1, le=1000)]


@get("/health", opt={"open": True}, summary="Liveness with revision and checks")
async def health(installation: Installation) -> Response[dict[str, Any]]:
    """Open without a token. 200 for `ok` and `degraded`, 503 for `unavailable`."""
    answer = await status.health(installation)
    return Response(answer, status_code=503 if answer["status"] == "unavailable" else 200)


@get("/reconciler/status", summary="Source, counts, what is held and what is wrong")
async def overview(installation: Installation) -> dict[str, Any]:
    """The whole at a glance."""
    return await status.status(installation)


@get("/reconciler/resources", summary="Resources by KEY")
async def resource_list(
    installation: Installation,
    kind: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    sync: str | None = None,
    health: str | None = None,
    limit: Limit = 1000,
    after: str | None = None,
) -> dict[str, Any]:
    """A page of what is declared, narrowed by any of the filters."""
    return resources.find(
        installation, resources.Filter(kind, project, environment, sync, health), limit, after
    )


@get("/reconciler/resources/{key:path}", summary="One resource whole")
async def resource(installation: Installation, key: str) -> dict[str, Any]:
    """With its effective specification and the place that each field comes from."""
    return resources.get(installation, key.lstrip("/"))


@get("/reconciler/schedules", summary="Schedules with their next times")
async def schedule_list(installation: Installation) -> dict[str, Any]:
    """Every schedule trigger."""
    return await schedules.upcoming(installation)


@get("/reconciler/why/{key:path}", summary="Why something does not run")
async def why_key(installation: Installation, key: str) -> dict[str, Any]:
    """The causes for one KEY; none means that nothing stands in the way."""
    return await why.why(installation, key.lstrip("/"))


@get("/reconciler/schema.json", opt={"open": True}, summary="JSON Schema of a specification file")
async def schema() -> dict[str, Any]:
    """For editors; open without a token."""
    return file_schema()
