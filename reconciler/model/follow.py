"""What a `build` trigger of a Build looks at: the Builds that it follows and their last passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pass:
    """A job that passed, and the version of the store that its end is in."""

    number: int
    version: int


@dataclass(frozen=True, slots=True)
class Follow:
    """`keys` are followed; `passes`: of each that has one, that which ended last."""

    keys: tuple[str, ...]
    passes: Mapping[str, Pass]
