"""Runs of pipelines of the Escape State Service API: PX1 to PX7 and PL9 (escape-state, 6.7, 10.5)."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs

from litestar import MediaType, Response, get, post
from litestar.params import Parameter

from api import pages
from api.escape import pipeline_bodies
from api.escape.errors import BadRequest
from api.escape.pipelines import level_of, pipeline_of
from api.escape.requests import Asked, body, decoded, flag, text
from api.paths import asked_for_head, plain
from reconciler.access import Caller, is_asked
from reconciler.commands import pipelines as commands
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.execution import from_ulid, ulid
from reconciler.model.pipeline import APPROVE, DISAPPROVE, Place, Run, Status
from reconciler.queries import declared
from reconciler.queries import pipelines as queries
from reconciler.queries.pipelines import Wanted
from specs.meta import Key

_OF_ONE = "/api/v1/pipelines/by-project/{project:str}/by-name/{pipeline:str}/executions"
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 500

Size = Annotated[str, Parameter(description="How many at most: 1 to 500")]
From = Annotated[str, Parameter(description="Only those with an id before this one")]
State = Annotated[str, Parameter(description="Only those in this state")]
Comment = Annotated[str, Parameter(max_length=2000, description="Kept with the decision")]
Confirm = Annotated[str, Parameter(description="1: decide at once, also for a browser")]


@get(f"{_OF_ONE}/", summary="Runs of a pipeline")
async def pipeline_executions(
    installation: Installation,
    caller: Caller,
    project: str,
    pipeline: str,
    page_size: Size = "",
    page_from: From = "",
    status: State = "",
) -> Response[list[dict[str, Any]]]:
    """Newest first."""
    _, key = pipeline_of(installation, caller, project, pipeline)
    wanted = Wanted(str(key), status=_status(status), before=_before(page_from), limit=_size(page_size))
    return await _page(installation, caller, wanted)


@get("/api/v1/pipelines/by-project/{project:str}/executions/", summary="Runs of all pipelines of a project")
async def project_executions(
    installation: Installation,
    caller: Caller,
    project: str,
    page_size: Size = "",
    page_from: From = "",
    status: State = "",
    name: str = "",
) -> Response[list[dict[str, Any]]]:
    """Newest first; `name` of a pipeline narrows them."""
    declared.project(installation, caller, project)
    wanted = Wanted(None, {project}, name or None, _status(status), _before(page_from), _size(page_size))
    return await _page(installation, caller, wanted)


@get("/api/v1/pipelines/executions/", summary="All runs that the caller sees")
async def user_executions(
    installation: Installation,
    caller: Caller,
    page_size: Size = "",
    page_from: From = "",
    status: State = "",
    project: str = "",
    name: str = "",
) -> Response[list[dict[str, Any]]]:
    """Newest first; `project` and `name` of a pipeline narrow them."""
    projects = {project} if project else None
    wanted = Wanted(None, projects, name or None, _status(status), _before(page_from), _size(page_size))
    return await _page(installation, caller, wanted)


@get(f"{_OF_ONE}/{{execution:str}}/", summary="One run of a pipeline")
async def pipeline_execution(
    installation: Installation, caller: Caller, project: str, pipeline: str, execution: str
) -> dict[str, Any]:
    """With live states; codes of confirmations are shown to those who may decide."""
    run = await _run(installation, caller, project, pipeline, execution)
    return _shown(installation, caller, run)


@post(
    f"{_OF_ONE}/{{execution:str}}/cancel",
    status_code=200,
    media_type=MediaType.TEXT,
    summary="Cancel a run of a pipeline",
)
async def pipeline_cancel(
    installation: Installation, caller: Caller, request: Asked, project: str, pipeline: str, execution: str
) -> Response[str]:
    """And the executions that it has started."""
    run = await _run(installation, caller, project, pipeline, execution)
    data = await body(request, optional=True)
    await commands.cancel(installation, caller, run, text(data, "reason"))
    return Response("", status_code=200, media_type=MediaType.TEXT)


@post(f"{_OF_ONE}/{{execution:str}}/retry", status_code=200, summary="Retry a run of a pipeline")
async def pipeline_retry(
    installation: Installation, caller: Caller, request: Asked, project: str, pipeline: str, execution: str
) -> dict[str, str]:
    """A new run that goes on from the first phase that failed; with `from_start: true` all of it, as declared now."""
    run = await _run(installation, caller, project, pipeline, execution)
    data = await body(request, optional=True)
    made = await commands.retry(installation, caller, run, from_start=flag(data, "from_start"))
    return {"id": ulid(made.id)}


@get(f"{_OF_ONE}/{{execution:str}}/confirmation/{{code:str}}/approve", summary="Approve a step that waits")
async def confirmation_approve(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    execution: str,
    code: str,
    comment: Comment = "",
    confirm: Confirm = "",
) -> Response[Any]:
    """A browser is shown a page that asks; a prefetch, a HEAD and a cookie alone decide nothing."""
    run, place = await _asked(installation, caller, project, pipeline, execution, code)
    return await _by_get(installation, caller, request, run, place, comment, confirm, approved=True)


@get(f"{_OF_ONE}/{{execution:str}}/confirmation/{{code:str}}/disapprove", summary="Reject a step that waits")
async def confirmation_disapprove(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    execution: str,
    code: str,
    comment: Comment = "",
    confirm: Confirm = "",
) -> Response[Any]:
    """As `approve`."""
    run, place = await _asked(installation, caller, project, pipeline, execution, code)
    return await _by_get(installation, caller, request, run, place, comment, confirm, approved=False)


@post(
    f"{_OF_ONE}/{{execution:str}}/confirmation/{{code:str}}/approve",
    status_code=200,
    summary="Approve a step that waits",
)
async def confirmation_approved(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    execution: str,
    code: str,
    comment: Comment = "",
) -> Response[Any]:
    """Decides; `comment` in the query, in a JSON body, or in a form."""
    run, place = await _asked(installation, caller, project, pipeline, execution, code)
    told = comment or await _comment(request)
    return await _decided(installation, caller, request, run, place, told, approved=True)


@post(
    f"{_OF_ONE}/{{execution:str}}/confirmation/{{code:str}}/disapprove",
    status_code=200,
    summary="Reject a step that waits",
)
async def confirmation_disapproved(
    installation: Installation,
    caller: Caller,
    request: Asked,
    project: str,
    pipeline: str,
    execution: str,
    code: str,
    comment: Comment = "",
) -> Response[Any]:
    """As `approve`."""
    run, place = await _asked(installation, caller, project, pipeline, execution, code)
    told = comment or await _comment(request)
    return await _decided(installation, caller, request, run, place, told, approved=False)


async def _run(
    installation: Installation, caller: Caller, project: str, pipeline: str, execution: str
) -> Run:
    """A run that the caller sees; also of a pipeline that is no more."""
    declared.project(installation, caller, project)
    return await queries.run_of(
        installation, caller, Key("Pipeline", project, None, plain(pipeline)), execution
    )


async def _asked(
    installation: Installation, caller: Caller, project: str, pipeline: str, execution: str, code: str
) -> tuple[Run, Place]:
    """The run and the step that a code is for; for those who see it, and those who are named. NotFound."""
    key = Key("Pipeline", project, None, plain(pipeline))
    run = await queries.find(installation, key, execution)
    place = queries.asked(installation, run, plain(code)) if run is not None else None
    if run is None or place is None:
        raise NotFound("NoSuchCode", "There is nothing to confirm under this code.")
    if not (caller.sees(str(key)) or is_asked(installation, caller, run, place)):
        raise NotFound("NoSuchCode", "There is nothing to confirm under this code.")
    return run, place


async def _by_get(
    installation: Installation,
    caller: Caller,
    request: Asked,
    run: Run,
    place: Place,
    comment: str,
    confirm: str,
    *,
    approved: bool,
) -> Response[Any]:
    """A link in a message: a browser is asked once more, and nothing decides that a person did not do (10.5)."""
    commands.may_decide(installation, caller, run, place)
    headers = request.headers
    alone = "authorization" not in headers and "x-escape-token" not in headers and bool(request.cookies)
    early = "prefetch" in f"{headers.get('sec-purpose', '')} {headers.get('purpose', '')}".lower()
    browser = _for_people(request) and confirm != "1"
    if asked_for_head(request.scope) or early or alone or browser:
        if alone or browser or _for_people(request):
            return _ask(installation, caller, request, run, place, comment)
        return Response(_shown(installation, caller, run), media_type=MediaType.JSON)
    return await _decided(installation, caller, request, run, place, comment, approved=approved)


async def _decided(
    installation: Installation,
    caller: Caller,
    request: Asked,
    run: Run,
    place: Place,
    comment: str,
    *,
    approved: bool,
) -> Response[Any]:
    now = await commands.decide(installation, caller, run, place, approved=approved, comment=comment)
    if _for_people(request):
        return _ask(installation, caller, request, now, place, comment)
    return Response(_shown(installation, caller, now), media_type=MediaType.JSON)


def _for_people(request: Asked) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _ask(
    installation: Installation, caller: Caller, request: Asked, run: Run, place: Place, comment: str
) -> Response[Any]:
    """The page that asks, or says how it was decided."""
    phase, step = run.phases[place[0]], run.step(place)
    decided = dict(step.confirmation or {})
    path = request.scope["path"].rpartition("/")[0]
    values: dict[str, Any] = {
        "run": run,
        "phase": phase,
        "step": step,
        "open": step.waits_for_people and not run.ended,
        "decided": {APPROVE: "approved", DISAPPROVE: "rejected"}.get(decided.get("decision", ""), ""),
        "by": str(decided.get("by", "")).partition("/")[2],
        "told": decided.get("comment", ""),
        "comment": comment,
        "until": decided.get("expires_at", "")[:16].replace("T", " "),
        "reason": step.reason,
        "actor": run.trigger.get("user") or run.trigger["type"],
        "after": run.phases[place[0] + 1 :],
        "path": path,
    }
    content, headers = pages.render("confirmation", forms=True, **values)
    return Response(content, media_type=pages.MEDIA_TYPE, headers=headers)


async def _comment(request: Asked) -> str:
    """What was written beside the decision: in a form, or in JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = await request.body()
    if kind == "application/x-www-form-urlencoded":
        fields = parse_qs(raw.decode("utf-8", "replace"))
        return (fields.get("comment") or [""])[0][:2000]
    if not raw:
        return ""
    data = decoded(raw)
    return text(data, "comment")[:2000] if isinstance(data, dict) else ""


