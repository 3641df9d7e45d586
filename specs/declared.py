"""A declared resource as the tree gives it out: where it stands, what it says in effect, what is wrong with
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specs.errors import SpecError


@dataclass(frozen=True, slots=True)
class Declared:
    """One resource. `spec` and `digest` are None where `errors` is not empty.

    `spec` is effective: own fields over the Environment's defaults over the Project's over the built-in
    ones, as plain JSON values. `references` are KEYs, `files` paths of texts it uses. `sought` are KEYs that
    are not declared, or not meant, and whose coming or going changes what it refers to.
    """

    key: str
    kind: str
    project: str | None
    environment: str | None
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    path: str
    line: int
    spec: Mapping[str, Any] | None
    digest: str | None
    errors: tuple[SpecError, ...]
    references: frozenset[str]
    files: frozenset[str]
    sought: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
