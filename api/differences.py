"""Actions of plans as people see them: of each field the lines that differ, within a weight that a page can bear."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import yaml

_MOST_FIELDS = 40
_MOST_LINES = 60
_LONGEST = 400  # characters of a line
_HEAVIEST = 60_000  # characters of all lines of a page
_MARKS = {"-": "minus", "+": "plus", "@": "head"}
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Line = tuple[str, str]
"""How it is shown (`plus`, `minus`, `head`, or plain), and its text."""


def shown(actions: Sequence[Any], heaviest: int = _HEAVIEST) -> tuple[list[dict[str, Any]], int]:
    """Actions with their `lines`, until they are heavy enough, and how many are left out. It takes a while: call it
    beside the event loop.
    """
    found: list[dict[str, Any]] = []
    weight = 0
    for action in actions:
        if weight > heaviest:
            break
        told: Mapping[str, Any] = msgspec.to_builtins(action)
        lines, left = [], max(0, len(told["changes"]) - _MOST_FIELDS)
        if told["action"] != "delete":
            for change in told["changes"][:_MOST_FIELDS]:
                lines += difference(change)
                if weight + _weight(lines) > heaviest:
                    break
        weight += _weight(lines) + 200
        found.append({**told, "changes": len(told["changes"]), "lines": lines, "left": left})
    return found, len(actions) - len(found)


def difference(change: Mapping[str, Any]) -> list[Line]:
    """What becomes of a field: of long values only the lines that differ, with one around."""
    name = change["field"]
    old, new = _lines(change["old"]), _lines(change["new"])
    if len(old) <= 1 and len(new) <= 1:
        both = (("minus", "-", old), ("plus", "+", new))
        return [(mark, f"{sign} {name}: {lines[0]}") for mark, sign, lines in both if lines]
    lines = islice(difflib.unified_diff(old, new, n=1, lineterm=""), 2, 2 + _MOST_LINES)
    return [
        ("head", f"  {name}:"),
        *((_MARKS.get(at[0], ""), "  …" if at[0] == "@" else f"{at[0]}   {at[1:]}") for at in lines),
    ]


def _lines(value: Any) -> list[str]:
    """As YAML; of what is not there, nothing."""
    if value is None:
        return []
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    return [line[:_LONGEST] for line in text.removesuffix("...\n").splitlines()[:2_000]]


def _weight(lines: Sequence[Line]) -> int:
    return sum(len(text) + 40 for _, text in lines)
