"""`/ui/jobs…`: the jobs, and one job with its tasks, its log and what it keeps; cancel and retry by form.

The log itself comes from the native API; here is where its lines and times are, for who has loaded a part of it.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from litestar import Request, Response, get, post
from litestar.params import Parameter

from api import problems
from api.dashboard import job_view
from api.dashboard.graph import HEIGHT, WIDTH, graph
from api.dashboard.run_view import path_of_run
from api.dashboard.shell import FORM, PAGE, away, between, page
from reconciler.access import Caller
from reconciler.commands import jobs as commands
from reconciler.commands import manifests
from reconciler.errors import NotFound, SteersmanError
from reconciler.installation import Installation
from reconciler.model.job import Job, Of, Reason, State
from reconciler.queries import jobs, log_index, logs, pipelines, resources
from reconciler.queries.logs import Selection, Text

_PAGE = 50
_ATTACHMENTS = 200
_TAIL_BYTES, _TAIL_LINES = 32 << 10, 200
STATES = ("pending", "executing", "aborting", "passed", "failed", "aborted", "defective")
_WHOLE = logs.Selection()
# Escape sequences of terminals, and control characters but tab and line end.
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

Asked = Request[Caller, Any, Any]
Number = Annotated[int, Parameter(ge=1, le=2**62)]
Word = Annotated[str | None, Parameter(max_length=1000)]
Typed = Annotated[str, Parameter(max_length=1000)]


@get("/ui/jobs", **PAGE)
async def job_list(
    installation: Installation,
    caller: Caller,
    request: Asked,
    key: Typed = "",
    job_state: Annotated[str, Parameter(query="state", max_length=20)] = "",
    project: Typed = "",
    branch: Typed = "",
    after: Annotated[int | None, Parameter(ge=0, le=2**62)] = None,
) -> Response[bytes]:
    """Newest first; of one KEY, in one state, of a project, of a branch."""
    wanted, project, branch = (typed.replace("\0", "").strip() for typed in (key, project, branch))
    chosen = job_state if job_state in STATES else ""
    of = Of(project or None, branch or None)
    found = await jobs.page(
        installation, caller, key=wanted or None, state=chosen or None, limit=_PAGE, after=after, of=of
    )
    items = found["items"]
    held = await jobs.hold_causes(installation, [item["number"] for item in items if item["held"]])
    now = datetime.now(UTC)
    shown = [
        item
        | {
            "seconds": between(item["started_at"], item["finished_at"], now),
            "causes": held.get(item["number"], ()),
            "by": job_view.by(item["actor"]),
            "why": job_view.why(item["trigger"]),
        }
        for item in items
    ]
    like = resources.search(installation, caller, wanted, 10) if wanted and not items else []
    given = {"key": wanted, "state": chosen, "project": project, "branch": branch}
    return page(
        request, "jobs", items=shown, next=found["next"], after=after, given=given, states=STATES,
        like=[item["key"] for item in like],
    )  # fmt: skip


@get("/ui/jobs/{number:int}", **PAGE)
async def job_page(
    installation: Installation,
    caller: Caller,
    request: Asked,
    number: Number,
    task: Word = None,
    trial: Annotated[int | None, Parameter(ge=1, le=2**31)] = None,
    script: Word = None,
    log: Word = None,
    show: Annotated[str, Parameter(max_length=20)] = "",
    part: Annotated[int, Parameter(ge=1, le=10_000)] = 1,
) -> Response[bytes]:
    """With the end of its log; `task`, `trial` and `script` choose which, or `log`, which is all three in one."""
    if log is not None:
        chosen = {name: text for name, text in parse_qsl(log) if name in ("task", "trial", "script")}
        return away(f"/ui/jobs/{number}?{urlencode(chosen)}#log" if chosen else f"/ui/jobs/{number}#log")
    return await _job(installation, caller, request, number, Selection(task, trial, script), show, part)


@post("/ui/jobs/{number:int}/cancel", **FORM)
async def job_cancel(
    installation: Installation, caller: Caller, request: Asked, number: Number
) -> Response[bytes]:
    """End it; what stands in the way is told on its page."""
    try:
        await commands.cancel(installation, caller, number)
    except SteersmanError as error:
        return await _refused(installation, caller, request, number, error)
    return away(f"/ui/jobs/{number}")


@post("/ui/jobs/{number:int}/start", **FORM)
async def job_start(
    installation: Installation, caller: Caller, request: Asked, number: Number
) -> Response[bytes]:
    """Let a job of a manifest go that waits for this."""
    try:
        await manifests.start(installation, caller, number)
    except SteersmanError as error:
        return await _refused(installation, caller, request, number, error)
    return away(f"/ui/jobs/{number}")


@post("/ui/jobs/{number:int}/retry", **FORM)
async def job_retry(
    installation: Installation, caller: Caller, request: Asked, number: Number
) -> Response[bytes]:
    """Run it again, and look at the new one."""
    try:
        made = await commands.retry(installation, caller, number)
    except SteersmanError as error:
        return await _refused(installation, caller, request, number, error)
    return away(f"/ui/jobs/{made['number']}")


@get("/ui/jobs/{number:int}/log/index", include_in_schema=False)
async def job_log_index(
    installation: Installation,
    caller: Caller,
    number: Number,
    offset: Annotated[int, Parameter(ge=0, le=2**62)] = 0,
    line: Annotated[int | None, Parameter(ge=1, le=2**62)] = None,
    times: bool = False,
    task: Word = None,
    trial: Annotated[int | None, Parameter(ge=1, le=2**31)] = None,
    script: Word = None,
) -> dict[str, Any]:
    """Number and offset of the line that begins at an offset or behind it, or of a `line`.

    With `times`: [offset, milliseconds since 1970] from the offset on.
    """
    text = await logs.now(installation, caller, number, Selection(task, trial, script))
    if times:
        return {"size": text.size, "final": text.final, "times": await log_index.times(text, offset)}
    asked = log_index.at_offset(text, offset) if line is None else log_index.at_line(text, line)
    place = await asked
    return {"size": text.size, "final": text.final, "line": place.line, "offset": place.offset}


async def _refused(
    installation: Installation, caller: Caller, request: Asked, number: int, error: SteersmanError
) -> Response[bytes]:
    if isinstance(error, NotFound):
        raise error
    code = problems.handle(request, error).status_code or 409
    return await _job(installation, caller, request, number, _WHOLE, "", 1, (code, error.message))


async def _job(
    installation: Installation,
    caller: Caller,
    request: Asked,
    number: int,
    selection: Selection,
    show: str,
    part: int,
    refused: tuple[int, str] | None = None,
) -> Response[bytes]:
    job = await jobs.load(installation, caller, number)
    waits = {trial: cause.message for trial, cause in (await jobs.waits_of(installation, [job])).items()}
    held = await jobs.hold_causes(installation, [number] if job.held else [])
    files = await jobs.attachments_of(installation, caller, number)
    text = await logs.now(installation, caller, number, selection)
    run = await _run_of(installation, caller, job)
    live = not job.state.finished and job.state is not State.ABORTING
    waits_for_start = job.held and live and job.reason != Reason.HELD
    tasks = [task for task in job.tasks if show in ("", task.state.value)]
    shown = [
        job_view.task_of(number, task, waits)
        for task in tasks[(part - 1) * job_view.TASKS : part * job_view.TASKS]
    ]
    picture = graph({task.name: tuple(task.policy.get("needs") or ()) for task in job.tasks})
    return page(
        request, "job", code=200 if refused is None else refused[0],
        refused="" if refused is None else refused[1],
        job=job_view.facts(job), causes=held.get(number, ()), run=run,
        beside=await jobs.beside(installation, job),
        may_cancel=live and await jobs.may(installation, caller, "cancel", job),
        may_start=waits_for_start and await jobs.may(installation, caller, "start", job),
        may_retry=job.state.finished and await jobs.may(installation, caller, "retry", job),
        graph=picture, boxes=job_view.boxes(job) if picture else (), box=(WIDTH, HEIGHT),
        tasks=shown, counts=Counter(task.state.value for task in job.tasks), show=show, part=part,
        total=len(job.tasks), parts=-(-len(tasks) // job_view.TASKS),
        failed=job_view.failed_ones(job),
        scripts=job_view.choices(number, job, tasks, part), selection=job_view.named(selection),
        files=files[:_ATTACHMENTS], more_files=len(files) - _ATTACHMENTS,
        log=job_view.log_of(number, selection, text),
        tail="" if "x-renew" in request.headers else await _tail(text),
    )  # fmt: skip


async def _tail(text: Text) -> str:
    """The last lines, for who reads without JavaScript."""
    start = max(0, text.size - _TAIL_BYTES)
    read = b"".join([chunk async for chunk in logs.pieces(text, start, text.size)])
    lines = read.decode("utf-8", "replace").removesuffix("\n").split("\n")
    whole = lines[1:] if start and len(lines) > 1 else lines
    shown = (line.rstrip("\r").rpartition("\r")[2] for line in whole[-_TAIL_LINES:])
    return "\n".join(_CONTROL.sub("", line) for line in shown)


async def _run_of(installation: Installation, caller: Caller, job: Job) -> dict[str, Any] | None:
    """The run of a pipeline that has started it."""
    identifier = job.trigger.get("pipeline") if job.trigger.get("type") == "pipeline" else None
    if identifier is None:
        return None
    run = (await pipelines.of_ids(installation, caller, [str(identifier)])).get(str(identifier))
    if run is None:
        return None
    return {
        "path": path_of_run(run),
        "key": run.key,
        "number": run.number,
        "step": job.trigger.get("step", ""),
    }
