"""Errors as problem details (RFC 9457), chosen in one place for every exception (design 9).

A poisoned request never gives a 500 with a traceback: what is not foreseen is logged here and answered in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from reconciler.errors import (
    BadSignature,
    Conflict,
    Forbidden,
    NotFound,
    PushRefused,
    Refused,
    SpecificationRefused,
    Stale,
    Stalled,
    SteersmanError,
    Transient,
    Waiting,
)

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"

# The first row that fits decides.
STATUS: tuple[tuple[type[SteersmanError], int], ...] = (
    (BadSignature, 401),
    (PushRefused, 502),
    (Stale, 412),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 422),
    (Waiting, 503),
    (Transient, 503),
    (Stalled, 409),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, for the OpenAPI document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


DECLARED: dict[int, ResponseSpec] = {
    status: ResponseSpec(Problem, media_type=MEDIA_TYPE, generate_examples=False, description=told)
    for status, told in (
        (400, "The request cannot be read"),
        (401, "No good token"),
        (403, "The role is too small"),
        (404, "Not there, or not to be seen"),
        (409, "It does not fit what is there"),
        (412, "It has changed since it was read"),
        (413, "The body is too large"),
        (415, "The body is no JSON"),
        (422, "It cannot be accepted"),
        (429, "Too many wrong tokens"),
        (502, "Git refuses the commit"),
        (503, "Not now: try again"),
    )
}
"""What any route may answer instead of what it is for."""


def problem(
    status: int, reason: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response[bytes]:
    """One problem document."""
    body = {"type": "about:blank", "title": reason, "status": status, "detail": detail} | more
    return Response(
        msgspec.json.encode(body), status_code=status, media_type=MEDIA_TYPE, headers=headers or {}
    )


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    if isinstance(error, SteersmanError):
        return _ours(error)
    if isinstance(error, ValidationException):
        return _invalid(error)
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return problem(error.status_code, _title(error.status_code), error.detail or "", headers)
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return problem(500, "InternalError", "this is a fault of the server; its log has the details")


def status_of(error: SteersmanError) -> int:
    """The HTTP status of one of our errors."""
    return next((code for kind, code in STATUS if isinstance(error, kind)), 409)


def _ours(error: SteersmanError) -> Response[bytes]:
    status = status_of(error)
    headers = {"Retry-After": "2"} if status == 503 else {}
    more: dict[str, Any] = {}
    if isinstance(error, SpecificationRefused):
        more["errors"] = [
            {"key": key, "where": where, "message": message} for key, where, message in error.errors
        ]
    return problem(status, error.reason, error.message, headers, **more)


def _invalid(error: ValidationException) -> Response[bytes]:
    extra = error.extra if isinstance(error.extra, list) else []
    faults = [
        {"field": str(item.get("key", "")), "message": str(item.get("message", ""))}
        for item in extra
        if isinstance(item, dict)
    ]
    detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults) or error.detail
    return problem(400, "BadRequest", detail, errors=faults)


def _title(status: int) -> str:
    titles = {
        400: "BadRequest",
        401: "Unauthorized",
        403: "Forbidden",
        404: "NotFound",
        405: "MethodNotAllowed",
        413: "TooLarge",
        415: "UnsupportedMediaType",
        429: "TooManyRequests",
    }
    return titles.get(status, "Error")
