"""`/ui/pipelines…`: pipelines, their runs, and one run with its phases and steps; start, decide, cancel and retry.

A form that is refused comes back with what was typed and why. What a caller may do is what the native API and the
served ones let it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import Parameter

from api import problems
from api.dashboard import forms, run_view
from api.dashboard.run_view import path_of_pipeline, path_of_run
from api.dashboard.shell import FORM, PAGE, away, page
from reconciler.access import Caller, missing
from reconciler.commands import pipelines as commands
from reconciler.errors import NotFound, Refused, SteersmanError
from reconciler.installation import Installation
from reconciler.json_text import Unreadable, decode
from reconciler.model.execution import from_ulid, ulid
from reconciler.model.pipeline import Place, Run, Status
from reconciler.model.resource import Resource
from reconciler.queries import jobs, rights
from reconciler.queries import pipelines as queries
from reconciler.queries.pipelines import Wanted
from specs.meta import Key, parse_key

_PAGE = 50
_COMMENT = 2000

Asked = Request[Caller, Any, Any]
Before = Annotated[str, Parameter(max_length=26)]


@get("/ui/pipelines", **PAGE)
async def pipeline_list(installation: Installation, caller: Caller, request: Asked) -> Response[bytes]:
    """All that the caller sees, each with its newest run; and the newest runs of all."""
    found = queries.visible(installation, caller)
    newest = await queries.newest(installation, [each.key for each in found])
    runs, _ = await queries.page(installation, caller, Wanted(limit=_PAGE // 2))
    items = [
        {
            "key": each.key,
            "path": path_of_pipeline(each.key),
            "disabled": bool((each.spec or {}).get("disabled")),
            "invalid": each.invalid,
            "run": run_view.listed(newest[each.key]) if each.key in newest else None,
        }
        for each in found[:200]
    ]
    return page(
        request,
        "pipelines",
        items=items,
        more=len(found) - len(items),
        runs=[run_view.listed(run) for run in runs],
    )


@get("/ui/pipelines/{project:str}/{name:str}", **PAGE)
async def pipeline_page(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, before: Before = ""
) -> Response[bytes]:
    """Its runs, newest first, and the form that starts one."""
    return await _pipeline(installation, caller, request, _key(project, name), before)


@post("/ui/pipelines/{project:str}/{name:str}/start", **FORM)
async def pipeline_start(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str
) -> Response[bytes]:
    """Start a run, and look at it."""
    key = _key(project, name)
    given = await forms.read(request)
    try:
        payload = _payload(given.get("payload", ""))
        run = await commands.trigger(installation, caller, key, given.get("reason", "")[:_COMMENT], payload)
    except SteersmanError as error:
        if isinstance(error, NotFound):
            raise
        return await _pipeline(installation, caller, request, key, "", (error, given))
    return away(path_of_run(run))


@get("/ui/pipelines/{project:str}/{name:str}/{run:str}", **PAGE)
async def run_page(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, run: str
) -> Response[bytes]:
    """Its phases and steps, and what they wait for."""
    found = await queries.run_of(installation, caller, _key(project, name), run)
    return await _run(installation, caller, request, found)


@post("/ui/pipelines/{project:str}/{name:str}/{run:str}/decide", **FORM)
async def run_decide(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, run: str
) -> Response[bytes]:
    """Approve or reject a confirmation, with a comment."""
    found = await queries.run_of(installation, caller, _key(project, name), run)
    given = await forms.read(request)
    place = _place(found, given)
    comment = given.get("comment", "")
    try:
        if given.get("decision") not in ("approve", "reject"):
            raise Refused("NoDecision", "Choose: approve or reject.")
        if len(comment) > _COMMENT:
            raise Refused(
                "TooLong", f"A comment has at most {_COMMENT} characters; this one has {len(comment)}."
            )
        approved = given["decision"] == "approve"
        await commands.decide(installation, caller, found, place, approved=approved, comment=comment)
    except SteersmanError as error:
        now = await queries.run_of(installation, caller, _key(project, name), run)
        return await _run(installation, caller, request, now, (error, given, place))
    return away(path_of_run(found))


@post("/ui/pipelines/{project:str}/{name:str}/{run:str}/cancel", **FORM)
async def run_cancel(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, run: str
) -> Response[bytes]:
    """End it, and what it has started."""
    found = await queries.run_of(installation, caller, _key(project, name), run)
    given = await forms.read(request)
    try:
        await commands.cancel(installation, caller, found, given.get("reason", "")[:_COMMENT])
    except SteersmanError as error:
        now = await queries.run_of(installation, caller, _key(project, name), run)
        return await _run(installation, caller, request, now, (error, given, None))
    return away(path_of_run(found))


@post("/ui/pipelines/{project:str}/{name:str}/{run:str}/retry", **FORM)
async def run_retry(
    installation: Installation, caller: Caller, request: Asked, project: str, name: str, run: str
) -> Response[bytes]:
    """A new run: from the first phase that failed, or all of it as it is declared now."""
    found = await queries.run_of(installation, caller, _key(project, name), run)
    given = await forms.read(request)
    whole = given.get("from") == "start"
    try:
        made = await commands.retry(installation, caller, found, from_start=whole)
    except SteersmanError as error:
        return await _run(installation, caller, request, found, (error, given, None))
    return away(path_of_run(made))


_Refused = tuple[SteersmanError, Mapping[str, str]]
_RefusedStep = tuple[SteersmanError, Mapping[str, str], Place | None]


async def _pipeline(
    installation: Installation,
    caller: Caller,
    request: Asked,
    key: Key,
    before: str,
    refused: _Refused | None = None,
) -> Response[bytes]:
    resource = _seen(installation, caller, key)
    last = from_ulid(before) if before else None
    found, more = await queries.page(installation, caller, Wanted(str(key), before=last, limit=_PAGE))
    if resource is None and not found and not before:
        raise missing(str(key))
    spec: Mapping[str, Any] = (resource.spec if resource is not None else None) or {}
    may = resource is not None and rights.can(installation, caller, "trigger", str(key))["allowed"]
    return page(
        request, "pipeline", code=_code(request, refused[0] if refused else None),
        key=str(key), path=path_of_pipeline(str(key)), declared=resource is not None,
        disabled=bool(spec.get("disabled")), location="" if resource is None else resource.location,
        phases=[
            {"name": phase["name"], "steps": [step["name"] or step["type"] for step in phase["steps"]][:20],
             "more": len(phase["steps"]) - 20}
            for phase in spec.get("phases") or ()
        ],
        runs=[run_view.listed(run) for run in found], before=before, next=ulid(found[-1].id) if more and found else "",
        may_start=may and not spec.get("disabled"),
        refused=refused[0].message if refused else "", given=refused[1] if refused else {},
    )  # fmt: skip


async def _run(
    installation: Installation,
    caller: Caller,
    request: Asked,
    run: Run,
    refused: _RefusedStep | None = None,
) -> Response[bytes]:
    others = {run.retry_of, run.trigger.get("pipeline"), *(step.run for _, step in run.steps())}
    known = await queries.of_ids(installation, caller, [str(each) for each in others if each])
    at_work = [step.job for _, step in run.steps() if step.job is not None and not step.over]
    held = await jobs.hold_causes(installation, at_work)
    fits = run.key in installation.snapshot.current.resources
    may = fits and rights.can(installation, caller, "cancel", run.key)["allowed"]
    at = refused[2] if refused else None
    return page(
        request, "run", code=_code(request, refused[0] if refused else None),
        run=run_view.told(run, known), path=path_of_run(run), pipeline_path=path_of_pipeline(run.key),
        phases=run_view.phases(installation, caller, run, known, held), hidden=run_view.hidden(run),
        may_cancel=may and not run.ended and not run.cancel_requested, may_retry=may and run.ended,
        failed=run.status is Status.FAILED,
        refused=refused[0].message if refused else "", refused_at=at, given=refused[1] if refused else {},
    )  # fmt: skip


def _place(run: Run, given: Mapping[str, str]) -> Place:
    """The step that a form is about. NotFound."""
    phase, step = given.get("phase", ""), given.get("step", "")
    fits = all(text.isascii() and text.isdigit() and len(text) < 5 for text in (phase, step))
    if not fits or int(phase) >= len(run.phases) or int(step) >= len(run.phases[int(phase)].steps):
        raise NotFound("NoSuchStep", f"run {run.number} of {run.key} has no such step")
    return int(phase), int(step)


def _payload(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return decode(text)
    except Unreadable as error:
        raise Refused("InvalidPayload", f"The payload {error}.") from error


def _seen(installation: Installation, caller: Caller, key: Key) -> Resource | None:
    """The pipeline, if it is declared. NotFound where the caller may not know."""
    if not caller.sees(str(key)):
        raise missing(str(key))
    return installation.snapshot.current.resources.get(str(key))


def _key(project: str, name: str) -> Key:
    try:
        return parse_key(f"Pipeline/{project}/{name}")
    except ValueError:
        raise missing(f"Pipeline/{project}/{name}") from None


def _code(request: Asked, error: SteersmanError | None) -> int:
    return 200 if error is None else problems.handle(request, error).status_code or 409
