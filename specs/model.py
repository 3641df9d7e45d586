"""What all specification models share: strict, frozen, closed; and the field types that several kinds use.

A field type's validator raises ValueError with a sentence that goes after the field's name ("must …").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from specs.globs import check_glob
from specs.meta import (
    deployment_name_fault,
    environment_name_fault,
    free_name_fault,
    free_part_fault,
    plain_name_fault,
    project_name_fault,
)

LARGEST_TEXT = 1024 * 1024

Steps = tuple[str | int, ...]
"""A path into a specification: keys and indexes."""

SpecFault = tuple[Steps, str]
"""A fault of a valid model found by a cross-check: where, and the sentence."""

_METADATA = "\x00"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED_PREFIX = "STEERSMAN_"


class Spec(BaseModel):
    """A specification or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def metadata(part: str) -> Steps:
    """The path that stands for a part of a document's metadata, in faults and references."""
    return (_METADATA + part,)


def metadata_part(steps: Steps) -> str | None:
    """The part of the metadata that a path stands for; None if it leads into the specification."""
    first = str(steps[0]) if steps else ""
    return first.removeprefix(_METADATA) if first.startswith(_METADATA) else None


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


def web_address(url: str) -> str:
    """An address for browsers and HTTP clients; ValueError for any other."""
    if not url.startswith(("https://", "http://")) or any(c.isspace() or ord(c) < 32 for c in url):
        raise ValueError("must be an address that begins with https:// or http://")
    try:
        parts = urlsplit(url)
        host, _port, user = parts.hostname, parts.port, parts.username or parts.password
    except ValueError:
        raise ValueError("must be a valid address") from None
    if not host:
        raise ValueError("must name a host")
    if user is not None:
        raise ValueError("must not hold credentials; consider them leaked, and remove them")
    return url


def _plain_name(name: str) -> str:
    if message := plain_name_fault(name):
        raise ValueError(f"must be a name: {message}")
    return name


def _environment_name(name: str) -> str:
    if message := environment_name_fault(name):
        raise ValueError(f"must be the name of an Environment: {message}")
    return name


def _project_name(name: str) -> str:
    if message := project_name_fault(name):
        raise ValueError(f"must be the name of a Project: {message}")
    return name


def _deployment_name(name: str) -> str:
    if message := deployment_name_fault(name):
        raise ValueError(f"must be the name of a Deployment: {message}")
    return name


def _free_name(name: str) -> str:
    if message := free_name_fault(name):
        raise ValueError(f"must be a name: {message}")
    return name


def _free_part(name: str) -> str:
    if message := free_part_fault(name):
        raise ValueError(f"must be a name: {message}")
    return name


def or_empty(check: Callable[[str], str]) -> Callable[[str], str]:
    """The same check, which lets the empty text pass."""
    return lambda text: check(text) if text else text


def _glob(pattern: str) -> str:
    message = check_glob(pattern)
    if message:
        raise ValueError(message)
    return pattern


def _inside(path: str) -> str:
    if path.startswith(("/", "~")) or ".." in path.split("/"):
        raise ValueError("must be a relative path inside the checkout, without ..")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("must be a path without control characters")
    return path


Text = Annotated[str, AfterValidator(no_nul)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(no_nul)]
VariableName = Annotated[str, Field(max_length=200), AfterValidator(_variable)]
Glob = Annotated[str, AfterValidator(_glob)]
RelativePath = Annotated[
    str, Field(min_length=1, max_length=1000), AfterValidator(no_nul), AfterValidator(_inside)
]
PlainName = Annotated[str, AfterValidator(_plain_name)]
FreeName = Annotated[str, AfterValidator(_free_name)]
FreePart = Annotated[str, AfterValidator(_free_part)]
EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
ProjectName = Annotated[str, AfterValidator(_project_name)]
DeploymentName = Annotated[str, AfterValidator(_deployment_name)]
Web = Annotated[str, Field(max_length=2000), AfterValidator(web_address)]
WebOrEmpty = Annotated[str, Field(max_length=2000), AfterValidator(or_empty(web_address))]
PlainNameOrEmpty = Annotated[str, AfterValidator(or_empty(_plain_name))]
Script = Annotated[str, Field(min_length=1, max_length=LARGEST_TEXT), AfterValidator(no_nul)]

# Per kind: field -> value. What stands in it is checked against the models of those kinds, by specs.defaults.
Defaults = dict[str, dict[str, Any]]
