"""What a file holds once it is parsed: documents, faults, and whether something in it could not be read at
all.

Made by the loader, kept by the source's cache (by blob id and LOADER_VERSION), read by the tree. Knows no
path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.errors import Fault
from specs.positions import Positions


@dataclass(frozen=True, slots=True)
class Document:
    """One declared document as written; `faults` are those that leave its KEY readable."""

    kind: str
    name: str
    project: str | None
    environment: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    line: int
    positions: Positions
    faults: tuple[Fault, ...] = ()
    team: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The content of one file. `opaque`: it may declare more than can be read, so nothing of it may be
    pruned.
    """

    documents: tuple[Document, ...] = ()
    faults: tuple[Fault, ...] = ()
    opaque: bool = field(default=False)

    def to_json(self) -> bytes:
        """The cache's form."""
        rows = [self.opaque, [_fault_row(f) for f in self.faults], [_document_row(d) for d in self.documents]]
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ParsedFile:
        """Back from the cache's form; raises ValueError or TypeError if the bytes are something else."""
        opaque, faults, documents = json.loads(data)
        return cls(
            tuple(_document(row) for row in documents), tuple(Fault(*row) for row in faults), bool(opaque)
        )


def _fault_row(fault: Fault) -> list[Any]:
    return [fault.line, fault.column, fault.message]


def _document_row(document: Document) -> list[Any]:
    d = document
    head = [d.kind, d.name, d.project, d.environment, dict(d.labels), dict(d.annotations), d.spec, d.line]
    return [*head, d.positions.encoded, [_fault_row(f) for f in d.faults], d.team, d.owner]


def _document(row: list[Any]) -> Document:
    kind, name, project, environment, labels, annotations, spec, line, encoded, faults, team, owner = row
    located = tuple(Fault(*fault) for fault in faults)
    return Document(
        kind, name, project, environment, labels, annotations, spec, line, Positions(encoded), located, team,
        owner,
    )  # fmt: skip
