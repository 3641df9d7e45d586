"""Errors of the Escape State Service API: one body for all of them (escape-state, 3.5).

Chosen by path prefix in `api.app`. JSON, or one plain sentence for a client that does not say what it takes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from reconciler.errors import (
    BrokenBefore,
    Conflict,
    Forbidden,
    NotFound,
    PushRefused,
    Refused,
    SpecificationRefused,
    Stale,
    SteersmanError,
)

log = structlog.get_logger(__name__)

# The first row that fits decides; an empty code is the error's reason.
_OURS: tuple[tuple[type[SteersmanError], int, str], ...] = (
    (Stale, 412, "stale"),
    (BrokenBefore, 409, "spec-invalid"),
    (PushRefused, 502, "git-rejected"),
    (Forbidden, 403, "forbidden"),
    (NotFound, 404, "not-found"),
    (SpecificationRefused, 400, "invalid-field"),
    (Conflict, 409, ""),
    (Refused, 400, "invalid-field"),
    (SteersmanError, 503, "git-unavailable"),
)
_REASONS: Mapping[str, str] = {"CannotWrite": "spec-invalid", "Finished": "already-finished"}
_REFUSALS: Mapping[str, str] = {"InvalidReference": "invalid-reference", "NoSuchRelease": "invalid-reference"}
_BY_STATUS: Mapping[int, str] = {
    400: "invalid-field",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    426: "upgrade-required",
    429: "rate-limited",
}
_PLACE = re.compile(r":\d+:\d+$")
_RETRY = {"Retry-After": "2"}
_LONGEST = 2000
_CODE = re.compile(r"/(webhook|confirmation)/[^/]+")


class BadRequest(HTTPException):
    """A malformed or inconsistent request; `fields` says which field is wrong, and how."""

    status_code = 400

    def __init__(self, code: str, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(detail=message)
        self.code = code
        self.fields = dict(fields or {})


class Starting(HTTPException):
    """Nothing has been applied yet, so nothing can be said."""

    status_code = 503


@dataclass(frozen=True, slots=True)
class Error:
    """An error, for the OpenAPI document."""

    error: str
    code: str
    fields: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ToBeMerged:
    """Where a commit waits, for the OpenAPI document."""

    branch: str
    commit: str


DECLARED: dict[int, ResponseSpec] = {
    202: ResponseSpec(ToBeMerged, generate_examples=False, description="The commit waits to be merged")
} | {
    status: ResponseSpec(Error, generate_examples=False, description=told)
    for status, told in (
        (400, "The request is malformed or inconsistent"),
        (401, "No good token"),
        (403, "The role is too small"),
        (404, "Not there, or not to be seen"),
        (409, "It does not fit what is there"),
        (412, "It has changed since it was read"),
        (413, "The body is too large"),
        (429, "Too many wrong tokens"),
        (502, "Git refuses the commit"),
        (503, "Git is out of reach, or nothing was read yet"),
    )
}
"""What any route may answer instead of what it is for."""


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Any exception of a request."""
    if isinstance(error, SteersmanError):
        return _ours(request, error)
    if isinstance(error, BadRequest):
        return _answer(request, 400, error.code, error.detail, fields=error.fields)
    if isinstance(error, Starting):
        return _answer(request, 503, "starting", error.detail, _RETRY)
    if isinstance(error, ValidationException):
        return _parameters(request, error)
    if isinstance(error, HTTPException):
        code = _BY_STATUS.get(error.status_code, "invalid-field")
        return _answer(request, error.status_code, code, error.detail, dict(error.headers or {}))
    mark = secrets.token_hex(8)
    path = _CODE.sub(r"/\1/***", request.url.path)
    log.error("request-crashed", path=path, request=mark, exc_info=error)
    told = f"This is a fault of the server; its log has the details under {mark}."
    return _answer(request, 500, "internal", told)


def _ours(request: Request[Any, Any, Any], error: SteersmanError) -> Response[bytes]:
    status, code = next((status, code) for kind, status, code in _OURS if isinstance(error, kind))
    fields: dict[str, str] = {}
    if isinstance(error, SpecificationRefused):
        fields = {where: told for _, where, told in error.errors if not _PLACE.search(where)}
        if any(told.endswith("declared") for _, _, told in error.errors):
            code = "invalid-reference"
    if isinstance(error, Refused):
        code = _REFUSALS.get(error.reason, code)
    headers = _RETRY if status == 503 else {}
    code = code or _REASONS.get(error.reason) or _kebab(error.reason)
    return _answer(request, status, code, error.message, headers, fields)


def _parameters(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    extra = error.extra if isinstance(error.extra, list) else []
    fields = {
        str(item.get("key", "")): str(item.get("message", "")) for item in extra if isinstance(item, dict)
    }
    told = "; ".join(f"{name}: {message}" for name, message in fields.items()) or error.detail
    return _answer(request, 400, "invalid-field", told, fields=fields)


def _answer(
    request: Request[Any, Any, Any],
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
) -> Response[bytes]:
    message = _cut(message)
    if _wants_text(request):
        return Response(
            message.encode(), status_code=status, media_type=MediaType.TEXT, headers=dict(headers or {})
        )
    body: dict[str, Any] = {"error": message, "code": code}
    if fields:
        body["fields"] = {_cut(name): _cut(told) for name, told in fields.items()}
    content = msgspec.json.encode(body)
    return Response(content, status_code=status, media_type=MediaType.JSON, headers=dict(headers or {}))


def _wants_text(request: Request[Any, Any, Any]) -> bool:
    if not request.headers.get("accept", "").strip():
        return True
    return request.accept.best_match([MediaType.JSON, MediaType.TEXT]) == MediaType.TEXT


def _cut(text: str) -> str:
    """What is told of a value is not as long as the value."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _kebab(reason: str) -> str:
    """AlreadyExists → already-exists."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", reason).lower()
