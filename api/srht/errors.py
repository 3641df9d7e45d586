"""Errors as builds.sr.ht answers them: all that is wrong, each with its field where there is one (builds-srht, 2.4).

Chosen by path in `api.app`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from reconciler.errors import Conflict, Forbidden, NotFound, Refused, SteersmanError

log = structlog.get_logger(__name__)
Fault = tuple[str | None, str]
"""A field, if a single one is to blame, and what is wrong."""

_NOT_FOUND: tuple[Fault, ...] = ((None, "404 not found"),)
# The first row that fits decides.
_OURS: tuple[tuple[type[SteersmanError], int], ...] = (
    (NotFound, 404),
    (Forbidden, 403),
    (Conflict, 400),
    (Refused, 400),
    (SteersmanError, 503),
)


class BadRequest(HTTPException):
    """What was sent cannot be used; `faults` is all that is wrong with it."""

    status_code = 400

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(detail="; ".join(reason for _, reason in self.faults))


@dataclass(frozen=True, slots=True)
class OneError:
    """One thing that is wrong, for the OpenAPI document."""

    reason: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """The body of a refusal, for the OpenAPI document."""

    errors: list[OneError]


DECLARED: dict[int, ResponseSpec] = {
    status: ResponseSpec(Errors, generate_examples=False, description=told)
    for status, told in (
        (400, "The body or a parameter cannot be used, or it does not fit what the job is"),
        (401, "No good token, or no write access to this job"),
        (403, "The token lacks the scope"),
        (404, "Not there, or not to be seen"),
        (405, "Not with this method"),
        (413, "The body is too large"),
        (429, "Too many wrong tokens"),
        (503, "Not now: try again"),
    )
}
"""What any route may answer instead of what it is for."""


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    if isinstance(error, SteersmanError):
        status = next(status for kind, status in _OURS if isinstance(error, kind))
        headers = {"Retry-After": "2"} if status == 503 else {}
        return _answer(status, ((None, error.message),), headers)
    if isinstance(error, BadRequest):
        return _answer(400, error.faults)
    if isinstance(error, ValidationException):
        return _answer(400, _parameters(error))
    if isinstance(error, HTTPException):
        return _answer(error.status_code, ((None, error.detail),), error.headers)
    log.error("request-crashed", path=request.url.path, exc_info=error)
    return _answer(500, ((None, "this is a fault of the server; its log has the details"),))


def _parameters(error: ValidationException) -> tuple[Fault, ...]:
    extra = error.extra if isinstance(error.extra, list) else []
    found = [
        (str(item.get("key")) or None, str(item.get("message"))) for item in extra if isinstance(item, dict)
    ]
    return tuple(found) or ((None, error.detail),)


def _answer(
    status: int, faults: Iterable[Fault], headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    told = _NOT_FOUND if status == 404 else faults
    items = [{"reason": reason} | ({} if field is None else {"field": field}) for field, reason in told]
    body = msgspec.json.encode({"errors": items})
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))
