"""What a request asks of the form of an answer: `Range`, `If-Range`, `If-None-Match`, `Accept-Encoding` (RFC 9110).

Pure: header values in, decisions out. Called by routes that stream large texts; it knows no route and sends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)
_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.ASCII | re.IGNORECASE)
IDENTITY = "identity"


class UnsatisfiableError(ValueError):
    """A range of which nothing is there: 416."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) that a `Range` header asks for of `size` bytes; None: everything.

    Several ranges, other units and what is malformed are answered with everything, as if there were no header.
    UnsatisfiableError when it is a range and lies outside.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        raise UnsatisfiableError
    return start, end


def encoding(header: str | None, offered: Sequence[str]) -> str:
    """The content coding that an `Accept-Encoding` header likes best; among equals, the first that is offered.

    Without a header, and when nothing that is offered is liked, `identity`.
    """
    liked: dict[str, float] = {}
    for item in (header or "").split(","):
        name, _, parameter = item.partition(";")
        quality = _QUALITY.fullmatch(parameter) if parameter.strip() else None
        if parameter.strip() and quality is None:
            continue
        liked[name.strip().lower()] = float(quality[1]) if quality else 1.0
    wild = liked.get("*", 0.0)
    best = max(offered, key=lambda name: liked.get(name, wild), default=IDENTITY)
    quality_of_best = liked.get(best, wild)
    plain = liked.get(IDENTITY, 0.0)
    return best if quality_of_best > 0 and quality_of_best >= plain else IDENTITY


def matches(header: str | None, tags: Sequence[str]) -> bool:
    """Does an `If-None-Match` header name one of these entity tags?"""
    if header is None:
        return False
    given = {item.strip().removeprefix("W/") for item in header.split(",")}
    return header.strip() == "*" or not given.isdisjoint(tags)
