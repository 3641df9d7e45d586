"""JSON as clients send it, decoded: bodies of all served APIs, each of which tells the fault in its own words, and what
callers give in a text.

What is taken can be kept and shown again, in whatever it is then wrapped: its depth has a bound.
"""

from __future__ import annotations

from typing import Any

import msgspec

DEEPEST = 100
"""Lists and objects in each other. States of deployments, 20 of them in each other, come to 85."""


class Unreadable(ValueError):
    """What was sent cannot be used; the text goes on after a noun such as `the body`."""


def decode(raw: bytes | str) -> Any:
    """The value. Unreadable."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"is no JSON: {error}") from error
    except RecursionError:
        raise _too_deep() from None
    if _openings(raw) > DEEPEST and _deeper(value):
        raise _too_deep()
    return value


def _too_deep() -> Unreadable:
    return Unreadable(f"is nested deeper than {DEEPEST} levels")


def _openings(raw: bytes | str) -> int:
    """At least as many as there are levels; most bodies are known by that to be flat enough."""
    return raw.count("[") + raw.count("{") if isinstance(raw, str) else raw.count(b"[") + raw.count(b"{")


def _deeper(value: Any) -> bool:
    level = _within([value])
    for _ in range(DEEPEST):
        level = [inner for each in level for inner in _within(each)]
    return bool(level)


def _within(value: list[Any] | dict[str, Any]) -> list[Any]:
    """The lists and objects right in it."""
    inside = value.values() if isinstance(value, dict) else value
    return [each for each in inside if isinstance(each, dict | list)]
