"""The kind Environment (escape-state, section 14): a named place of a project, with inputs for what is
deployed there, and the defaults of what is inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from specs import approval, references
from specs.approval import RulesetBinding
from specs.meta import Key
from specs.model import Defaults, Spec, SpecFault, Text
from specs.references import Inputs, Reference


class Environment(Spec):
    """An environment of a project."""

    description: Text = ""
    """What the environment is, in a sentence for people."""
    protected: bool = False
    """Whether people need to be owners where writers would do elsewhere, and deploys are approved first."""
    inputs: Inputs = Field(default_factory=dict)
    """Inputs of every deployment here that does not set them itself."""
    approval_ruleset_bindings: list[RulesetBinding] = Field(default_factory=list, max_length=100)
    """Rulesets that judge what is deployed here, beside those of its Application."""
    defaults: Defaults = Field(default_factory=dict)
    """Per kind, fields for the resources inside the environment that do not set them themselves."""


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    return approval.bound_twice(spec)


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The rulesets bound here; the Secrets that inputs name, which stand inside it, so they need only be there."""
    yield from approval.bound(spec)
    inside = replace(key, environment=key.name)
    for steps, name in references.secrets_in(("inputs",), spec["inputs"]):
        yield references.secret(inside, steps, name, usable=False)
