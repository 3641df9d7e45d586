"""`/`: the whole at a glance for a browser; one line for programs (escape-state, 6.6). `/ui/search` finds things."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import urlencode

from litestar import MediaType, Request, Response, get, post
from litestar.params import Parameter

from api.auth import whoever
from api.dashboard import forms
from api.dashboard.run_view import listed
from api.dashboard.shell import FORM, PAGE, SIGN_IN, away, page, path_of
from reconciler.access import Caller
from reconciler.commands import sync
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.queries import gate, jobs, pipelines, resources, schedules, status, why

_FEW = 8
_LOOKED = 100
_PATIENCE = 20.0  # seconds; the page then shows how far it is


@get("/", opt={"open": True}, media_type=MediaType.TEXT, summary="Product name and version")
async def home(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Open without a token, and then says nothing of what is declared; who is signed in gets the overview."""
    if request.accept.best_match([MediaType.TEXT, MediaType.HTML]) != MediaType.HTML:
        line = f"Steersman {version('steersman')}\n".encode()
        return Response(line, media_type=MediaType.TEXT, headers={"Vary": "Accept, Cookie"})
    caller = await whoever(request)
    if caller is None:
        return away(f"{SIGN_IN}?{urlencode({'to': '/'})}")
    request.scope["user"] = caller
    return page(request, "overview", **await _overview(installation, caller))


async def _overview(installation: Installation, caller: Caller) -> dict[str, Any]:
    found = await status.status(installation, caller)
    concerns = status.of_concern(installation, caller, _FEW)
    for item in concerns:
        causes = (await why.why(installation, caller, item["key"]))["causes"]
        item["why"] = causes[0]["message"] if causes else ""
    freezes = await gate.freezes(installation, caller)
    return {
        "status": found,
        "health": await status.health(installation),
        "concerns": concerns,
        "may_sync": sync.may_sync(caller),
        "may_confirm": {
            h["digest"] for h in found["held"] if h["digest"] and sync.may_confirm(caller, h["project"])
        },
        "asking": [listed(run) for run in await pipelines.asking(installation, caller)],
        "approvals": await gate.open_approvals(installation, caller, in_words=False),
        "freezes": [freeze for freeze in freezes if freeze["active"]],
        "running": (await _page(installation, caller, "executing"))["items"],
        "waiting": await _waiting(installation, caller),
        "recent": await _recent(installation, caller),
        "schedules": (await schedules.upcoming(installation, caller, _FEW))["items"],
    }


async def _waiting(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """Jobs that have not begun, each with a sentence of what it waits for, where that is known."""
    found = (await _page(installation, caller, "pending"))["items"]
    whole = [await jobs.load(installation, caller, job["number"]) for job in found]
    causes = await jobs.waits_of(installation, whole)
    return [
        {**told, "waits": next((causes[id].message for id in _trials(job) if id in causes), None)}
        for told, job in zip(found, whole, strict=True)
    ]


def _trials(job: Job) -> Iterator[str]:
    return (trial.id for task in job.tasks for trial in task.trials)


async def _recent(installation: Installation, caller: Caller) -> list[dict[str, Any]]:
    """Without the checks for drift that have found none, which are many."""
    found = await jobs.page(installation, caller, key=None, state=None, limit=_LOOKED, after=None)
    told = [
        job
        for job in found["items"]
        if job["trigger"].get("type") != "check" or job["state"] not in ("passed", "executing", "pending")
    ]
    return told[:_FEW]


async def _page(installation: Installation, caller: Caller, state: str | None) -> dict[str, Any]:
    return await jobs.page(installation, caller, key=None, state=state, limit=_FEW, after=None)


@post("/ui/sync", **FORM)
async def sync_now(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any]
) -> Response[bytes]:
    """Look at the repository now; `confirm` lets removals go that wait for somebody to say so."""
    given = await forms.read(request)
    await sync.sync(installation, caller, given.get("confirm") or None, _PATIENCE)
    return away("/")


@get("/ui", **PAGE)
async def start() -> Response[bytes]:
    """The overview."""
    return away("/")


@get("/ui/{rest:path}", **PAGE)
async def nowhere(rest: str) -> Response[bytes]:
    """For who is signed in: there is no such page."""
    raise NotFound("NoSuchPage", f"there is no page /ui{rest}")


@get("/ui/search", **PAGE)
async def search(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    q: Annotated[str, Parameter(max_length=200)] = "",
) -> Response[bytes]:
    """Straight to a job by its number, or to the only resource that fits; else what fits."""
    words = q.strip()
    number = words.removeprefix("#")
    if number.isascii() and number.isdecimal() and len(number) < 19:
        return away(f"/ui/jobs/{number}")
    found = resources.search(installation, caller, words, 100) if words else []
    if len(found) == 1:
        return away(path_of(found[0]["key"]))
    return page(request, "search", q=words, items=found)
