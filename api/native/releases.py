"""`/reconciler/releases`: what builds have made."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get
from litestar.params import Parameter

from api.unchanged import STEADY
from reconciler.access import Caller
from reconciler.installation import Installation
from reconciler.queries import releases

Limit = Annotated[int, Parameter(ge=1, le=500)]
Name = Annotated[str | None, Parameter(max_length=250, description="NAMESPACE/APPLICATION, or APPLICATION")]


@get("/reconciler/releases", opt=STEADY, summary="Releases, newest first")
async def release_list(
    installation: Installation,
    caller: Caller,
    application: Name = None,
    limit: Limit = 50,
    after: Annotated[str | None, Parameter(max_length=100)] = None,
) -> dict[str, Any]:
    """`next` is the id to give as `after`."""
    return await releases.page(installation, caller, application=application, limit=limit, after=after)
