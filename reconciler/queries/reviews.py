"""Applications, approval rulesets and their bindings with all versions, as they are looked at (sqedule, 2.3 to 2.7).

Read by whoever has a role anywhere. Each function is one look at the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from reconciler.access import Caller
from reconciler.errors import Forbidden, NotFound
from reconciler.installation import Installation
from reconciler.model.request import Request
from reconciler.model.review import (
    Bound,
    Kind,
    Named,
    Ref,
    Version,
    Whole,
    application,
    folded,
)
from reconciler.store import reviews
from reconciler.store.database import Connection
from reconciler.store.requests import key_of
from reconciler.store.review_wholes import found, proposal, whole

T = TypeVar("T")


def require_reader(caller: Caller) -> None:
    """Forbidden to who has no role at all."""
    if not caller.rights.roles:
        raise Forbidden("Forbidden", "to read this takes a role on something")


async def require_application(installation: Installation, caller: Caller, name: str) -> None:
    """Let a reader look at what belongs to an application. Forbidden, NotFound."""
    await _read(installation, caller, lambda c: found(c, application(name)))


async def get(installation: Installation, caller: Caller, ref: Ref) -> Whole:
    """A thing as it is in force. NotFound."""
    seen = await _read(installation, caller, lambda c: whole(c, ref, found(c, ref).latest))
    return _seen(caller, seen)


async def version(installation: Installation, caller: Caller, ref: Ref, number: int) -> Whole:
    """An approved version of a thing. NotFound."""

    def read(connection: Connection) -> Whole:
        found(connection, ref)
        one = reviews.approved(connection, ref, number)
        if one is None:
            raise NotFound("NoSuchVersion", f"{ref.words} version not found")
        return whole(connection, ref, one)

    return _seen(caller, await _read(installation, caller, read))


async def proposed(installation: Installation, caller: Caller, ref: Ref, id: int) -> Whole:
    """A proposal of a thing. NotFound."""
    return await _read(installation, caller, lambda c: whole(c, ref, proposal(c, ref, id)))


async def versions(
    installation: Installation, caller: Caller, ref: Ref, *, approved: bool, limit: int | None, offset: int
) -> tuple[list[Version], Counter[int]]:
    """Approved versions, or proposals, of a thing; and how many requests copied each version of a ruleset. NotFound."""

    def read(connection: Connection) -> tuple[list[Version], Counter[int]]:
        found(connection, ref)
        counted = reviews.counts(connection) if ref.kind is Kind.RULESET and approved else Counter[int]()
        return reviews.versions(connection, ref, approved=approved, limit=limit, offset=offset), counted

    return await _read(installation, caller, read)


async def applications(
    installation: Installation, caller: Caller, limit: int | None, offset: int
) -> list[Named]:
    """Newest first."""
    return await _read(installation, caller, lambda c: reviews.page(c, Kind.APPLICATION, limit, offset))


async def rulesets(
    installation: Installation, caller: Caller, limit: int | None, offset: int
) -> list[tuple[Named, int, int]]:
    """Each with the number of applications that it is bound to, and of requests that copied its newest version."""

    def read(connection: Connection) -> list[tuple[Named, int, int]]:
        bound = Counter(each.ruleset.reviewed.key for each in reviews.bindings(connection) if _binds(each))
        copied = reviews.counts(connection)
        return [
            (each, bound[each.reviewed.key], 0 if each.latest is None else copied[each.latest.id])
            for each in reviews.page(connection, Kind.RULESET, limit, offset)
        ]

    return await _read(installation, caller, read)


async def bindings(
    installation: Installation, caller: Caller, of: str | None, limit: int | None, offset: int
) -> list[Bound]:
    """All, or those of an application. NotFound."""

    def read(connection: Connection) -> list[Bound]:
        if of is not None:
            found(connection, application(of))
        key = None if of is None else folded(of)
        return reviews.bindings(connection, of_application=key, limit=limit, offset=offset)

    return await _read(installation, caller, read)


async def with_applications(
    installation: Installation, caller: Caller, asked: list[Request]
) -> list[tuple[Request, Named | None]]:
    """Requests with what they are of."""

    def read(connection: Connection) -> dict[str, Named]:
        return reviews.named(connection, Kind.APPLICATION, [each.application for each in asked])

    named = await _read(installation, caller, read)
    return [(each, named.get(each.application)) for each in asked]


async def _read(installation: Installation, caller: Caller, look: Callable[[Connection], T]) -> T:
    require_reader(caller)
    return await installation.database.read(look)


def _seen(caller: Caller, found: Whole) -> Whole:
    """Without the requests that the caller does not see."""
    releases = tuple(each for each in found.releases if caller.sees(key_of(each[1])))
    return replace(found, releases=releases)


def _binds(bound: Bound) -> bool:
    latest = bound.named.latest
    return latest is not None and bool(latest.content["enabled"])
