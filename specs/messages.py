"""Pydantic's errors told to people: which field, what is wrong with it, what to write instead.

Called by the evaluation of a document and of defaults. Shows values only where they are short and plain.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from specs.model import Steps
from specs.nearest import did_you_mean

KeyedFault = tuple[Steps, str, bool]
"""A path in a specification, the sentence, and whether the key of the entry is meant rather than its value."""

_LONGEST_SHOWN = 60


def faults(error: ValidationError, model: type[BaseModel] | None, spec: Any) -> Iterator[KeyedFault]:
    """Each fault of a validation of `spec`; a field that is missing because it is misspelt is told once."""
    found = [
        (details, clean(details["loc"], spec))
        for details in error.errors(include_url=False, include_context=True)
    ]
    told = [(details["type"], steps, _sentence(details, steps, model)) for details, steps in found]
    misspelt = [(steps[:-1], sentence) for kind, steps, sentence in told if kind == "extra_forbidden"]
    for kind, steps, sentence in told:
        meant = f'did you mean "{steps[-1]}"?' if steps else ""
        if kind == "missing" and any(
            around == steps[:-1] and other.endswith(meant) for around, other in misspelt
        ):
            continue
        yield steps, sentence, kind in ("extra_forbidden", "missing")


def clean(loc: tuple[int | str, ...], spec: Any) -> Steps:
    """Pydantic's location without the marks that are no keys of the value: `[key]` and the tags of unions."""
    steps: list[str | int] = []
    value = spec
    for at, step in enumerate(loc):
        inside = _inside(value, step)
        if inside:
            value = inside[0]
        elif at < len(loc) - 1 or step == "[key]" or not isinstance(value, Mapping):
            continue
        steps.append(step)
    return tuple(steps)


def _inside(value: Any, step: int | str) -> tuple[Any, ...]:
    """The entry of a mapping or list at a step, as a tuple of one; nothing if there is none."""
    if isinstance(value, Mapping) and step in value:
        return (value[step],)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return (value[step],)
    return ()


def label(steps: Steps) -> str:
    """A path as people write it: `tasks[0].run`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "spec"


def _sentence(details: ErrorDetails, steps: Steps, model: type[BaseModel] | None) -> str:
    kind, name = details["type"], label(steps)
    if kind == "extra_forbidden":
        known = _known_fields(model, details["loc"][:-1]) if model else ()
        return f'unknown field "{steps[-1]}"{did_you_mean(str(steps[-1]), known)}'
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":
        message = str(details["ctx"]["error"])
        return f"{name} {message}" if _continues(message) else f"{name}: {message}"
    told = _TOLD.get(kind)
    return f"{name} {told(details)}" if told else f"{name}: {details['msg']}"


def _continues(message: str) -> bool:
    return message.split(" ", 1)[0] in ("must", "is", "has", "never")


def _context(details: ErrorDetails, name: str) -> Any:
    return (details.get("ctx") or {}).get(name)


def _said(details: ErrorDetails) -> str:
    value = details["input"]
    if isinstance(value, (Mapping, list)):
        return ", not a mapping" if isinstance(value, Mapping) else ", not a list"
    shown = f'"{value}"' if isinstance(value, str) else _plain(value)
    return f", not {shown}" if len(shown) <= _LONGEST_SHOWN else ""


def _plain(value: Any) -> str:
    """A scalar as YAML writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _text_wanted(details: ErrorDetails) -> str:
    value = details["input"]
    if isinstance(value, float):
        return (
            "must be a quoted string: put quotes around what stands here; without them, 3.10 is read as 3.1"
        )
    if isinstance(value, (bool, int)):
        return f'must be a quoted string: write "{_plain(value)}"'
    return f"must be text{_said(details)}"


def _fixed(sentence: str) -> Callable[[ErrorDetails], str]:
    return lambda details: f"{sentence}{_said(details)}"


def _limit(sentence: str, name: str) -> Callable[[ErrorDetails], str]:
    return lambda details: sentence.format(_context(details, name))


def _choice(details: ErrorDetails) -> str:
    expected = str(_context(details, "expected")).replace("'", "")
    value = details["input"]
    near = did_you_mean(value, expected.replace(" or ", ", ").split(", ")) if isinstance(value, str) else ""
    return f"must be {expected}{_said(details)}{near if 'did you mean' in near else ''}"


def _tag(details: ErrorDetails) -> str:
    expected = str(_context(details, "expected_tags")).replace("'", "")
    return f'must have a type that is one of {expected}, not "{_context(details, "tag")}"'


_TOLD: dict[str, Callable[[ErrorDetails], str]] = {
    "string_type": _text_wanted,
    "bool_type": _fixed("must be true or false"),
    "int_type": _fixed("must be a whole number"),
    "int_from_float": _fixed("must be a whole number"),
    "float_type": _fixed("must be a number"),
    "dict_type": _fixed("must be a mapping"),
    "model_type": _fixed("must be a mapping"),
    "model_attributes_type": _fixed("must be a mapping"),
    "list_type": _fixed("must be a list"),
    "literal_error": _choice,
    "union_tag_invalid": _tag,
    "union_tag_not_found": lambda _details: "must have a type",
    "greater_than": _limit("must be more than {}", "gt"),
    "greater_than_equal": _limit("must be at least {}", "ge"),
    "less_than_equal": _limit("must be at most {}", "le"),
    "too_short": _limit("must have at least {} item(s)", "min_length"),
    "too_long": _limit("must have at most {} items", "max_length"),
    "string_too_short": lambda _details: "must not be empty",
    "string_too_long": _limit("must have at most {} characters", "max_length"),
}


@lru_cache(maxsize=256)
def _known_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """The fields of the model that stands at a location inside another."""
    found = [model]
    for step in loc:
        inner = [part for each in found for part in _step(each, step)]
        found = inner or found
    return tuple(dict.fromkeys(name for each in found for name in each.model_fields))


def _step(model: type[BaseModel], step: int | str) -> list[type[BaseModel]]:
    if isinstance(step, str) and step in model.model_fields:
        return list(_models(model.model_fields[step].annotation))
    tag = model.model_fields.get("type")
    return [model] if tag is not None and step in get_args(tag.annotation) else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation holds, through lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (list, dict, Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from _models(part)
