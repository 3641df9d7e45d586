"""Products, releases and schedules as they are in force, changesets, and who asks (pdc, 2.5, 2.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.access import Caller, authority_of
from reconciler.installation import Installation
from reconciler.model.product import Catalogue
from reconciler.passes import products
from reconciler.store import products as rows
from reconciler.store.products import Changeset as Changeset
from reconciler.store.products import Wanted as Wanted


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as this API shows people. `name` is that of a subject, without its kind."""

    name: str
    full_name: str
    email: str
    groups: tuple[str, ...]


async def catalogue(installation: Installation) -> Catalogue:
    """All there is, with its numbers."""
    return await products.catalogue(installation)


async def changeset(installation: Installation, id: int) -> Changeset | None:
    """One changeset."""
    return await installation.database.read(lambda c: rows.find(c, id))


async def changesets(
    installation: Installation, wanted: Wanted, limit: int | None, offset: int
) -> list[Changeset]:
    """Some of them, newest first."""
    return await installation.database.read(lambda c: rows.listed(c, wanted, limit, offset))


async def changeset_count(installation: Installation, wanted: Wanted) -> int:
    """How many there are."""
    return await installation.database.read(lambda c: rows.count(c, wanted))


def person(installation: Installation, caller: Caller) -> Person:
    """Who the caller is; its groups are its teams."""
    resource = installation.snapshot.current.resources.get(caller.subject)
    spec: Mapping[str, Any] = (resource.spec if resource else None) or {}
    name = caller.subject.partition("/")[2]
    teams = authority_of(installation).teams
    groups = tuple(sorted(team for team, members in teams.items() if caller.person and name in members))
    return Person(name, spec.get("display_name") or "", spec.get("email") or "", groups)