async def _page(installation: Installation, caller: Caller, wanted: Wanted) -> Response[list[dict[str, Any]]]:
    found, more = await queries.page(installation, caller, wanted)
    headers = {"X-Next-Page-From": ulid(found[-1].id)} if more and found else {}
    return Response([_shown(installation, caller, run) for run in found], headers=headers)


def _shown(installation: Installation, caller: Caller, run: Run) -> dict[str, Any]:
    phases = pipeline_bodies.run_phases(
        run, lambda place: queries.confirmation_code(installation, caller, run, place)
    )
    triggers = [
        {"type": each["type"], "name": each["name"], "webhooktoken": ""}
        for each in run.pipeline.get("triggers") or ()
    ]
    more = {
        "name": run.name,
        "project": run.project,
        "permission": level_of(caller, run.project).word,
        "triggers": triggers,
    }
    pipeline = pipeline_bodies.shown(run.pipeline, phases, run.status.value, more)
    return pipeline_bodies.run_shown(run, pipeline)


def _size(given: str) -> int:
    if not given:
        return _DEFAULT_PAGE
    if not (given.isascii() and given.isdigit()) or int(given) < 1:
        raise BadRequest("invalid-page", f"page_size is a whole number from 1, not {given!r}.")
    return min(int(given), _LARGEST_PAGE)


def _before(given: str) -> str | None:
    if not given:
        return None
    found = from_ulid(given)
    if found is None:
        raise BadRequest("invalid-page", f"page_from is the id of an execution, not {given!r}.")
    return found


def _status(given: str) -> Status | None:
    if not given:
        return None
    if given not in ("pending", "running", "ok", "failed"):
        raise BadRequest("invalid-page", f"status is pending, running, ok or failed, not {given!r}.")
    return Status(given)
