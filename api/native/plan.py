"""`/reconciler/plan`, `…/sync`, `…/trigger`, `…/webhook`."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import Parameter

from api.native.bodies import PlanBody, SyncBody, TriggerBody
from reconciler.access import Caller
from reconciler.commands import sync, triggers, webhook
from reconciler.commands.triggers import Order
from reconciler.installation import Installation
from reconciler.queries import plans

Wait = Annotated[float, Parameter(ge=0, le=300)]


@get("/reconciler/plan", summary="What the followed branch would still change")
async def plan(installation: Installation, caller: Caller) -> dict[str, Any]:
    """Empty once everything is applied."""
    return await plans.of_branch(installation, caller)


@post("/reconciler/plan", status_code=200, summary="What a branch, or files, would change")
async def plan_for(installation: Installation, caller: Caller, data: PlanBody) -> dict[str, Any]:
    """Changes nothing."""
    if data.ref is not None:
        return await plans.of_ref(installation, caller, data.ref)
    return await plans.of_files(installation, caller, data.files or {})


@post("/reconciler/sync", status_code=200, summary="Look at the spec repository now")
async def sync_now(
    installation: Installation,
    caller: Caller,
    data: SyncBody | None = None,
    wait: Wait = 60,
) -> Response[dict[str, Any]]:
    """200 with what applying the revision did; 202 when the wait ran out; 409 for another digest."""
    confirm = data.confirm if data else None
    done, answer = await sync.sync(installation, caller, confirm, wait)
    return Response(answer, status_code=200 if done else 202)


@post("/reconciler/trigger", status_code=202, summary="Run a Build, a Deployment or a Pipeline by hand")
async def trigger(installation: Installation, caller: Caller, data: TriggerBody) -> dict[str, Any]:
    """Number and id of the job that is made; of a Pipeline, those of the run."""
    order = Order(data.inputs, data.branch, data.commit, data.version, data.action, data.errand)
    return await triggers.trigger(installation, caller, data.key, order)


@post("/reconciler/webhook", opt={"open": True}, status_code=202, summary="A signed push from a Git host")
async def push(installation: Installation, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """GitHub, Gitea, Forgejo and GitLab signatures over the raw body."""
    limit = installation.settings.webhook_bytes
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(status_code=413, detail=f"a webhook may have {limit:,} bytes")
    return webhook.receive(installation, dict(request.headers), bytes(body))
