"""The resources that one document declares: mostly one, several where a kind says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specs.document import Document
from specs.model import Steps


@dataclass(frozen=True, slots=True)
class Part:
    """One resource of a document: its environment, and its fields as (where they stand, fields), strongest
    first; `faults` as (JSON pointer, sentence).
    """

    environment: str | None
    layers: tuple[tuple[Steps, Mapping[str, Any]], ...]
    faults: tuple[tuple[str, str], ...] = ()


def one(document: Document) -> Iterator[Part]:
    """A document that declares one resource."""
    yield Part(document.environment, ((("spec",), document.spec),))
