"""Which of the two forms an answer has: JSON with hyperlinks or without (cider-ci, 3.1; RFC 2616, 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

ROA = "application/json-roa+json"
PLAIN = "application/json"

_QUALITY = {ROA: 1.0, PLAIN: 0.5}
_RANGES = {kind: (kind, "application/*", "*/*") for kind in _QUALITY}
_NUMBER = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def chosen(accept: str | None) -> str:
    """The form that an `Accept` header likes best. Hyperlinks win ties, and are sent where neither is liked."""
    liked = dict(_liked(accept or "*/*"))
    score = {kind: own * _of(kind, liked) for kind, own in _QUALITY.items()}
    return PLAIN if score[PLAIN] > score[ROA] else ROA


def _of(kind: str, liked: dict[str, float]) -> float:
    """By the most specific range that covers it."""
    return next((liked[each] for each in _RANGES[kind] if each in liked), 0.0)


def _liked(accept: str) -> Iterator[tuple[str, float]]:
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        yield kind, next((_quality(p) for p in parameters if p.partition("=")[0].strip() == "q"), 1.0)


def _quality(parameter: str) -> float:
    value = parameter.partition("=")[2].strip()
    return float(value) if _NUMBER.fullmatch(value) else 1.0
