"""A resource: one declared document as the store knows it, with its specification in force and its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.model.status import Condition, Health, Sync


class Specified(Protocol):
    """Something declared, seen by its specification alone."""

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """The last good one; None while there never was one."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Actual state of one KEY.

    `spec` is the last good specification (None while there never was one), `generation` counts its changes,
    `revision` is the commit that last changed it, `path:line` where it is declared.
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
    revision: str
    digest: str | None
    spec: Mapping[str, Any] | None
    references: tuple[str, ...]
    files: tuple[str, ...]
    generation: int
    observed_generation: int
    sync: Sync
    health: Health
    conditions: tuple[Condition, ...]
    uuid: str
    version: int = 0

    @property
    def in_force(self) -> bool:
        """Is there a good specification, now or from before?"""
        return self.spec is not None

    @property
    def invalid(self) -> bool:
        """Does Git declare something here that cannot be taken?"""
        return any(condition.type == "Invalid" and condition.status for condition in self.conditions)

    @property
    def tag(self) -> str:
        """What `If-Match` is compared with: the digest, or `invalid` while what Git declares cannot be taken."""
        return "invalid" if self.invalid else self.digest or "invalid"

    @property
    def location(self) -> str:
        """`path:line` in the spec repository."""
        return f"{self.path}:{self.line}"
