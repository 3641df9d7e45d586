"""Errors as Cider-CI answers them: a message (cider-ci, 3.5). Chosen by path in `api.app`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from api.cider.relations import CREATE_JOB
from reconciler.errors import Conflict, Forbidden, NotFound, Refused, SteersmanError

log = structlog.get_logger(__name__)

# The first row that fits decides.
_OURS: tuple[tuple[type[SteersmanError], int], ...] = (
    (NotFound, 404),
    (Forbidden, 403),
    (Conflict, 422),
    (Refused, 422),
    (SteersmanError, 503),
)
_BY_REASON: Mapping[str, int] = {"TooLarge": 413, "SeveralOwners": 409}


class Unusable(HTTPException):
    """A body or a parameter that cannot be used; `detail` says why."""

    status_code = 422


@dataclass(frozen=True, slots=True)
class Told:
    """The body of a refusal, for the OpenAPI document; `error` says the same where a job could not be made."""

    message: str
    error: str | None = None


DECLARED: dict[int, ResponseSpec] = {
    status: ResponseSpec(Told, generate_examples=False, description=told)
    for status, told in (
        (401, "No good credentials"),
        (403, "Not with these credentials"),
        (404, "Not there, or not to be seen"),
        (405, "Not with this method"),
        (413, "The body is too large"),
        (415, "The body is no JSON"),
        (422, "The body or a parameter cannot be used"),
        (429, "Too many wrong credentials"),
        (503, "Not now: try again"),
    )
}
"""What any route may answer instead of what it is for."""


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    if isinstance(error, SteersmanError):
        status = next(status for kind, status in _OURS if isinstance(error, kind))
        status = _BY_REASON.get(error.reason, status)
        return _answer(request, status, error.message, {"Retry-After": "2"} if status == 503 else {})
    if isinstance(error, ValidationException):
        return _answer(request, 422, error.detail)
    if isinstance(error, HTTPException):
        return _answer(request, error.status_code, _told(error), error.headers)
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return _answer(request, 500, "this is a fault of the server; its log has the details")


def _told(error: HTTPException) -> str:
    if error.status_code == 404:
        return "there is nothing at this path, or nothing that you may see"
    return error.detail


def _answer(
    request: Request[Any, Any, Any], status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    body = {"message": message}
    if status == 422 and request.scope["path"].rstrip("/") == CREATE_JOB.path:
        body["error"] = message
    own = {"content-type": "application/json; charset=utf-8", "vary": "Accept"}
    return Response(msgspec.json.encode(body), status_code=status, headers={**(headers or {}), **own})
