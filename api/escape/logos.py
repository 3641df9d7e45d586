"""The logo of a project as an image: PR9 (escape-state, 6.10).

The type is told by the first bytes, whatever anybody says of it, and nothing else is ever sent from here: what comes
from a specification must not run as a page of this server.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec

from api.auth import OPEN_IF
from api.paths import plain
from reconciler.access import Caller
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.queries import declared

_SVG = "image/svg+xml"
_STARTS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
_PROLOGUE = ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!DOCTYPE svg", b">"))
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def is_public(installation: Installation, parameters: Mapping[str, Any]) -> bool:
    """Is it the logo of a project that everybody may know of?"""
    name = plain(str(parameters.get("project", "")))
    found = declared.of_kind(installation, "Project").get(f"Project/{name}")
    return bool(found and (found.spec or {}).get("is_public"))


@get(
    "/api/v1/state/{project:str}/logo",
    opt={OPEN_IF: is_public},
    media_type="image/png",
    responses={304: ResponseSpec(None, generate_examples=False, description="It is the same still")},
    summary="The logo of a project",
)
async def project_logo(
    installation: Installation, caller: Caller, request: Request[Caller, Any, Any], project: str
) -> Response[bytes]:
    """PNG, JPEG, GIF, WebP or SVG. Of a public project also without a token."""
    if is_public(installation, {"project": project}):
        found = declared.of_kind(installation, "Project")[f"Project/{project}"]
    else:
        found = declared.project(installation, caller, project)
    image = base64.b64decode((found.spec or {})["logo"] or "")
    kind = type_of(image)
    if kind is None:
        raise NotFound("NoLogo", f"{project} has no logo.")
    tag = f'"{hashlib.sha256(image).hexdigest()[:32]}"'
    headers = {"ETag": tag, "X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=300"}
    if kind == _SVG:
        headers["Content-Security-Policy"] = _POLICY
    if tag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=kind)
    return Response(image, headers=headers, media_type=kind)


def type_of(image: bytes) -> str | None:
    """The type of an image; None for what is none."""
    for start, kind in _STARTS:
        if start.match(image):
            return kind
    rest = image.removeprefix(b"\xef\xbb\xbf").lstrip()
    while opened := next((pair for pair in _PROLOGUE if rest.startswith(pair[0])), None):
        _, end, rest = rest.partition(opened[1])
        if not end:
            return None
        rest = rest.lstrip()
    return _SVG if re.match(rb"<svg[\s>]", rest) else None
