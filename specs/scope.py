"""From a document and its path to KEYs: what the path implies (escape-state, 13.4), what the metadata says,
and whether they agree. Called by the tree for each document of a changed file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from specs.document import Document
from specs.errors import Fault
from specs.kinds import KINDS
from specs.meta import (
    OWNED,
    SCOPES,
    Key,
    a,
    environment_name_fault,
    plain_name_fault,
    project_name_fault,
    user_name_fault,
)
from specs.nearest import did_you_mean
from specs.parts import Part
from specs.places import implied
from specs.positions import Position, pointer

_NAME_FAULTS = {
    "project": project_name_fault,
    "environment": environment_name_fault,
    "team": plain_name_fault,
    "owner": user_name_fault,
}


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
    parts = list(kind.expand(document))
    if not parts:
        message = "environments must be a mapping of at least one environment to its fields"
        yield Fault(*at("/spec/environments"), message)
    for part in parts:
        yield _place(path, document, part)


def _place(path: str, document: Document, part: Part) -> Place | Fault:
    kind, own = document.kind, part.layers[0][0] == ("spec",)
    scope = _scope(path, document, part)
    if isinstance(scope, Fault):
        return scope
    key = Key(
        kind,
        scope.get("project"),
        scope.get("environment"),
        document.name,
        scope.get("team"),
        document.owner if kind in OWNED else None,
    )
    line = document.line if own else written_at(document, part, "environment")[0]
    faults = [Fault(*document.positions.nearest(where), message) for where, message in part.faults]
    return Place(key, path, line, document, part, (*faults, *_idle(document)))


def _scope(path: str, document: Document, part: Part) -> dict[str, str | None] | Fault:
    """The scope parts of the kind, from the metadata and the path; a Fault where they do not make a KEY."""
    kind = document.kind
    written = {"project": document.project, "environment": part.environment, "team": document.team}
    means: Mapping[str, str | None] = implied(path)
    if kind in OWNED and document.owner is not None:
        if message := _owned_fault(document, means):
            return Fault(*document.positions.nearest("/metadata/owner"), message)
        return {}
    scope: dict[str, str | None] = {}
    for form in SCOPES[kind]:
        name = form.rstrip("?")
        said, meant = written[name], means.get(name)
        value = said or meant
        message = None
        if said is not None and meant is not None and said != meant:
            message = f'metadata.{name} is "{said}", but the path implies "{meant}"; they must agree'
        elif value is not None:
            message = _NAME_FAULTS[name](value)
        elif not form.endswith("?"):
            place = document.positions.nearest("/metadata")
            return Fault(*place, f"metadata.{name} is missing: {a(kind)} is inside {a(name)}")
        if message:
            return Fault(*written_at(document, part, name), message)
        scope[name] = value
    if scope.get("environment") is not None and scope.get("project") is None:
        return Fault(
            *written_at(document, part, "environment"), "metadata.environment needs metadata.project"
        )
    return scope


def _owned_fault(document: Document, means: Mapping[str, str | None]) -> str | None:
    for name in ("project", "environment"):
        if getattr(document, name) is not None:
            return f"metadata.owner and metadata.{name} exclude each other; keep one"
    if means.get("project") is not None:
        return "the path implies a project, which excludes metadata.owner; move the file"
    return user_name_fault(document.owner or "")


def written_at(document: Document, part: Part, name: str) -> Position:
    """Where a part of the scope is written: in the metadata, or as the key of the entry that the part is."""
    if name == "environment" and part.layers[0][0] != ("spec",):
        return document.positions.nearest(pointer(part.layers[0][0]), key=True)
    return document.positions.nearest(f"/metadata/{name}")


def _idle(document: Document) -> Iterator[Fault]:
    """Faults of scope that the kind does not have."""
    kind = document.kind
    has = {form.rstrip("?") for form in SCOPES[kind]} | ({"owner"} if kind in OWNED else set())
    for name in _NAME_FAULTS:
        if getattr(document, name) is not None and name not in has:
            place = document.positions.nearest(f"/metadata/{name}", key=True)
            yield Fault(*place, f"{a(kind)} has no {name}; remove metadata.{name}")
