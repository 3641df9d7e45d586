"""Answers in the form that a request asks for: with or without hyperlinks (cider-ci, 3.1). Knows no job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response

from api.cider import negotiation, roa
from api.cider.roa import Links
from reconciler.access import Caller

Asked = Request[Caller, Any, Any]


def encoded(body: Mapping[str, Any], links: Links, kind: str) -> bytes:
    """An answer's bytes. Without hyperlinks it has exactly one key less."""
    shown = {**body, "_json-roa": roa.document(links)} if kind == negotiation.ROA else body
    return msgspec.json.encode(shown)


def answer(
    request: Asked, body: Mapping[str, Any], links: Links, status: int = 200, kind: str | None = None
) -> Response[bytes]:
    """An answer, in the form that the request likes best."""
    kind = kind or negotiation.chosen(request.headers.get("accept"))
    return sent(encoded(body, links, kind), kind, status)


def sent(content: bytes, kind: str, status: int = 200) -> Response[bytes]:
    """Bytes of one of the two forms."""
    headers = {"content-type": f"{kind}; charset=utf-8", "vary": "Accept"}
    return Response(content, status_code=status, media_type=kind, headers=headers)


def time(moment: datetime) -> str:
    """UTC with milliseconds (section 2)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_or_none(moment: datetime | None) -> str | None:
    """The same, where it may not be known."""
    return None if moment is None else time(moment)
