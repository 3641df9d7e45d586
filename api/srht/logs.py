"""`/logs/…`: what the set-up and each task have printed so far (builds-srht, 3.9)."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from api import log_answers
from api.auth import PUBLIC
from api.srht.jobs import DIALECT
from api.srht.parts import Part, view
from api.srht.requests import Asked, number
from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.queries import jobs, logs
from reconciler.queries.logs import Selection

_ANYBODY = {PUBLIC: DIALECT}


@get("/logs/{job:str}/log", opt=_ANYBODY, media_type=log_answers.MEDIA_TYPE, summary="The log of the set-up")
async def setup_log(installation: Installation, caller: Caller, request: Asked, job: str) -> Response[Any]:
    """What there is; a `Range` may also count from the end."""
    found = await jobs.load(installation, caller, number(job))
    return await _log(installation, request, found.number, view(found).set_up)


# The router looks no further once a name of its own fits: a task may be called log.
@get(
    ["/logs/{job:str}/{task:str}/log", "/logs/{job:str}/log/log"],
    opt=_ANYBODY,
    media_type=log_answers.MEDIA_TYPE,
    summary="The log of a task",
)
async def task_log(
    installation: Installation, caller: Caller, request: Asked, job: str, task: str = "log"
) -> Response[Any]:
    """What there is; 404 before it has begun."""
    found = await jobs.load(installation, caller, number(job))
    part = next((part for part in view(found).tasks if part.name == task), None)
    return await _log(installation, request, found.number, part)


async def _log(installation: Installation, request: Asked, job: int, part: Part | None) -> Response[Any]:
    if part is None or not part.begun:
        raise NotFound("NoSuchLog", f"job {job} has no such log, or not yet")
    selection = Selection(part.task, part.trial, part.script)
    text = await logs.now(installation, request.user, job, selection)
    return await log_answers.answer(request, text)
