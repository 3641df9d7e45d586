"""What callers have said of a version, laid over what Git declares (sqedule, 5.2; design 13.12).

A version is read before it is changed, and Git may be ahead of what was read: only what was given is put there, all
else stays as it is declared. Pure; called by the commands of what is reviewed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from reconciler.errors import Conflict
from reconciler.model.review import DEFAULTS, Kind, Ref, stated

GIVEN = "given"
"""Beside the content of a proposal: the names of what was said of it, and the rules that its own were made from."""

_RULES = "rules"


def everything(kind: Kind) -> dict[str, Any]:
    """What a proposal says of which nothing else is known."""
    return {"fields": list(DEFAULTS[kind]), _RULES: None}


def said(
    ref: Ref, base: Mapping[str, Any], names: Iterable[str], source: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What is said by now of a version that begins as `base`; `source` is the content that its rules were made from."""
    before = base.get(GIVEN, {"fields": []})
    rules = None if source is None else source.get(GIVEN, stated(ref.kind, source)).get(_RULES)
    return {"fields": sorted({*before["fields"], *names}), _RULES: rules}


def source_of(contents: Iterable[Mapping[str, Any]], ids: Collection[int]) -> Mapping[str, Any] | None:
    """The first that has one of these rules."""
    return next((each for each in contents if any(rule.get("id") in ids for rule in each[_RULES])), None)


def over(ref: Ref, content: Mapping[str, Any], declared: Mapping[str, Any] | None) -> dict[str, Any]:
    """What shall stand in Git, where this is declared now (None: nothing). Conflict: it has other rules by now."""
    wanted = stated(ref.kind, content)
    told = content.get(GIVEN)
    if declared is None or told is None:
        return wanted
    now = stated(ref.kind, declared)
    made_from = told[_RULES] if _RULES in told["fields"] else None
    if made_from is not None and now[_RULES] not in (made_from, wanted[_RULES]):
        raise Conflict(
            "OtherRules",
            "the rules are not those that these ids are of: somebody has changed them in Git; read them again",
        )
    return {name: value if name in told["fields"] else now[name] for name, value in wanted.items()}
