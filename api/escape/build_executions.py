"""Executions of builds, and builds started by hand: BX1 to BX6, BX10 and BD8 (escape-state, 6.1, 6.2)."""

from __future__ import annotations

import re
from typing import Any

from litestar import MediaType, Response, get, post, put

from api.auth import AFTERWARDS
from api.escape import execution_bodies
from api.escape.execution_bodies import PageFrom, PageSize, key_of
from api.escape.log_bodies import commit_of
from api.escape.requests import Asked, body, flag, text, wrong
from api.paths import plain
from reconciler.access import Caller, require
from reconciler.commands import execution_logs
from reconciler.commands import executions as commands
from reconciler.commands.executions import BuildOrder
from reconciler.installation import Installation
from reconciler.model.execution import ulid
from reconciler.queries import declared
from reconciler.queries import executions as queries
from reconciler.queries.executions import Listing
from specs.meta import Key
from specs.repository import branch_fault

BUILD = "/api/v1/state/{project:str}/environments/{environment:str}/builds/by-name/{build:str}"
ONE = f"{BUILD}/executions/{{execution:str}}"
_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}", re.ASCII)
_LONGEST_REASON = 1000


@get("/api/v1/builds/executions/", summary="All executions of builds that the caller sees")
async def user_build_executions(
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
    listing = Listing("Build", project, environment, name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get("/api/v1/state/{project:str}/builds/executions/", summary="Executions of a project's builds")
async def project_build_executions(
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
    listing = Listing("Build", project, environment, name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get(f"{BUILD}/executions/", summary="Executions of one build")
async def build_executions(
    installation: Installation,
    caller: Caller,
    project: str,
    environment: str,
    build: str,
    page_size: PageSize = None,
    page_from: PageFrom = None,
    status: str | None = None,
) -> Response[list[dict[str, Any]]]:
    """Newest first."""
    declared.environment(installation, caller, project, environment)
    key = Key("Build", project, environment, plain(build))
    words = f"There is no build {key.name!r} in {project}/{environment}."
    declared.one(installation, caller, key, words)
    listing = Listing("Build", project, environment, key.name, status)
    return await execution_bodies.pages(installation, caller, listing, page_size, page_from)


@get(f"{ONE}/", summary="One execution of a build")
async def build_execution(
    installation: Installation, caller: Caller, project: str, environment: str, build: str, execution: str
) -> dict[str, Any]:
    """Also of a build that is no longer declared."""
    key = key_of("Build", project, environment, plain(build))
    found = await queries.one(installation, caller, key, execution)
    (shown,) = await execution_bodies.shown(installation, [found])
    return shown


@post(f"{ONE}/cancel", status_code=200, media_type=MediaType.TEXT, summary="Ask an execution to end")
async def build_execution_cancel(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    build: str,
    execution: str,
) -> Response[bytes]:
    """TERM, then KILL. Asking twice is no fault; 409 if it has ended."""
    key = key_of("Build", project, environment, plain(build))
    found = await queries.one(installation, caller, key, execution)
    data = await body(request, optional=True)
    await commands.cancel(installation, caller, found.job.number, why_of(data))
    return Response(b"", media_type=MediaType.TEXT)


@put(f"{ONE}/commit", opt=AFTERWARDS, media_type=MediaType.TEXT, summary="Tell which commit is being built")
async def build_execution_commit(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    build: str,
    execution: str,
) -> Response[bytes]:
    """For an external worker. 409 where another one is known already."""
    key = key_of("Build", project, environment, plain(build))
    found = await execution_logs.writable(installation, caller, key, execution)
    await execution_logs.set_commit(installation, caller, found, commit_of(await body(request)))
    return Response(b"", media_type=MediaType.TEXT)


@post(f"{ONE}/retry", status_code=200, summary="Run a finished execution again")
async def build_execution_retry(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    environment: str,
    build: str,
    execution: str,
) -> dict[str, str]:
    """A new execution of the same commit; with `head`, of the newest one."""
    key = key_of("Build", project, environment, plain(build))
    found = await queries.one(installation, caller, key, execution)
    data = await body(request, optional=True)
    made = await commands.retry(installation, caller, found.job.number, head=flag(data, "head"))
    return {"id": ulid(made.id)}


@post(f"{BUILD}/trigger-build", status_code=200, summary="Start a build")
async def build_trigger(
    installation: Installation, caller: Caller, request: Asked, project: str, environment: str, build: str
) -> dict[str, str]:
    """All of the body may be left out."""
    key = key_of("Build", project, environment, plain(build))
    require(installation, caller, "trigger", key)
    data = await body(request, optional=True)
    made = await commands.trigger_build(installation, caller, key, _order(data))
    return {"id": ulid(made.id)}


def why_of(data: dict[str, Any]) -> str:
    """The `reason` of a body."""
    why = text(data, "reason")
    if len(why) > _LONGEST_REASON:
        raise wrong("reason", f"has at most {_LONGEST_REASON} characters")
    return why


def _order(data: dict[str, Any]) -> BuildOrder:
    branch, commit, why = text(data, "branch") or None, text(data, "commit") or None, why_of(data)
    if branch is not None and (fault := branch_fault(branch)):
        raise wrong("branch", fault)
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise wrong("commit", "must be 7 to 40 hexadecimal digits")
    variables = data.get("variables")
    variables = {} if variables is None else variables
    if not isinstance(variables, dict):
        raise wrong("variables", "must be an object of texts")
    for name, value in variables.items():
        if not isinstance(value, str) or "\0" in value:
            raise wrong(f"variables.{name}", "must be a text without NUL")
    steps = data.get("steps")
    if steps is not None and not (
        isinstance(steps, list) and steps and all(type(number) is int and number >= 0 for number in steps)
    ):
        raise wrong("steps", "must be a list of the indexes of steps")
    trigger = {"reason": why} if why else {}
    return BuildOrder(
        branch,
        None if commit is None else commit.lower(),
        variables,
        steps,
        flag(data, "only_changed"),
        trigger,
    )
