"""Errors as Sqedule answers them: one text (sqedule, 3.5). What is not allowed is 401, as what is not authenticated.

Chosen by path in `api.app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.openapi.datastructures import ResponseSpec

from reconciler.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PushRefused,
    Refused,
    SpecificationRefused,
    SteersmanError,
)

log = structlog.get_logger(__name__)
JSON = "application/json; charset=utf-8"
VARY = {"Vary": "User-Agent"}
"""Of all answers: a state is spelled otherwise for the published client."""

_BASIC = {"WWW-Authenticate": 'Basic realm="steersman", charset="UTF-8"'}
_NO_PAGE = "404 page not found"
# The first row that fits decides.
_OURS: tuple[tuple[type[SteersmanError], int, str], ...] = (
    (NotFound, 404, ""),
    (Forbidden, 401, "Unauthorized action: "),
    (SpecificationRefused, 400, "Invalid input: "),
    (Conflict, 422, ""),
    (Refused, 400, "Invalid input: "),
    (PushRefused, 502, ""),
    (SteersmanError, 503, ""),
)
_NOT_FOUND = {
    "NoSuchApplication": "application not found",
    "NoSuchRequest": "release not found",
    "NoSuchRule": "approval rule not found",
}
"""By the reason of the refusal, what this API says instead."""


class BadRequest(HTTPException):
    """What was sent cannot be used."""

    status_code = 400


class LoginFailed(HTTPException):
    """No such member, or another password; of the paths that say who one is."""

    status_code = 401


def bad_input(message: str) -> BadRequest:
    """The body is not what it should be."""
    return BadRequest(detail=f"Invalid input: {message}")


@dataclass(frozen=True, slots=True)
class Error:
    """The body of a refusal, for the OpenAPI document."""

    error: str


DECLARED: dict[int, ResponseSpec] = {
    status: ResponseSpec(Error, generate_examples=False, description=told)
    for status, told in (
        (400, "The body or a parameter cannot be used"),
        (401, "No good credentials, or not allowed"),
        (404, "Not there"),
        (413, "The body is too large"),
        (422, "What there is forbids it"),
        (429, "Too many wrong credentials"),
        (502, "The spec repository refuses the commit"),
        (503, "Not now: try again"),
    )
}
"""What any route may answer instead of what it is for."""


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    if isinstance(error, SteersmanError):
        status, before = next((status, text) for kind, status, text in _OURS if isinstance(error, kind))
        told = _NOT_FOUND.get(error.reason, error.message) if status == 404 else f"{before}{error.message}"
        return _answer(status, told, {"Retry-After": "2"} if status == 503 else {})
    if isinstance(error, LoginFailed):
        body = msgspec.json.encode({"code": 401, "message": error.detail})
        headers = {"WWW-Authenticate": "JWT realm=Sqedule", **VARY}
        return Response(body, status_code=401, media_type=JSON, headers=headers)
    if isinstance(error, (NotFoundException, MethodNotAllowedException)):
        return Response(
            _NO_PAGE.encode(), status_code=404, media_type="text/plain; charset=utf-8", headers=VARY
        )
    if isinstance(error, HTTPException):
        status = 401 if error.status_code == 403 else error.status_code
        own = {} if error.status_code == 401 else error.headers or {}
        return _answer(status, error.detail, own)
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return _answer(500, "this is a fault of the server; its log has the details", {})


def _answer(status: int, text: str, headers: Mapping[str, str]) -> Response[bytes]:
    own = {**headers, **VARY, **(_BASIC if status == 401 else {})}
    return Response(msgspec.json.encode({"error": text}), status_code=status, media_type=JSON, headers=own)
