"""Forms of pages: their fields as text, with a limit, whatever is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Request
from litestar.exceptions import ClientException

_LONGEST = 20_000


async def read(request: Request[Any, Any, Any]) -> Mapping[str, str]:
    """Field → text; of a field that comes twice, the last. 400 for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind and request.headers.get("content-length", "0") == "0":
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise ClientException(detail="send a form (application/x-www-form-urlencoded)")
    given = {name: str(text) for name, text in (await request.form()).multi_items()}
    if any(len(text) > _LONGEST or "\0" in text for text in given.values()):
        raise ClientException(
            detail=f"a field of the form is longer than {_LONGEST} characters, or no plain text"
        )
    return given
