"""`/ui/assets/DIGEST/NAME`: style and scripts, named by their content, so that browsers keep them for good."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from litestar import Response, get

from reconciler.errors import NotFound

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@get("/ui/assets/{digest:str}/{name:str}", opt={"open": True}, include_in_schema=False)
async def asset(digest: str, name: str) -> Response[bytes]:
    """Open without a token: there is nothing in it that the repository does not have."""
    content = _contents().get(name)
    if content is None:
        raise NotFound("NoSuchFile", f"there is no file {name}")
    lasts = digest == _digest(name)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if lasts else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


def address(name: str) -> str:
    """Where a page finds a file of `static/`."""
    return f"/ui/assets/{_digest(name)}/{name}"


@cache
def _contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_contents()[name]).hexdigest()[:16]
