"""Bodies of requests: JSON, or a form whose values are texts (pdc, 3.2)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import HTTPException

from api.pdc.errors import detail
from reconciler.json_text import Unreadable, decode

PARSED = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
MISSING: Any = object()
"""There is no body."""


async def body(request: Request[Any, Any, Any]) -> Any:
    """What a body says; MISSING where there is none. 400 for one that cannot be read, 415 for any other type."""
    raw = await request.body()
    if not raw:
        return MISSING
    header = request.headers.get("content-type", "")
    kind = header.partition(";")[0].strip().lower()
    if kind == PARSED[0]:
        return _json(raw)
    if kind == PARSED[1]:
        try:
            return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
        except ValueError as error:
            raise detail(400, f"The form cannot be read: {error}") from None
    if kind == PARSED[2]:
        return await _form(request)
    raise detail(415, f'Unsupported media type "{header}" in request.')


def _json(raw: bytes) -> Any:
    try:
        return decode(raw)
    except Unreadable as error:
        raise detail(400, f"JSON parse error - the body {error}") from None


async def _form(request: Request[Any, Any, Any]) -> dict[str, str]:
    try:
        form = await request.form()
    except (HTTPException, ValueError) as error:
        raise detail(400, f"Multipart form parse error - {error}") from None
    found = dict(form.multi_items())
    if not all(isinstance(value, str) for value in found.values()):
        raise detail(400, "A form holds texts here, no files.")
    return found
