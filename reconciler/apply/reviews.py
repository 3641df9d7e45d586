"""Versions from commits (sqedule, 10.3; design 13.12): what Git declares of applications, approval rulesets and their
bindings becomes one more approved version wherever it differs from the newest.

Called inside of the transaction that applies a revision. A proposal that was committed becomes that version itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reconciler.model.resource import Resource
from reconciler.model.review import (
    COMMITTING,
    IMPLICIT,
    Kind,
    Named,
    Ref,
    Version,
    application,
    binding,
    folded,
    ruleset,
    stated,
)
from reconciler.model.told import Told
from reconciler.store import reviews
from reconciler.store.database import Write

KINDS: Mapping[str, Callable[[str], Ref]] = {"Application": application, "ApprovalRuleset": ruleset}
"""The kinds of resources whose contents are versions here."""


_FEW = 20
_Content = tuple[Ref, dict[str, Any] | None]
"""Something, and what it shall hold; None: what it held last, switched off."""


def note(
    write: Write,
    before: Mapping[str, Resource],
    stored: Iterable[Resource],
    removed: Iterable[str],
    told: Sequence[Told] = (),
) -> None:
    """Bring the versions to what is in force now. `before` are the resources of the revision before."""
    mine = {each.key: each for each in stored if each.kind in KINDS and each.spec is not None}
    gone = {key for key in removed if key.partition("/")[0] in KINDS}
    if not mine and not gone:
        return
    renamed = [pair for commit in told for pair in commit.renamed]
    for old in sorted(gone):
        new = _successor(old, renamed)
        if new in mine and _rename(write, old, new):
            gone.discard(old)
    contents: dict[tuple[Kind, str], _Content] = {}
    bound = _bound_now(write, [*gone, *mine])
    for key in sorted(gone):
        contents |= _without(key, bound)
    first = _first(key for key in before.keys() | mine.keys() if key not in gone)
    for resource in mine.values():
        if first.get(folded(resource.key), resource.key) == resource.key:
            contents |= _declared(resource, bound)
    for kind in Kind:
        _bring(write, kind, [each for (of, _), each in contents.items() if of is kind])


def _successor(key: str, renamed: Sequence[tuple[str, str]]) -> str:
    """What a KEY is called after all that, of which each may build on the one before."""
    for old, new in renamed:
        if old == key:
            key = new
    return key


def _rename(write: Write, old: str, new: str) -> bool:
    """False where it is none, or somebody has that id."""
    (kind, _, before), (other, _, after) = old.partition("/"), new.partition("/")
    if kind != other or kind not in KINDS:
        return False
    one, two = KINDS[kind](before), KINDS[kind](after)
    if reviews.find(write.connection, one) is None:
        return False
    if one.key != two.key and reviews.find(write.connection, two) is not None:
        return False
    reviews.rename(write, one, two)
    return True


def _first(keys: Iterable[str]) -> dict[str, str]:
    """Of applications whose ids differ in case only, the first by its KEY is the one that counts."""
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith("Application/"):
            found[folded(key)] = min(key, found.get(folded(key), key))
    return found


def _bound_now(write: Write, keys: Sequence[str]) -> Mapping[str, list[str]]:
    """The rulesets that were ever bound to these applications, by the key of the application."""
    names = [folded(key.partition("/")[2]) for key in keys if key.startswith("Application/")]
    if len(names) > _FEW:
        known = reviews.bindings(write.connection)
    else:
        known = [each for name in names for each in reviews.bindings(write.connection, of_application=name)]
    found: dict[str, list[str]] = {}
    for each in known:
        found.setdefault(each.application.reviewed.key, []).append(each.ruleset.reviewed.name)
    return found


def _without(key: str, bound: Mapping[str, Sequence[str]]) -> dict[tuple[Kind, str], _Content]:
    """What is declared no more is switched off; its history stays."""
    kind, _, name = key.partition("/")
    ref = KINDS[kind](name)
    return _contents([(ref, None), *_unbound(ref, bound)])


def _declared(resource: Resource, bound: Mapping[str, Sequence[str]]) -> dict[tuple[Kind, str], _Content]:
    """The contents that a resource declares; bindings that it does not declare (any more) are switched off."""
    spec = resource.spec or {}
    ref = KINDS[resource.kind](resource.name)
    found: list[_Content] = [(ref, stated(ref.kind, spec)), *_unbound(ref, bound)]
    if ref.kind is Kind.APPLICATION:
        found += [
            (binding(resource.name, each["approval_ruleset"]), stated(Kind.BINDING, each))
            for each in spec["approval_ruleset_bindings"]
        ]
    return _contents(found)


def _unbound(ref: Ref, bound: Mapping[str, Sequence[str]]) -> list[_Content]:
    if ref.kind is not Kind.APPLICATION:
        return []
    return [(binding(ref.application, name), None) for name in bound.get(ref.key, ())]


def _contents(found: Iterable[_Content]) -> dict[tuple[Kind, str], _Content]:
    """By what they are stored under; the last one counts."""
    return {(ref.kind, ref.key): (ref, content) for ref, content in found}


def _bring(write: Write, kind: Kind, contents: Sequence[_Content]) -> None:
    """One more version for each whose content differs from its newest."""
    keys = [ref.key for ref, _ in contents]
    known = reviews.named(write.connection, kind, keys)
    waiting = reviews.proposals(write.connection, kind, list(known))
    for ref, wanted in contents:
        there = known.get(ref.key)
        content = _off(there) if wanted is None else wanted
        if content is None:
            continue
        if there is None:
            reviews.add(write, ref)
        latest = None if there is None else there.latest
        if latest is not None and _same(latest, content):
            continue
        made_of = next((each for each in waiting.get(ref.key, ()) if _is_it(each, content)), None)
        version = reviews.approve(write, ref, content, made_of)
        reviews.touch(write, ref, ref.name)
        body = {"of": kind.value, "ruleset": ref.ruleset, "version": version.number, "id": version.id}
        key = f"ApprovalRuleset/{ref.ruleset}" if kind is Kind.RULESET else f"Application/{ref.application}"
        write.record("version-approved", key, body)


def _off(there: Named | None) -> dict[str, Any] | None:
    """The newest content, switched off; None where there is nothing to be."""
    if there is None or there.latest is None:
        return None
    return {**stated(there.reviewed.kind, there.latest.content), "enabled": False}


def _same(latest: Version, content: Mapping[str, Any]) -> bool:
    return IMPLICIT not in latest.content and stated(latest.kind, latest.content) == content


def _is_it(proposal: Version, content: Mapping[str, Any]) -> bool:
    """Is it the proposal whose content was committed?"""
    told = proposal.content.get(COMMITTING)
    return told is not None and stated(proposal.kind, told) == content
