"""Executions of deployment jobs: DX1 to DX3, DX7 to DX9 (escape-state, 6.3)."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Response, get, post

from api.escape import execution_bodies
from api.escape.build_executions import why_of
from api.escape.deployment_jobs import JOBS, OF_PROJECT, ONE, declared_job
from api.escape.execution_bodies import PageFrom, PageSize, key_of
from api.escape.requests import Asked, body
from api.paths import plain
from reconciler.access import Caller
from reconciler.commands import executions as commands
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.queries import declared
from reconciler.queries import executions as queries
from reconciler.queries.executions import Listing

_KIND = "Deployment"
_EXECUTION = f"{ONE}/executions/{{execution:str}}"


@get(f"{JOBS}/executions/", summary="All executions of deployment jobs that the caller sees")
async def user_executions(
    installation: Installation,
    caller: Caller,
    page_size: PageSize = None,
    page_from: PageFrom = None,
    status: str | None = None,
    project: str | None = None,
    environment: str | None = None,
    name: str | None = None,
) -> Response[list[dict[str, Any]]]:
    """Newest first."""
    listing = Listing(_KIND, project, environment, name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get(f"{OF_PROJECT}/executions/", summary="Executions of a project's deployment jobs")
async def project_executions(
    installation: Installation,
    caller: Caller,
    project: str,
    page_size: PageSize = None,
    page_from: PageFrom = None,
    status: str | None = None,
    environment: str | None = None,
    name: str | None = None,
) -> Response[list[dict[str, Any]]]:
    """Newest first."""
    declared.project(installation, caller, project)
    listing = Listing(_KIND, project, environment, name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get(f"{ONE}/executions/", summary="Executions of one deployment job")
async def job_executions(
    installation: Installation,
    caller: Caller,
    project: str,
    environment: str,
    deployment: str,
    page_size: PageSize = None,
    page_from: PageFrom = None,
    status: str | None = None,
) -> Response[list[dict[str, Any]]]:
    """Newest first."""
    found = declared_job(installation, caller, project, environment, deployment)
    listing = Listing(_KIND, project, environment, found.name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get(f"{_EXECUTION}/", summary="One execution of a deployment job")
async def job_execution(
    installation: Installation,
    caller: Caller,
    project: str,
    environment: str,
    deployment: str,
    execution: str,
) -> dict[str, Any]:
    """Also of a job that is no longer declared."""
    key = key_of(_KIND, project, environment, plain(deployment))
    found = await queries.one(installation, caller, key, execution)
    (shown,) = await execution_bodies.shown(installation, [found])
    return shown


@post(f"{_EXECUTION}/cancel", status_code=200, media_type=MediaType.TEXT, summary="Ask an execution to end")
async def job_execution_cancel(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    deployment: str,
    execution: str,
) -> Response[bytes]:
    """TERM, then KILL. Asking twice is no fault; 409 if it has ended."""
    data = await body(request, optional=True)
    key = key_of(_KIND, project, environment, plain(deployment))
    found = await queries.one(installation, caller, key, execution)
    await commands.cancel(installation, caller, found.job.number, why_of(data))
    return Response(b"", media_type=MediaType.TEXT)


@post(f"{_EXECUTION}/retry", status_code=200, summary="Repeat a finished execution")
async def job_execution_retry(
    installation: Installation,
    caller: Caller,
    project: str,
    environment: str,
    deployment: str,
    execution: str,
) -> dict[str, str]:
    """A new one of the same type, version and inputs."""
    key = key_of(_KIND, project, environment, plain(deployment))
    found = await queries.one(installation, caller, key, execution)
    made = await commands.retry(installation, caller, found.job.number)
    return {"id": ulid(made.id)}
