"""`/ui/changes…`: commits of the spec repository with what they did, and what a branch would do."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import Parameter

from api import differences
from api.dashboard import forges
from api.dashboard.shell import PAGE, page
from reconciler.access import Caller
from reconciler.errors import SteersmanError
from reconciler.installation import Installation
from reconciler.queries import history, plans, status

_PAGE = 50
_MOST = 200


@get("/ui/changes", **PAGE)
async def change_list(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    before: Annotated[int | None, Parameter(ge=1, le=2**62)] = None,
) -> Response[bytes]:
    """Revisions as they were applied, newest first."""
    found = await history.applied(installation, caller, before, _PAGE)
    now = await status.status(installation, caller)
    branches = await plans.branches(installation, caller)
    return page(request, "changes", found=found, status=now, before=before, branches=branches)


@get("/ui/changes/{revision:str}", **PAGE)
async def change_page(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], revision: str
) -> Response[bytes]:
    """One commit, and the plan with which it was applied."""
    found = await history.of_revision(installation, caller, revision)
    actions, left = await asyncio.to_thread(differences.shown, found["actions"])
    return page(
        request,
        "change",
        item=found,
        actions=actions,
        left=found["total"] - len(found["actions"]) + left,
        link=forges.commit(installation.settings.repo, found["revision"]),
    )


@get("/ui/plan", **PAGE)
async def plan_page(
    installation: Installation,
    caller: Caller,
    request: Request[Caller, Any, Any],
    ref: Annotated[str, Parameter(max_length=300)] = "",
) -> Response[bytes]:
    """What merging a branch, tag or commit would change; it changes nothing."""
    found: dict[str, Any] | None = None
    wrong: str | None = None
    actions: list[dict[str, Any]] = []
    left = 0
    if ref:
        try:
            found = await plans.of_ref(installation, caller, ref)
            actions, left = await asyncio.to_thread(differences.shown, found["actions"][:_MOST])
            left += max(0, len(found["actions"]) - _MOST)
        except SteersmanError as error:
            wrong = error.message
    return page(
        request,
        "plan",
        ref=ref,
        found=found,
        wrong=wrong,
        actions=actions,
        left=left,
        branch=installation.settings.branch,
        branches=await plans.branches(installation, caller),
        code=200 if wrong is None else 404,
    )
