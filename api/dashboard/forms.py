"""Forms of pages: their fields as text, with a limit, whatever is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import ClientException

_LONGEST = 20_000
_MOST = 200


async def read(request: Request[Any, Any, Any]) -> Mapping[str, str]:
    """Field → text; of a field that comes twice, the last. 400 for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind and request.headers.get("content-length", "0") == "0":
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise ClientException(detail="send a form (application/x-www-form-urlencoded)")
    try:
        text = (await request.body()).decode("ascii")
        given = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST))
    except ValueError:  # also of what is no UTF-8
        raise ClientException(detail=f"this is no form of at most {_MOST} fields") from None
    if any(len(field) > _LONGEST or "\0" in field for field in given.values()):
        raise ClientException(
            detail=f"a field of the form is longer than {_LONGEST} characters, or no plain text"
        )
    return given
