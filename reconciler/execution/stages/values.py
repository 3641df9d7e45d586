"""Inputs and outputs of a stage: where they come from, what is wrong with them, how scripts see them (8.3).

Pure.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.job import Reason
from specs.references import SECRET_REF

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "list": (list,),
    "integer": (int,),
    "bool": (bool,),
}
PLATFORM = {
    "ESCAPE_PLATFORM": platform.system().lower(),
    "ESCAPE_ARCH": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    "PYTHONUNBUFFERED": "1",
}


class ValueFault(Exception):
    """An input or an output is missing, or not what it must be."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Variables:
    """Of a script: plain ones, those that no log shows, and those that name a secret."""

    plain: dict[str, str] = field(default_factory=dict)
    sensitive: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: dict[str, Any] = field(default_factory=dict)


def scoped(plan: Mapping[str, Any], what: str, stage: str) -> list[Mapping[str, Any]]:
    """The `inputs` or `outputs` of a compiled plan that count for a stage."""
    return [item for item in plan.get(what) or () if stage in item["scopes"]]


def sensitive(plan: Mapping[str, Any], what: str) -> frozenset[str]:
    """The ids of those whose values are hidden."""
    return frozenset(item["id"] for item in plan.get(what) or () if item.get("sensitive"))


def calculated(
    declared: Iterable[Mapping[str, Any]], *layers: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The inputs of a stage: later layers go before earlier ones, and defaults fill what is missing.

    Also the ids that nobody declares. ValueFault.
    """
    given: dict[str, Any] = {}
    for layer in layers:
        given |= layer
    known = {item["id"]: item for item in declared}
    for name, item in known.items():
        if name not in given and item.get("default") is not None:
            given[name] = item["default"]
        if name not in given:
            raise ValueFault(Reason.MISSING_INPUT, f"the input {name} has no value, and no default")
        given[name] = _fitting(item, given[name])
    return given, sorted(given.keys() - known.keys())


def _fitting(item: Mapping[str, Any], value: Any) -> Any:
    """The value in the type that is declared; texts are read, as variables of triggers are always texts."""
    name, wanted = item["id"], item.get("type") or "string"
    if isinstance(value, Mapping) and SECRET_REF in value:
        return value
    if isinstance(value, str) and wanted in ("list", "integer", "bool"):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueFault(Reason.INVALID_INPUT, f"the input {name} must be a {wanted}") from None
    if not isinstance(value, _TYPES[wanted]) or (wanted == "integer" and isinstance(value, bool)):
        raise ValueFault(Reason.INVALID_INPUT, f"the input {name} must be a {wanted}")
    items = item.get("items") or ()
    found = value if isinstance(value, list) else [value]
    if items and any(each not in items for each in found):
        allowed = ", ".join(map(text, items))
        raise ValueFault(Reason.INVALID_INPUT, f"the input {name} must be one of {allowed}")
    return value


def outputs(
    declared: Iterable[Mapping[str, Any]], found: Mapping[str, Any], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """The outputs of a stage after one of its scripts. ValueFault where one is no text."""
    for name, value in found.items():
        if not isinstance(value, str):
            raise ValueFault(Reason.INVALID_OUTPUT, f"the output {name} must be a text, in quotation marks")
    values = {item["id"]: item["default"] for item in declared if item.get("default") is not None}
    return values | dict(earlier) | dict(found)


def missing(declared: Iterable[Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    """ValueFault where an output that is declared was not given."""
    names = [item["id"] for item in declared if item["id"] not in found]
    if names:
        raise ValueFault(Reason.INVALID_OUTPUT, f"the output {names[0]} was not written")


def text(value: Any) -> str:
    """A value as a variable."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def add(variables: Variables, prefix: str, values: Mapping[str, Any], hidden: Iterable[str] = ()) -> None:
    """Values as variables PREFIX<id>."""
    hidden = frozenset(hidden)
    for name, value in values.items():
        variable = f"{prefix}{name}"
        if isinstance(value, Mapping) and isinstance(value.get(SECRET_REF), str):
            variables.secrets[variable] = {SECRET_REF: value[SECRET_REF]}
        elif name in hidden:
            variables.sensitive[variable] = text(value)
        else:
            variables.plain[variable] = text(value)
