"""What may be removed: owned, no longer declared, and safe to take away (design 5.3, 5.4, 13.13, 14.2, 14.3).

Pure. An ordered list of checks, each of which holds back some of the candidates and says why; what is left is
deleted. Prune never follows a typo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler.model.plan import Held
from reconciler.model.resource import Resource
from specs.digest import digest

BRAKE_COUNT = 5
BRAKE_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`remove` in order; `held` says what waits and for what; `held_by` gives each held KEY its reason."""

    remove: tuple[str, ...]
    held: tuple[Held, ...]


def judge(
    candidates: Iterable[str],
    actual: Mapping[str, Resource],
    opaque: frozenset[str],
    references: Callable[[Resource], Iterable[str]],
    confirmed: frozenset[str] = frozenset(),
) -> Verdict:
    """Sort KEYs that Git no longer declares into those to remove and those that wait.

    `opaque` are the paths of files that could not be read whole; `references` gives what a resource will refer to
    once the revision is applied; `confirmed` are the brake digests that a person has confirmed, and KEYs that somebody
    has removed one by one.
    """
    left = sorted(candidates)
    held: list[Held] = []
    left = _unreadable(left, actual, opaque, held)
    left = _after_unknown_file(left, actual, opaque, held)
    left = _in_use(left, actual, references, held)
    left = _brake(left, actual, confirmed, held)
    return Verdict(tuple(left), tuple(held))


def _unreadable(
    left: list[str], actual: Mapping[str, Resource], opaque: frozenset[str], held: list[Held]
) -> list[str]:
    """A file that does not parse holds all it used to declare."""
    stays = [key for key in left if actual[key].path in opaque]
    if stays:
        files = ", ".join(sorted({actual[key].path for key in stays}))
        held.append(
            Held("Unreadable", f"{files} cannot be read; what it declared stays as it was", tuple(stays))
        )
    return [key for key in left if key not in set(stays)]


def _after_unknown_file(
    left: list[str], actual: Mapping[str, Resource], opaque: frozenset[str], held: list[Held]
) -> list[str]:
    """A file that never parsed may declare anything, also what seems to be removed."""
    if not left:
        return left
    known = {resource.path for resource in actual.values() if resource.in_force}
    unknown = sorted(opaque - known)
    if not unknown:
        return left
    message = f"removals wait until {', '.join(unknown)} can be read: it may declare them in another place"
    held.append(Held("PruneHeld", message, tuple(left)))
    return []


def _in_use(
    left: list[str],
    actual: Mapping[str, Resource],
    references: Callable[[Resource], Iterable[str]],
    held: list[Held],
) -> list[str]:
    """A resource that one in force refers to is not removed."""
    leaving = set(left)
    users: dict[str, str] = {}
    found = True
    while found and leaving:
        found = False
        for resource in actual.values():
            if resource.key in leaving or not resource.in_force:
                continue
            for reference in references(resource):
                if reference in leaving:
                    leaving.discard(reference)
                    users[reference] = resource.key
                    found = True
    for key, user in sorted(users.items()):
        held.append(Held("InUse", f"{key} is no longer declared but {user} refers to it", (key,)))
    return [key for key in left if key in leaving]


def _brake(
    left: list[str], actual: Mapping[str, Resource], confirmed: frozenset[str], held: list[Held]
) -> list[str]:
    """Five or more removals and more than a third of a project at once wait for a person."""
    removing: dict[str | None, list[str]] = {}
    for key in left:
        if key not in confirmed:
            removing.setdefault(_scope(actual[key]), []).append(key)
    if all(len(keys) < BRAKE_COUNT for keys in removing.values()):
        return left
    totals: dict[str | None, int] = {}
    for resource in actual.values():
        if resource.in_force:
            totals[_scope(resource)] = totals.get(_scope(resource), 0) + 1
    stays: set[str] = set()
    for scope, keys in removing.items():
        if len(keys) < BRAKE_COUNT or len(keys) <= totals.get(scope, 0) * BRAKE_SHARE:
            continue
        mark = brake_digest(keys)
        if mark in confirmed:
            continue
        stays.update(keys)
        where = f"project {scope}" if scope else "installation-wide resources"
        message = (
            f"removing {len(keys)} of {totals.get(scope, 0)} resources of {where} at once waits for confirmation: "
            f"`steersman sync --confirm {mark}`"
        )
        held.append(Held("RemovalBrake", message, tuple(keys), digest=mark, project=scope))
    return [key for key in left if key not in stays]


def brake_digest(keys: Iterable[str]) -> str:
    """Names one set of removals; changes only when the set does."""
    return digest(["remove", *sorted(keys)])[:16]


def _scope(resource: Resource) -> str | None:
    return resource.name if resource.kind == "Project" else resource.project
