"""`/api/job-group…`: jobs that are started, cancelled and told of together (builds-srht, 3.8)."""

from __future__ import annotations

from typing import Any

from litestar import get, post

from api.srht import answers, bodies
from api.srht.requests import READ, WRITE, Asked, body, number
from reconciler.access import Caller
from reconciler.commands import job_groups as commands
from reconciler.installation import Installation
from reconciler.queries import job_groups as queries


@post("/api/job-group", opt=WRITE, status_code=200, summary="Make a group of jobs that wait for a start")
async def group_add(installation: Installation, caller: Caller, request: Asked) -> dict[str, Any]:
    """All of them, or 400 and none; with `execute: true` they start."""
    made = await commands.create(installation, caller, bodies.group(await body(request)))
    return answers.group(made)


@get("/api/job-group/{group:str}", opt=READ, summary="A group with its jobs")
async def group_get(installation: Installation, caller: Caller, group: str) -> dict[str, Any]:
    """Its owner's only."""
    return answers.group(await queries.get(installation, caller, number(group)))


@post("/api/job-group/{group:str}/start", opt=WRITE, status_code=200, summary="Start a group's jobs")
async def group_start(installation: Installation, caller: Caller, group: str) -> dict[str, Any]:
    """Those that wait for it."""
    return answers.group(await commands.start(installation, caller, number(group)))


@post("/api/job-group/{group:str}/cancel", opt=WRITE, status_code=200, summary="End a group's jobs")
async def group_cancel(installation: Installation, caller: Caller, group: str) -> dict[str, Any]:
    """Those that have ended stay as they are."""
    return answers.group(await commands.cancel(installation, caller, number(group)))
