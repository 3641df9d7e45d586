"""What a tree remembers between updates, by path and by KEY. Read by the tree, filled by specs.update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.declared import Declared
from specs.errors import SpecError, in_order
from specs.layers import Layer
from specs.model import Steps
from specs.scope import Place

DefaultsOf = Callable[[str, str], Layer | None]


@dataclass(slots=True)
class Index:
    """What a tree remembers between updates; never changed once its tree is made."""

    entries: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    """path -> the resources its file declares."""
    file_errors: dict[str, tuple[SpecError, ...]] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)
    places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    """KEY -> where it is declared; more than one is an error."""
    referrers: dict[str, frozenset[str]] = field(default_factory=dict)
    users: dict[str, frozenset[str]] = field(default_factory=dict)
    """path of a text -> KEYs that use it."""
    texts: dict[str, str | None] = field(default_factory=dict)
    wanted: dict[str, frozenset[str]] = field(default_factory=dict)
    """path of a file -> the texts it names."""
    good: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """KEY of a Project or Environment whose last good version is in use -> its specification."""
    starts: dict[str, tuple[tuple[Steps, str], ...]] = field(default_factory=dict)
    """KEY of what is right in itself -> where it names those of its kind that it waits for, and their KEYs."""
    alone: dict[str, Declared] = field(default_factory=dict)
    """KEY of what is in a circle of those -> what it would be without the circle."""
    claims: dict[str, frozenset[str]] = field(default_factory=dict)
    """Namespace of releases -> KEYs of the Projects whose documents name it."""

    def copy(self) -> Index:
        """An index that may be changed without changing this one."""
        return Index(
            dict(self.entries), dict(self.file_errors), set(self.opaque), dict(self.places),
            dict(self.referrers), dict(self.users), dict(self.texts), dict(self.wanted), dict(self.good),
            dict(self.starts), dict(self.alone), dict(self.claims),
        )  # fmt: skip

    def wanted_texts(self) -> frozenset[str]:
        """All texts that some file names."""
        return frozenset().union(*self.wanted.values())

    def errors(self, declared: Mapping[str, Declared]) -> tuple[SpecError, ...]:
        """All errors, of files and of resources."""
        errors = [error for of_file in self.file_errors.values() for error in of_file]
        errors.extend(error for resource in declared.values() for error in resource.errors)
        return in_order(errors)

    def defaults_in_use(self, declared: Mapping[str, Declared]) -> DefaultsOf:
        """(KEY of a Project or Environment, kind) -> the layer of its defaults for that kind."""

        def defaults(key: str, kind: str) -> Layer | None:
            if key in self.good:
                return _layer(key, self.good[key], kind, None)
            resource = declared.get(key)
            return (
                None
                if resource is None or resource.spec is None
                else _layer(key, resource.spec, kind, self.places[key][0])
            )

        return defaults


def _layer(key: str, spec: Mapping[str, Any], kind: str, place: Place | None) -> Layer | None:
    values = (spec.get("defaults") or {}).get(kind)
    if not values:
        return None
    document = None if place is None else place.document
    return Layer(key if place is None else place.path, ("spec", "defaults", kind), values, document)
