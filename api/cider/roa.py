"""The object `_json-roa` of an answer: what it is, where it leads, and what a list holds (cider-ci, 3.3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.cider import relations

VERSION = "1.0.0"
"""Of JSON-ROA, not of this API."""

Relation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Collection:
    """A page of a list: addresses of its items, of which the first is number `first`; and of the page after it."""

    name: str
    members: tuple[str, ...]
    first: int = 1
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """How an answer is called, its own address, where it leads beside the root, and what it lists."""

    name: str
    here: str
    relations: Mapping[str, Relation] = field(default_factory=dict)
    collection: Collection | None = None


def document(links: Links) -> dict[str, Any]:
    """The whole object. The version stands in it twice: clients of before 2015 know the longer name only."""
    found: dict[str, Any] = {
        "version": VERSION,
        "json-roa_version": VERSION,
        "name": links.name,
        "self-relation": {"name": links.name, "href": links.here},
        "relations": {"root": relations.relation(relations.ROOT), **links.relations},
    }
    if links.collection is not None:
        found["collection"] = _collection(links.collection)
    return found


def _collection(page: Collection) -> dict[str, Any]:
    found: dict[str, Any] = {"relations": dict(_numbered(page.name, page.members, page.first))}
    if page.next is not None:
        found["next"] = {"href": page.next}
    return found


def _numbered(name: str, members: Iterable[str], first: int) -> Iterable[tuple[str, Relation]]:
    for number, href in enumerate(members, first):
        yield str(number), {"name": name, "href": href}
