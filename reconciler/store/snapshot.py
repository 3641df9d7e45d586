"""All resources in memory, swapped in one step after each commit (design 15, "Caches").

Readers take `Snapshot.current` once and see one state; nobody waits for a query to learn a status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.model.resource import Resource
from reconciler.store.sources import Source


@dataclass(frozen=True, slots=True)
class View:
    """One state of everything declared, at one version."""

    version: int = 0
    resources: Mapping[str, Resource] = field(default_factory=dict)
    source: Source | None = None
    _executors: Mapping[str, Resource] | None = None

    @property
    def executors(self) -> Mapping[str, Resource]:
        """The declared Executors in force: dispatch asks at every end of a script."""
        if self._executors is None:
            found = {k: r for k, r in self.resources.items() if r.kind == "Executor" and r.spec is not None}
            object.__setattr__(self, "_executors", found)
        return self._executors or {}

    def with_changes(
        self,
        version: int,
        upserts: Iterable[Resource],
        removals: Iterable[str] = (),
        source: Source | None = None,
    ) -> View:
        """The state after a commit."""
        resources = dict(self.resources)
        same_executors = True
        for resource in upserts:
            resources[resource.key] = resource
            same_executors &= resource.kind != "Executor"
        for key in removals:
            resources.pop(key, None)
            same_executors &= not key.startswith("Executor/")
        return View(version, resources, source or self.source, self._executors if same_executors else None)


class Snapshot:
    """The holder of the current view."""

    def __init__(self) -> None:
        self.current = View()

    def swap(self, view: View) -> None:
        """Make this the current state."""
        self.current = view
