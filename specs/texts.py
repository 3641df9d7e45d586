"""Texts beside the specifications (`run_file`): where a path written in a document leads, and which texts
files name.

Called by the tree and the evaluation. Never reads a text.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from specs.defaults import DEFAULTING, kinds_inside
from specs.document import Document, ParsedFile
from specs.kinds import KINDS


def wanted_texts(path: str, parsed: ParsedFile) -> frozenset[str]:
    """Paths of the texts that one file names, also in defaults; from the source's root."""
    return frozenset(found for document in parsed.documents for found in _texts(path, document))


def text_path(document_path: str, name: str) -> str | None:
    """The path of a text that a document names, from the source's root; None if it is outside."""
    folder = "" if name.startswith("/") else posixpath.dirname(document_path)
    path = posixpath.normpath(posixpath.join(folder, name.lstrip("/") if not folder else name))
    if path in (".", "..") or path.startswith(("../", "/")) or "\x00" in path:
        return None
    return path


def _texts(path: str, document: Document) -> Iterable[str]:
    kind = KINDS.get(document.kind)
    if kind is None:
        return
    specs = [(kind, values) for part in kind.expand(document) for _, values in part.layers]
    defaults = document.spec.get("defaults") if document.kind in DEFAULTING else None
    if isinstance(defaults, Mapping):
        inside = [name for name in kinds_inside(document.kind) if isinstance(defaults.get(name), Mapping)]
        specs += [(KINDS[name], defaults[name]) for name in inside]
    for of, values in specs:
        for _, name in of.texts(values):
            if found := text_path(path, name):
                yield found
