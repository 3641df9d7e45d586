"""`/ui/docs…`: the documentation, as it lies in `api/docs`; open without a token."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from litestar import Request, Response, get

from api import docs
from api.auth import whoever
from api.dashboard.shell import PAGE, page
from reconciler.errors import NotFound


@get(["/ui/docs", "/ui/docs/{name:str}"], opt={"open": True}, **PAGE)
async def docs_page(request: Request[Any, Any, Any], name: str = "index") -> Response[bytes]:
    """One page, with the list of all of them."""
    try:
        found = docs.render(name)
    except docs.UnknownPage:
        raise NotFound("NoSuchPage", f"there is no page {name!r}; /ui/docs lists those there are") from None
    caller = await whoever(request)
    if caller is not None:
        request.scope["user"] = caller
    sections = [(title, list(some)) for title, some in groupby(docs.pages(), lambda each: each.section)]
    return page(request, "docs", found=found, name=name, sections=sections)
