"""Durations of a project configuration, `2 minutes and 30 seconds`, to seconds (cider-ci, section 6).

Called by the checks and by whoever makes a job's work. Never takes a number without a unit.
"""

from __future__ import annotations

import re

LONGEST_SECONDS = 365 * 86_400

_SECONDS = {
    "year": 365 * 86_400.0,
    "month": 30 * 86_400.0,
    "week": 7 * 86_400.0,
    "day": 86_400.0,
    "hour": 3600.0,
    "minute": 60.0,
    "second": 1.0,
    "millisecond": 0.001,
}
_PAIR = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]{1,20})", re.ASCII)
_IGNORED = re.compile(r"\b(?:and|plus)\b|,", re.ASCII)
_LONGEST_TEXT = 200


class BadDuration(ValueError):
    """What is wrong with a duration, as a sentence after the key's name."""


def seconds(text: str) -> int | float:
    """The seconds of a duration, above 0; raises BadDuration. A month has 30 days and a year 365."""
    if len(text) > _LONGEST_TEXT:
        raise BadDuration(f"must have at most {_LONGEST_TEXT} characters")
    left = _IGNORED.sub(" ", text.lower()).strip()
    total = 0.0
    while left:
        pair = _PAIR.match(left)
        if pair is None:
            raise _unlike(text)
        total += float(pair[1]) * _unit(pair[2], text)
        left = left[pair.end() :].lstrip()
    if total <= 0:
        raise _unlike(text) if not text.strip() else BadDuration("must be longer than nothing")
    if total > LONGEST_SECONDS:
        raise BadDuration("must be at most a year")
    total = round(total, 3)
    return int(total) if total.is_integer() else total


def _unit(word: str, text: str) -> float:
    known = _SECONDS.get(word) or _SECONDS.get(word.removesuffix("s"))
    if known is None:
        raise _unlike(text)
    return known


def _unlike(text: str) -> BadDuration:
    return BadDuration(
        f'must be numbers with units ({", ".join(_SECONDS)}) such as "2 minutes and 30 seconds"; '
        f'"{text[:50]}" is not'
    )
