"""Releases: versions of applications, each with its plan and its package (escape-state, 8.6; design 8.1).

Made by the executions of Builds; kept by `reconciler.store.releases`; deployed by the executions of Deployments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from specs.versions import release_id


@dataclass(frozen=True, slots=True)
class Release:
    """One version. `digest` and `size` are its package's, `commit` is what it was made from ({} where that is unknown).

    `plan`: compiled (specs.plan); `job`, `execution`: the execution that made it, by number and by its id there.
    `overwritten`: what it has replaced, oldest first, each as {digest, size, job, execution, created_at}.
    """

    id: str
    namespace: str
    application: str
    version: str
    project: str
    commit: Mapping[str, Any]
    plan: Mapping[str, Any]
    plan_digest: str
    digest: str
    size: int
    fat: bool
    job: int
    execution: str
    overwritten: tuple[Mapping[str, Any], ...] = ()
    created_at: datetime | None = None

    @property
    def name(self) -> str:
        """`namespace/application`."""
        return f"{self.namespace}/{self.application}"

    @property
    def label(self) -> str:
        """`namespace/application-v1.2.3`."""
        return release_id(self.namespace, self.application, self.version)

    @property
    def git_tag(self) -> str:
        """The name of the tag that marks its commit in the code repository."""
        return self.label
