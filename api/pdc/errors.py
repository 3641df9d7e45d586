"""Errors as PDC answers them: an object with `detail`, or the texts of each key that is wrong (pdc, 3.7).

Chosen by path in `api.app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from api import pages
from api.pdc import negotiation
from api.pdc.addresses import place
from reconciler.errors import (
    BrokenBefore,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    SteersmanError,
    Transient,
)

log = structlog.get_logger(__name__)
# The first row that fits decides.
_OURS: tuple[tuple[type[SteersmanError], int], ...] = (
    (NotFound, 404),
    (Forbidden, 403),
    (BrokenBefore, 409),
    (Conflict, 409),
    (Refused, 400),
    (SteersmanError, 503),
)
NOT_FOUND = {"detail": "Not found."}
_NO_SUCH_ADDRESS = {"detail": "Not found"}
_UNKNOWN_ADDRESS = "There is no such address; the list of those there are is at /rest_api/v1/."


class Failure(HTTPException):
    """An answer that is no success: its status and its body, as they are."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        self.body = body
        super().__init__(detail="refused", status_code=status, headers=dict(headers or {}))


def detail(status: int, text: Any, headers: Mapping[str, str] | None = None) -> Failure:
    """One with the key `detail` only."""
    return Failure(status, {"detail": text}, headers)


@dataclass(frozen=True, slots=True)
class Detail:
    """The body of a refusal, for the OpenAPI document."""

    detail: str


_BODILESS = (204, 301, 304)
DECLARED: dict[int, ResponseSpec] = {
    status: ResponseSpec(None if status in _BODILESS else Detail, generate_examples=False, description=told)
    for status, told in (
        (201, "Made"),
        (202, "Committed, and not in force yet"),
        (204, "Removed"),
        (301, "The address ends in a slash"),
        (304, "Not changed since"),
        (400, "Something in the query or the body cannot be used"),
        (401, "No good token"),
        (403, "The right is missing"),
        (404, "Not there"),
        (405, "Not with this method"),
        (406, "Not in such a form"),
        (409, "Something stands in the way"),
        (413, "The body is too large"),
        (415, "A body of a type that is not taken"),
        (429, "Too many wrong tokens"),
        (503, "Not now: try again"),
    )
}
"""What any route may answer instead of what it is for."""


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    failure = failure_of(request, error)
    path = request.scope["path"]
    wanted = negotiation.chosen(request.headers.get("accept"))
    if failure.status_code == 404 and place(path) is None:
        if wanted is not None and wanted.media_type == negotiation.HTML:
            return _page(404, _UNKNOWN_ADDRESS)
        failure = Failure(404, _NO_SUCH_ADDRESS)
    return Response(
        msgspec.json.encode(failure.body),
        status_code=failure.status_code,
        media_type=negotiation.JSON,
        headers=failure.headers,
    )


def failure_of(request: Request[Any, Any, Any], error: Exception) -> Failure:
    """What an exception means here."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, SteersmanError):
        status = next(status for kind, status in _OURS if isinstance(error, kind))
        body = NOT_FOUND if status == 404 else {"detail": error.message}
        return Failure(status, body, {"Retry-After": "2"} if isinstance(error, Transient) else {})
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        if error.status_code == 401:
            asked = not request.scope["path"].rstrip("/").endswith("/auth/current-user")
            headers = {"WWW-Authenticate": "Token"} if asked else {}
        body = NOT_FOUND if error.status_code == 404 else {"detail": error.detail}
        return Failure(error.status_code, body, headers)
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return detail(500, "this is a fault of the server; its log has the details")


def _page(status: int, sentence: str) -> Response[bytes]:
    content, headers = pages.render("pdc-missing", sentence=sentence)
    return Response(content, status_code=status, media_type=pages.MEDIA_TYPE, headers=headers)
