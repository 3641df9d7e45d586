"""`/`: what this is (escape-state, 6.6). One line for programs, a page with the ways in for browsers."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar import MediaType, Request, Response, get

from api import pages
from reconciler.installation import Installation


@get("/", opt={"open": True}, media_type=MediaType.TEXT, summary="Product name and version")
async def home(installation: Installation, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Open without a token; says nothing of what is declared."""
    line = f"Steersman {version('steersman')}"
    if request.accept.best_match([MediaType.TEXT, MediaType.HTML]) != MediaType.HTML:
        return Response(f"{line}\n".encode(), media_type=MediaType.TEXT, headers={"Vary": "Accept"})
    body, headers = pages.render("home", line=line, sign_in=installation.settings.oidc is not None)
    return Response(body, media_type=pages.MEDIA_TYPE, headers={**headers, "Vary": "Accept"})
