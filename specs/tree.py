"""Desired state at one revision: all declared resources by KEY, all errors; a value that is updated
incrementally.

Called by the source with the files that changed since the last revision. Never reads a file and never
touches the old value: an update gives a new one. How an update works is in specs.update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.declared import Declared
from specs.document import ParsedFile
from specs.errors import SpecError
from specs.evaluate import layers_of
from specs.index import Index
from specs.layers import Layer, fields, holder
from specs.scope import Place
from specs.texts import wanted_texts
from specs.update import update


@dataclass(frozen=True)
class Tree:
    """`errors` are all, in order; `opaque` the files that may declare more than can be read; `changed` the
    KEYs that the last update evaluated or removed.
    """

    declared: Mapping[str, Declared] = field(default_factory=dict)
    errors: tuple[SpecError, ...] = ()
    opaque: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    index: Index = field(default_factory=Index, repr=False, compare=False)

    @classmethod
    def empty(cls) -> Tree:
        """Nothing declared."""
        return cls()

    def wanted_texts(self, files: Mapping[str, ParsedFile | None]) -> frozenset[str]:
        """Paths of the texts (run_file) that these files name, also in defaults; all paths are from the
        source's root.
        """
        return frozenset(
            path for file_path, parsed in files.items() if parsed for path in wanted_texts(file_path, parsed)
        )

    def update(
        self,
        files: Mapping[str, ParsedFile | None],
        texts: Mapping[str, str | None],
        in_force: Mapping[str, Mapping[str, Any]],
    ) -> Tree:
        """The tree after these files (None: removed) and texts (None: missing or unreadable) have changed.

        `in_force` has the last good specification by KEY: it stands in for a Project's or Environment's
        defaults and for what others refer to, where those are declared but invalid, or in a file that
        cannot be read.
        """
        index, declared, changed = update(self.index, self.declared, files, texts, in_force)
        return Tree(declared, index.errors(declared), frozenset(index.opaque), frozenset(changed), index)

    def texts(self) -> frozenset[str]:
        """Paths of all texts that the tree's files name: a change of one of them is to be given to
        `update`.
        """
        return self.index.wanted_texts()

    def place(self, key: str) -> Place | None:
        """Where a resource is declared; the first place if it is declared twice."""
        places = self.index.places.get(key)
        return places[0] if places else None


def origins(tree: Tree, key: str) -> Mapping[str, str]:
    """Each effective field (`environment_variables.CC` in merged mappings) -> "path:line" it comes from, or
    "built-in".

    Where the defaults of a last good version are in force, their KEY and "last good version" stand instead
    of a place.
    """
    place, declared = tree.place(key), tree.declared.get(key)
    if place is None or declared is None or declared.spec is None:
        return {}
    layers = layers_of(place, tree.index.defaults_in_use(tree.declared))
    return {name: _origin(layers, steps) for name, steps in fields(declared.spec, layers)}


def _origin(layers: list[Layer], steps: tuple[str | int, ...]) -> str:
    layer, held = holder(layers, steps)
    if held != steps:
        return "built-in"
    if layer.document is None:
        return f"last good version of {layer.path}"
    return f"{layer.path}:{layer.position(held, key=True)[0]}"
