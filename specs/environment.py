"""The kind Environment (escape-state, section 14): a named place of a project, and the defaults of what is
inside it.
"""

from __future__ import annotations

from pydantic import Field

from specs.model import Defaults, Spec, Text


class Environment(Spec):
    """An environment of a project."""

    description: Text = ""
    """What the environment is, in a sentence for people."""
    defaults: Defaults = Field(default_factory=dict)
    """Per kind, fields for the resources inside the environment that do not set them themselves."""
