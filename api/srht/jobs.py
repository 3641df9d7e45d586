"""`/api/jobs…`: jobs submitted, listed, shown, started, cancelled; manifests and artifacts (builds-srht, 3.1–3.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import Parameter
from litestar.response import File, Stream

from api.auth import PUBLIC
from api.paths import asked_for_head, plain
from api.srht import answers, generated, states
from api.srht.bodies import submission
from api.srht.errors import BadRequest
from api.srht.requests import PER_PAGE, READ, WRITE, Asked, body, number, start_of
from api.unchanged import STEADY
from reconciler.access import Caller
from reconciler.commands import jobs as job_commands
from reconciler.commands import manifests as commands
from reconciler.errors import Conflict, Forbidden
from reconciler.installation import Installation
from reconciler.queries import jobs, manifests

DIALECT = "builds.sr.ht"
_TEXT = "text/plain"  # Litestar adds the charset
_UNTOUCHED = {"X-Content-Type-Options": "nosniff"}

Start = Annotated[str, Parameter(description="The id to begin with; -1 or nothing: the newest")]


@post("/api/jobs", opt=WRITE, status_code=200, summary="Submit a manifest")
async def job_add(installation: Installation, caller: Caller, request: Asked) -> dict[str, Any]:
    """The job, safely stored: `queued`, or `pending` with `execute: false`."""
    made = await commands.submit(installation, caller, submission(await body(request)))
    return answers.job(made, installation.url)


@get("/api/jobs", opt=READ | STEADY, summary="The caller's own jobs, newest first")
async def job_list(installation: Installation, caller: Caller, start: Start = "") -> dict[str, Any]:
    """`next` is what to give as `start`."""
    found = await manifests.own(installation, caller, start_of(start), PER_PAGE)
    shown = [answers.job(each, installation.url) for each in found.jobs]
    return answers.page(shown, found.next, found.total)


@get("/api/jobs/{job:str}", opt=READ, summary="A job with its tasks")
async def job_get(installation: Installation, caller: Caller, job: str) -> dict[str, Any]:
    """Also one that was not made of a manifest: its scripts are the tasks."""
    return answers.job(await jobs.load(installation, caller, number(job)), installation.url)


@get("/api/jobs/{job:str}/artifacts", opt=READ, summary="Files that a job keeps")
async def artifact_list(
    installation: Installation, caller: Caller, job: str, start: Start = ""
) -> dict[str, Any]:
    """Of its newest trial, by descending id."""
    first, named = start_of(start), number(job)
    found = sorted(
        await manifests.artifacts(installation, caller, named), key=lambda item: item.number, reverse=True
    )
    rest = [item for item in found if first is None or item.number <= first]
    shown = [answers.artifact(item, named, installation.url) for item in rest[:PER_PAGE]]
    return answers.page(shown, rest[PER_PAGE].number if len(rest) > PER_PAGE else None, len(found))


@get(
    "/api/jobs/{job:str}/artifacts/{mark:str}/{name:str}",
    opt={"open": True},
    media_type="application/octet-stream",
    summary="An artifact's bytes",
)
async def artifact(
    installation: Installation, request: Asked, job: str, mark: str, name: str
) -> Stream | File:
    """Without a token: the address, which the list of artifacts tells, cannot be guessed. Always a download."""
    found, place = await manifests.artifact(installation, number(job), mark, plain(name))
    headers = _UNTOUCHED | {"Digest": f"sha-256={found.digest}"}
    kind = "application/octet-stream"
    if asked_for_head(request.scope):
        return Stream(iter(()), media_type=kind, headers=headers | {"Content-Length": str(found.size)})
    return File(place, filename=Path(found.path).name, media_type=kind, headers=headers)


@get("/api/jobs/{job:str}/manifest", opt={PUBLIC: DIALECT}, media_type=_TEXT, summary="A job's manifest")
async def manifest(installation: Installation, caller: Caller, job: str) -> Response[bytes]:
    """Exactly as it was submitted; generated for a job that was not made of one."""
    found = await jobs.load(installation, caller, number(job))
    facts = found.specification.get("manifest")
    text = generated.manifest(found) if facts is None else str(facts["text"])
    return Response(text.encode(), media_type=_TEXT, headers=_UNTOUCHED)


@post("/api/jobs/{job:str}/start", opt=WRITE, status_code=200, summary="Start a job that waits for it")
async def start(installation: Installation, caller: Caller, job: str) -> dict[str, Any]:
    """400 for any other job, which says what it is."""
    named = number(job)
    try:
        await commands.start(installation, caller, named)
    except Forbidden as error:
        raise NotAuthorizedException(detail=error.message) from error
    except Conflict as error:
        found = await jobs.load(installation, caller, named)
        raise BadRequest([(None, f"job {named} is {states.not_startable(found)} already")]) from error
    return {}


@post("/api/jobs/{job:str}/cancel", opt=WRITE, status_code=200, summary="End a job")
async def cancel(installation: Installation, caller: Caller, job: str) -> dict[str, Any]:
    """One that has ended stays as it is."""
    try:
        await job_commands.abort(installation, caller, number(job))
    except Forbidden as error:
        raise NotAuthorizedException(detail=error.message) from error
    return {}
