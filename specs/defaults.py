"""Defaults that a Project or an Environment holds for the resources inside it (own-kinds, "Less to write"):
their checks.

Called by the evaluation of those two kinds. How defaults are merged is in specs.layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from specs.kinds import KINDS
from specs.layers import without_nulls
from specs.messages import KeyedFault, faults
from specs.meta import SCOPES, a
from specs.model import Steps
from specs.nearest import did_you_mean
from specs.refused import take_refused

DEFAULTING = ("Project", "Environment")
"""The kinds that hold defaults for what is inside them."""


def check_defaults(owner: str, defaults: Mapping[str, Any]) -> Iterator[KeyedFault]:
    """Faults of the `defaults` of a Project or Environment (`owner` says which of the two)."""
    inside = kinds_inside(owner)
    for kind, values in defaults.items():
        where: Steps = ("defaults", kind)
        if kind not in inside:
            yield where, f"{a(owner)} has no defaults for {kind}{did_you_mean(kind, inside)}", True
        elif isinstance(values, Mapping):
            yield from (
                ((*where, *steps), message, key) for steps, message, key in _kind_faults(kind, values)
            )


def kinds_inside(owner: str) -> list[str]:
    """The kinds whose resources stand inside a Project or an Environment."""
    part = owner.lower()
    return [kind for kind in KINDS if any(scope.rstrip("?") == part for scope in SCOPES[kind])]


def _kind_faults(kind: str, values: Mapping[str, Any]) -> Iterator[KeyedFault]:
    spec = without_nulls(values)
    yield from ((steps, message, True) for steps, message in take_refused(kind, spec))
    for path in KINDS[kind].not_defaulted:
        if _stands(spec, path):
            yield tuple(path.split(".")), f"{path} of {a(kind)} cannot be defaulted; remove it here", True
    known = [name for name in KINDS[kind].model.model_fields if name not in KINDS[kind].not_defaulted]
    for name, value in spec.items():
        if name in KINDS[kind].not_defaulted:
            continue
        if name not in known:
            yield (name,), f'unknown field "{name}" of {a(kind)}{did_you_mean(name, known)}', True
        else:
            yield from _value_faults(kind, name, value)


def _stands(value: Any, path: str) -> bool:
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False
        value = value[step]
    return True


def _value_faults(kind: str, name: str, value: Any) -> Iterator[KeyedFault]:
    try:
        _adapter(kind, name).validate_python({name: value})
    except ValidationError as error:
        yield from faults(error, KINDS[kind].model, {name: value})


@lru_cache(maxsize=512)
def _adapter(kind: str, name: str) -> TypeAdapter[dict[str, Any]]:
    """Checks one field alone, as `{name: value}`, so that locations begin with the field."""
    field = KINDS[kind].model.model_fields[name]
    annotation: Any = field.annotation
    for part in field.metadata:
        annotation = Annotated[annotation, part]
    shape: Any = TypedDict("Field", {name: annotation})  # type: ignore[misc]
    return TypeAdapter(with_config(ConfigDict(strict=True))(shape))
