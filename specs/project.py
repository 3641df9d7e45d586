"""The kind Project (escape-state, section 14): what a project is, and the defaults of what is inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from specs.model import Defaults, Spec, SpecFault, Steps, Text


def _web(url: str) -> str:
    if not url.startswith(("https://", "http://")) or any(c.isspace() for c in url):
        raise ValueError("must be an address that begins with https:// or http://")
    return url


class Project(Spec):
    """A project: the home of repositories, environments and builds."""

    description: Text = ""
    """What the project is, in a sentence for people."""
    org_url: Annotated[str, AfterValidator(_web)] | None = None
    """The address of a page about the project."""
    environment_order: list[str] = Field(default_factory=list)
    """Environments in the order they are shown; those not named come last, by name."""
    defaults: Defaults = Field(default_factory=dict)
    """Per kind, fields for the resources inside the project that do not set them themselves."""


def check(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    seen: set[str] = set()
    for index, name in enumerate(spec["environment_order"]):
        if name in seen:
            yield ("environment_order", index), f'"{name}" stands in environment_order twice'
        seen.add(name)


def orders(spec: Mapping[str, Any], name: str) -> Iterator[tuple[Steps, str]]:
    """The Environments that the order names."""
    for index, environment in enumerate(spec["environment_order"]):
        yield ("environment_order", index), f"Environment/{name}/{environment}"
