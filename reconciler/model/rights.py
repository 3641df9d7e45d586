"""Levels, scopes, and what one caller may where: values (escape-state, section 5).

Made by `controllers.rights` from what Git declares, narrowed by the caller's token, asked by `reconciler.access`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from specs.meta import Key


class Level(IntEnum):
    """Each level includes the ones before it."""

    READ = 1
    WRITE = 2
    OWNER = 3

    @property
    def word(self) -> str:
        """As it is written in bindings, tokens and answers."""
        return self.name.lower()


LEVELS: Mapping[str, Level] = {level.word: level for level in Level}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a role counts: an environment, a project, or (without either) the whole installation."""

    project: str | None = None
    environment: str | None = None

    def __str__(self) -> str:
        if self.project is None:
            return "the installation"
        if self.environment is None:
            return f"project {self.project}"
        return f"environment {self.project}/{self.environment}"

    def covers(self, other: Scope) -> bool:
        """Is the other one here, or inside?"""
        if self.project is None:
            return True
        return self.project == other.project and self.environment in (None, other.environment)


INSTALLATION = Scope()


def scope_of(key: Key) -> Scope:
    """Where a resource is: a Project and an Environment are inside of themselves."""
    if key.kind == "Project":
        return Scope(key.name)
    if key.kind == "Environment":
        return Scope(key.project, key.name)
    return Scope(key.project, key.environment)


@dataclass(frozen=True, slots=True)
class Rights:
    """The highest level that was granted at each scope. Equal rights see the same."""

    roles: Mapping[Scope, Level] = field(default_factory=dict)

    @property
    def everywhere(self) -> Level | None:
        """The level over the whole installation."""
        return self.roles.get(INSTALLATION)

    def at(self, scope: Scope) -> Level | None:
        """The effective level: the highest of the scope itself and of those around it."""
        around = (scope, Scope(scope.project), INSTALLATION)
        return max((self.roles[each] for each in around if each in self.roles), default=None)

    def within(self, scope: Scope) -> Level | None:
        """The effective level at the scope, or else the highest that is held inside of it."""
        held = [level for each, level in self.roles.items() if scope.covers(each) or each.covers(scope)]
        return max(held, default=None)

    def narrowed(self, most: Level, scope: Scope) -> Rights:
        """What a token of this level and scope leaves of them."""
        roles: dict[Scope, Level] = {}
        for held, level in self.roles.items():
            place = held if scope.covers(held) else scope if held.covers(scope) else None
            if place is not None:
                roles[place] = max(roles.get(place, Level.READ), min(level, most))
        return Rights(roles)
