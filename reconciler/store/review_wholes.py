"""What is reviewed, looked at whole: a thing with its version and all around it, or that there is none (sqedule, 2.3).

Called by both doors inside of their transactions. Never looks at who asks.
"""

from __future__ import annotations

from reconciler.errors import NotFound
from reconciler.model.review import Kind, Named, Ref, Stage, Version, Whole
from reconciler.store import reviews
from reconciler.store.database import Connection


def found(connection: Connection, ref: Ref) -> Named:
    """A thing that is there. NotFound."""
    there = reviews.find(connection, ref)
    if there is None:
        raise NotFound("NoSuchThing", f"{ref.words} not found")
    return there


def proposal(connection: Connection, ref: Ref, id: int) -> Version:
    """A proposal that is there. NotFound."""
    found(connection, ref)
    version = reviews.proposal(connection, ref, id)
    if version is None:
        raise NotFound("NoSuchProposal", f"{ref.words} proposal not found")
    return version


def whole(connection: Connection, ref: Ref, version: Version | None) -> Whole:
    """A thing with all around it. NotFound."""
    named = found(connection, ref)
    if ref.kind is Kind.APPLICATION:
        return Whole(named, version, tuple(reviews.bindings(connection, of_application=ref.key)))
    if ref.kind is Kind.BINDING:
        bound = reviews.bound(connection, ref)
        return Whole(named, version, () if bound is None else (bound,))
    around = tuple(reviews.bindings(connection, of_ruleset=ref.key))
    if version is None or version.stage is not Stage.APPROVED:
        return Whole(named, version, around)
    copied = reviews.requests_with(connection, version.id)
    applications = reviews.named(connection, Kind.APPLICATION, [each.application for _, each in copied])
    releases = [
        (mode, each, applications[each.application])
        for mode, each in copied
        if each.application in applications
    ]
    return Whole(named, version, around, tuple(releases))
