"""The kind Project (escape-state, section 14): what a project is, the namespaces of releases that it owns,
and the defaults of what is inside it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from specs.meta import Key
from specs.model import Defaults, EnvironmentName, Spec, SpecFault, Steps, Text, Web
from specs.references import Reference
from specs.release import Namespace as NamespaceName

LARGEST_LOGO = 256 * 1024
"""Of a logo in base64."""


def _logo(text: str) -> str:
    plain = "".join(text.split())
    try:
        base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be an image in base64") from None
    return plain


Logo = Annotated[str, Field(max_length=LARGEST_LOGO), AfterValidator(_logo)]


class Namespace(Spec):
    """The first half of the names of releases; it belongs to one project only."""

    name: NamespaceName
    """The namespace's name."""
    description: Text = ""
    """What is released in it, in a sentence for people."""
    logo: Logo = ""
    """An image in base64."""
    org_url: Web | None = None
    """The address of a page about it."""


class Project(Spec):
    """A project: the home of repositories, environments, builds, deployments and pipelines."""

    description: Text = ""
    """What the project is, in a sentence for people."""
    org_url: Web | None = None
    """The address of a page about the project."""
    logo: Logo = ""
    """An image in base64."""
    logo_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A file beside the specification that holds the image; with a leading /, from the source's root."""
    is_public: bool = False
    """Whether the project says of itself that everybody may know of it."""
    namespaces: list[Namespace] = Field(default_factory=list, max_length=1000)
    """Namespaces of releases that the project owns."""
    environment_order: list[EnvironmentName] = Field(default_factory=list)
    """Environments in the order they are shown; those not named come last, by name."""
    defaults: Defaults = Field(default_factory=dict)
    """Per kind, fields for the resources inside the project that do not set them themselves."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    seen: set[str] = set()
    for index, name in enumerate(spec["environment_order"]):
        if name in seen:
            yield ("environment_order", index), f'"{name}" stands in environment_order twice'
        seen.add(name)
    names = claimed(spec)
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("namespaces", index, "name"), f'a namespace "{name}" stands above; remove one'
    if spec["logo"] and spec["logo_file"] is not None:
        yield ("logo_file",), "logo and logo_file exclude each other; keep one"


def orders(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Environments that the order names."""
    for index, environment in enumerate(spec["environment_order"]):
        name = f"Environment/{key.name}/{environment}"
        yield Reference(("environment_order", index), (name,), usable=False)


def claimed(spec: Mapping[str, Any]) -> list[str]:
    """The namespaces that a specification, valid or not, names."""
    items = spec.get("namespaces")
    names = (
        [item.get("name") for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    )
    return [name for name in names if isinstance(name, str)]


def logo_text(spec: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    """The file beside the specification, valid or not, that holds the logo."""
    name = spec.get("logo_file")
    if isinstance(name, str) and name:
        yield ("logo_file",), name
