"""What all specification models share: strict, frozen, closed; and the field types that several kinds use.

A field type's validator raises ValueError with a sentence that goes after the field's name ("must …").
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from specs.globs import check_glob

LARGEST_TEXT = 1024 * 1024

Steps = tuple[str | int, ...]
"""A path into a specification: keys and indexes."""

SpecFault = tuple[Steps, str]
"""A fault of a valid model found by a cross-check: where, and the sentence."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED_PREFIX = "STEERSMAN_"


class Spec(BaseModel):
    """A specification or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def variable_shape_fault(name: str) -> str | None:
    """What keeps a text from being a part of a variable's name, or None."""
    if _VARIABLE.fullmatch(name):
        return None
    return f'"{name}" is not a variable name: letters, digits and _, not beginning with a digit'


def _variable(name: str) -> str:
    if message := variable_shape_fault(name):
        raise ValueError(message)
    if name.startswith(RESERVED_PREFIX):
        raise ValueError(
            f"variables that begin with {RESERVED_PREFIX} are set by Steersman; choose another name"
        )
    return name


def no_nul(text: str) -> str:
    """The text itself; ValueError if it holds a NUL, which no process can be given."""
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _glob(pattern: str) -> str:
    message = check_glob(pattern)
    if message:
        raise ValueError(message)
    return pattern


def _inside(path: str) -> str:
    if path.startswith(("/", "~")) or ".." in path.split("/"):
        raise ValueError("must be a relative path inside the checkout, without ..")
    return path


Text = Annotated[str, AfterValidator(no_nul)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(no_nul)]
VariableName = Annotated[str, Field(max_length=200), AfterValidator(_variable)]
Variables = dict[VariableName, Text]
Glob = Annotated[str, AfterValidator(_glob)]
RelativePath = Annotated[
    str, Field(min_length=1, max_length=1000), AfterValidator(no_nul), AfterValidator(_inside)
]
Script = Annotated[str, Field(min_length=1, max_length=LARGEST_TEXT), AfterValidator(no_nul)]

# Per kind: field -> value. What stands in it is checked against the models of those kinds, by specs.defaults.
Defaults = dict[str, dict[str, Any]]
