"""From a document and its path to KEYs: what the path implies (escape-state, 13.4), what the metadata says,
and whether they agree. Called by the tree for each document of a changed file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from specs.document import Document
from specs.errors import Fault
from specs.kinds import KINDS, Part
from specs.meta import SCOPES, Key, a, environment_name_fault, project_name_fault
from specs.nearest import did_you_mean

_PATH = re.compile(r"projects/(?P<project>[^/]+)/(?:environments/(?P<environment>[^/]+)/)?.+")
_NAME_FAULTS = {"project": project_name_fault, "environment": environment_name_fault}


@dataclass(frozen=True, slots=True)
class Place:
    """One resource as declared: where, in which part of which document, with faults of its metadata."""

    key: Key
    path: str
    line: int
    document: Document
    part: Part
    faults: tuple[Fault, ...] = ()


def places(path: str, document: Document) -> Iterator[Place | Fault]:
    """The resources of a document; a Fault for each whose KEY cannot be told."""
    kind = KINDS.get(document.kind)
    at = document.positions.nearest
    if kind is None:
        yield Fault(*at("/kind"), f'"{document.kind}" is not a kind{did_you_mean(document.kind, KINDS)}')
        return
    message = kind.name_fault(document.name)
    if message:
        yield Fault(*at("/metadata/name"), message)
        return
    for part in kind.expand(document):
        yield _place(path, document, part)


def _place(path: str, document: Document, part: Part) -> Place | Fault:
    scope: dict[str, str | None] = {"project": None, "environment": None}
    parts = {name.rstrip("?"): name for name in SCOPES[document.kind]}
    implied = _PATH.fullmatch(path)
    written = {"project": document.project, "environment": part.environment}
    for name, form in parts.items():
        said, meant = written[name], implied[name] if implied else None
        place = document.positions.nearest(f"/metadata/{name}")
        if said is not None and meant is not None and said != meant:
            return Fault(
                *place, f'metadata.{name} is "{said}", but the path implies "{meant}"; they must agree'
            )
        value = said or meant
        if value is None and not form.endswith("?"):
            place = document.positions.nearest("/metadata")
            return Fault(*place, f"metadata.{name} is missing: {a(document.kind)} is inside a {name}")
        if value is not None and (message := _NAME_FAULTS[name](value)):
            return Fault(*place, message)
        scope[name] = value
    key = Key(document.kind, scope["project"], scope["environment"], document.name)
    line = document.line if part.layers[0][0] == ("spec",) else _line(document, part)
    return Place(key, path, line, document, part, tuple(_idle(document, parts)))


def _line(document: Document, part: Part) -> int:
    from specs.positions import pointer

    return document.positions.nearest(pointer(part.layers[0][0]), key=True)[0]


def _idle(document: Document, parts: dict[str, str]) -> Iterator[Fault]:
    """Faults of scope that the kind does not have."""
    for name, value in (("project", document.project), ("environment", document.environment)):
        if value is not None and name not in parts:
            place = document.positions.nearest(f"/metadata/{name}", key=True)
            yield Fault(*place, f"{a(document.kind)} has no {name}; remove metadata.{name}")
