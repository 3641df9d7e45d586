"""In which form an answer goes out: JSON, or a page for people (pdc, 3.2, 7.1). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

JSON = "application/json"
HTML = "text/html"
_OFFERED = (JSON, HTML)
_INDENT = re.compile(r"[0-8]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """A media type, and by how much nested lines go in (JSON that people read)."""

    media_type: str
    indent: int = 0


def chosen(accept: str | None) -> Form | None:
    """The form that an `Accept` header wants; None: none that there is.

    The most specific range wins, whatever its quality says; among equals JSON does.
    """
    if accept is None:
        return Form(JSON)
    ranges = [_range(item) for item in accept.split(",") if item.strip()]
    for level in (3, 2, 1, 0):
        for offered in _OFFERED:
            for kind, parameters in ranges:
                if _level(kind, parameters) == level and _covers(kind, offered):
                    return Form(offered, _indent(parameters))
    return None


def _range(item: str) -> tuple[str, dict[str, str]]:
    kind, *parameters = (part.strip().lower() for part in item.split(";"))
    pairs = (part.partition("=") for part in parameters if part)
    return kind, {name.strip(): value.strip() for name, _, value in pairs}


def _level(kind: str, parameters: dict[str, str]) -> int:
    if kind == "*/*":
        return 0
    if kind.endswith("/*"):
        return 1
    return 3 if parameters else 2


def _covers(kind: str, offered: str) -> bool:
    return kind in ("*/*", offered, f"{offered.partition('/')[0]}/*")


def _indent(parameters: dict[str, str]) -> int:
    found = parameters.get("indent", "")
    return int(found) if _INDENT.fullmatch(found) else 0
