"""`/cider-ci/storage/…`: the bytes of attachments, streamed out and in (cider-ci, 4.17).

Whatever a file says it is, no browser shows it as a page of this server: it is a download, not sniffed, in a sandbox.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from urllib.parse import parse_qsl, unquote_to_bytes

from litestar import delete, get, put
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import File, Stream

from api.auth import BY_TRIAL
from api.cider.answers import Asked
from api.cider.errors import Told, Unusable
from api.cider.relations import STORAGE, TREE_DATA, TRIAL_DATA
from api.cider.requests import WRITE
from api.paths import asked_for_head
from reconciler.access import Caller
from reconciler.commands import attachments as commands
from reconciler.commands.attachments import Place
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.attachment import TREE, TRIAL
from reconciler.queries import kept
from reconciler.queries.by_id import is_uuid

_BYTES = "application/octet-stream"
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: *;[\x20-\x7e]*)?", re.ASCII)
_SAFELY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "private, no-cache",
}
_LONGEST_TYPE = 200
_LONGEST_PATH = 1_000
_KINDS = {"tree-attachments": TREE, "trial-attachments": TRIAL}
_TREE = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SEVERAL = {
    409: ResponseSpec(
        Told, generate_examples=False, description="Several projects have it: name one as `owner`"
    )
}


# The router has a path for each; what they are is read from the path as it was sent.
@get(
    [TREE_DATA.route, TRIAL_DATA.route],
    media_type=_BYTES,
    responses=_SEVERAL,
    summary="The bytes of an attachment",
)
async def data_get(installation: Installation, caller: Caller, request: Asked, path: str) -> File | Stream:
    """With the type that they were stored with. Of a tree: `owner` in the query names the project that keeps it."""
    place = _place(request)
    found = await kept.at(installation, caller, place.kind, place.of, place.path, place.project)
    file = await kept.content(installation, found)
    headers = {**_SAFELY, "content-type": _safe_type(found.content_type) or _BYTES}
    if asked_for_head(request.scope):
        return Stream(iter(()), headers=headers | {"content-length": str(found.size)})
    return File(file, filename=posixpath.basename(found.path), headers=headers)


@put(
    [TREE_DATA.route, TRIAL_DATA.route],
    opt=BY_TRIAL,
    status_code=204,
    request_max_body_size=None,
    responses=_SEVERAL,
    summary="Store an attachment",
)
async def data_put(installation: Installation, caller: Caller, request: Asked, path: str) -> None:
    """What is at the path is replaced. Also by a trial, with its token as `trial-token`.

    Of a tree: `owner` in the query names the project that is to keep it.
    """
    place = _place(request)
    limit = installation.settings.attachment_bytes
    if int(request.headers.get("content-length") or 0) > limit:
        raise HTTPException(
            status_code=413, detail=f"an attachment may have {limit:,} bytes (attachment_bytes)"
        )
    given = request.headers.get("content-type")
    kind = _BYTES if not given else _safe_type(given)
    if kind is None:
        raise Unusable(detail="Content-Type is no media type")
    token = request.headers.get("trial-token")
    await commands.store(installation, caller, place, kind, request.stream(), token)


@delete([TREE_DATA.route, TRIAL_DATA.route], opt=WRITE, responses=_SEVERAL, summary="Remove an attachment")
async def data_delete(installation: Installation, caller: Caller, request: Asked, path: str) -> None:
    """404 where there is none. Of a tree: `owner` in the query names the project that keeps it."""
    place = _place(request)
    found = await kept.at(installation, caller, place.kind, place.of, place.path, place.project)
    if place.kind == TREE:
        place = replace(place, project=found.owner.project)
    await commands.remove(installation, caller, place)


def _place(request: Asked) -> Place:
    """Decoded once: neither slashes at the end nor encoded ones are lost."""
    raw = request.scope["raw_path"].partition(b"?")[0].removeprefix(STORAGE.encode() + b"/")
    try:
        kind, of, path = unquote_to_bytes(raw).decode().split("/", 2)
    except ValueError:
        raise Unusable(detail="the path is not UTF-8") from None
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise Unusable(detail="the path must have no empty segment, and neither . nor ..")
    if len(path) > _LONGEST_PATH or not (of + path).isprintable():
        raise Unusable(detail=f"the path must have at most {_LONGEST_PATH} characters, none for control")
    if _KINDS[kind] == TRIAL:
        if not is_uuid(of):
            raise NotFound("NoSuchId", f"there is no trial with the id {of[:100]}")
        return Place(TRIAL, of, path)
    if not _TREE.fullmatch(of.lower()):
        raise Unusable(detail="the id of a tree has 40 hexadecimal digits")
    return Place(TREE, of.lower(), path, _owner(request))


def _owner(request: Asked) -> str | None:
    """The project that is named in the query; of several the last one counts. Empty: a tree of nobody."""
    raw = request.scope["query_string"].decode("utf-8", "replace")
    return dict(parse_qsl(raw, keep_blank_values=True, errors="replace")).get("owner")


def _safe_type(given: str | None) -> str | None:
    """A media type that may stand in a header."""
    return given if given and len(given) <= _LONGEST_TYPE and _TYPE.fullmatch(given) else None
