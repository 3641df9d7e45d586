"""Who may do what: levels from role bindings and teams, what each verb asks for (escape-state, 5; design 9).

Called by `reconciler.access` for every caller, and for the question "may I, and why not".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.model.job import CONFIGURATION, configured_as
from reconciler.model.resource import Resource
from reconciler.model.rights import INSTALLATION, Level, Rights, Scope, scope_of
from specs.meta import Key, parse_key

ADMINISTRATOR = "User/admin"
KINDS = frozenset({"RoleBinding", "Team", "User", "ServiceAccount"})
"""The kinds that say who may do what."""

EVERYTHING = Rights({INSTALLATION: Level.OWNER})
_OWNED_BY_PROJECT = frozenset({"Project", "Repository", "RoleBinding", "Secret", "Freeze"})
_RUNS = frozenset({"trigger", "cancel", "retry"})
_OWNED_BY_INSTALLATION = frozenset({"User", "Team", "ServiceAccount", "RoleBinding", "Secret", "Executor"})
VERBS = ("read", "trigger", "cancel", "retry", "edit", "delete", "confirm")


@dataclass(frozen=True, slots=True)
class Authority:
    """All that Git says about people: rights by subject (`User/alice`), members by team, and who is shut out."""

    rights: Mapping[str, Rights]
    teams: Mapping[str, frozenset[str]]
    disabled: frozenset[str]

    def of(self, subject: str) -> Rights:
        """What a subject may; nothing for one that nobody names, or that is disabled."""
        if subject == ADMINISTRATOR:
            return EVERYTHING
        return Rights() if subject in self.disabled else self.rights.get(subject, Rights())


def authority(resources: Iterable[Resource]) -> Authority:
    """From the resources in force of these KINDS."""
    found = [resource for resource in resources if resource.spec is not None]
    teams = {r.name: frozenset(r.spec["members"]) for r in found if r.kind == "Team" and r.spec}
    roles: dict[str, dict[Scope, Level]] = {}
    for resource in found:
        if resource.kind == "RoleBinding":
            scope = Scope(resource.project, resource.environment)
            level = Level[(resource.spec or {})["role"].upper()]
            for subject in _subjects(resource.spec or {}, teams):
                held = roles.setdefault(subject, {})
                held[scope] = max(level, held.get(scope, level))
    disabled = frozenset(
        r.key for r in found if r.kind in ("User", "ServiceAccount") and (r.spec or {}).get("disabled")
    )
    return Authority({subject: Rights(held) for subject, held in roles.items()}, teams, disabled)


def _subjects(spec: Mapping[str, Any], teams: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """The people and accounts that a binding means: teams stand for their members."""
    for subject in spec["subjects"]:
        if subject["kind"] == "Team":
            yield from (f"User/{member}" for member in teams.get(subject["name"], ()))
        elif subject["kind"] == "ServiceAccount":
            yield f"ServiceAccount/{subject['team']}/{subject['name']}"
        else:
            yield f"User/{subject['name']}"


@dataclass(frozen=True, slots=True)
class Need:
    """A level at a scope, and why it is that high, if that is not the rule."""

    level: Level
    scope: Scope
    because: str = ""


def need(verb: str, key: Key, *, protected: bool, running: bool) -> Need:
    """What a verb on a resource asks for. `protected`: of its environment; `running`: a run asks, not a person."""
    scope = scope_of(key)
    if verb == "read":
        return Need(Level.READ, scope)
    if verb == "confirm":
        return Need(Level.OWNER, Scope(scope.project), "removals are confirmed by owners")
    if scope.project is None:
        level = Level.OWNER if key.kind in _OWNED_BY_INSTALLATION else Level.WRITE
        return Need(level, INSTALLATION, "it concerns the whole installation")
    if verb not in _RUNS and key.kind in _OWNED_BY_PROJECT:
        return Need(Level.OWNER, Scope(scope.project), f"{key.kind} belongs to a project's owners")
    if verb == "delete" and key.kind == "Environment":
        return Need(Level.OWNER, scope, "deleting an environment is up to its owners")
    if protected and not running:
        return Need(Level.OWNER, scope, f"{scope} is protected")
    return Need(Level.WRITE, scope)


def parsed(key: str) -> Key | None:
    """A KEY from outside; None for what is none. Jobs of project configurations are their Project's."""
    configured = configured_as(key)
    if configured is not None:
        return Key(CONFIGURATION, configured[0], None, configured[1])
    try:
        return parse_key(key)
    except ValueError:
        return None
