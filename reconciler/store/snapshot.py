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
    _of_kinds: dict[frozenset[str], Mapping[str, Resource]] = field(default_factory=dict, compare=False)

    def of_kinds(self, kinds: frozenset[str]) -> Mapping[str, Resource]:
        """The resources in force of some kinds: the very same mapping until one of them changes."""
        found = self._of_kinds.get(kinds)
        if found is None:
            found = {k: r for k, r in self.resources.items() if r.kind in kinds and r.spec is not None}
            self._of_kinds[kinds] = found
        return found

    def with_changes(
        self,
        version: int,
        upserts: Iterable[Resource],
        removals: Iterable[str] = (),
        source: Source | None = None,
    ) -> View:
        """The state after a commit."""
        resources = dict(self.resources)
        changed = set()
        for resource in upserts:
            resources[resource.key] = resource
            changed.add(resource.kind)
        for key in removals:
            resources.pop(key, None)
            changed.add(key.partition("/")[0])
        kept = {kinds: found for kinds, found in self._of_kinds.items() if not kinds & changed}
        return View(version, resources, source or self.source, kept)


class Snapshot:
    """The holder of the current view."""

    def __init__(self) -> None:
        self.current = View()

    def swap(self, view: View) -> None:
        """Make this the current state."""
        self.current = view
