"""Environment variables of scripts of a project configuration (cider-ci, section 6): names in upper case,
nulls dropped, `{{NAME}}` replaced until nothing changes.

Called when a job's work is made, and again at its start with the variables that are known only then. Never
sets a variable by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MOST_ROUNDS = 20
MOST_CHARACTERS = 100_000
"""Of all variables of a script together."""

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}", re.ASCII)


class Unsettled(ValueError):
    """A variable that names itself, so that replacing never ends; the sentence names it."""


def merged(*layers: Mapping[str, str | None]) -> dict[str, str]:
    """The variables of all layers, later ones over earlier ones; null takes a variable away."""
    whole: dict[str, str | None] = {}
    for layer in layers:
        whole |= {name.upper(): value for name, value in layer.items()}
    return {name: value for name, value in whole.items() if value is not None}


def filled(variables: Mapping[str, str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables with every `{{NAME}}` replaced that they or `known` give; others stay as they stand.

    Raises Unsettled where this does not end.
    """
    values = dict(variables)
    for _ in range(MOST_ROUNDS):
        after = _round(values, {**(known or {}), **values})
        if after == values:
            return values
        values = after
    raise Unsettled("`{{…}}` in variables is replaced without an end; one of them names itself")


def _round(values: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    after: dict[str, str] = {}
    size = 0
    for name, value in values.items():
        names = _TEMPLATE.findall(value) if "{{" in value else []
        size += len(value) + sum(len(given.get(other.upper(), "")) for other in names)
        if size > MOST_CHARACTERS:
            raise Unsettled(
                f"variables have more than {MOST_CHARACTERS} characters once `{{{{…}}}}` is replaced"
            )
        after[name] = _TEMPLATE.sub(lambda at: given.get(at[1].upper(), at[0]), value) if names else value
    return after
