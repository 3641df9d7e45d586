"""What is reviewed before it counts (sqedule, 2.3, 6.2): applications, approval rulesets, and what binds them. Each has
numbered versions, which are in force one after the other, and proposals, which are not.

Values; stored by `store.reviews`. Approved content stands in Git; a proposal is a record of this server only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from reconciler.model.request import Mode, Request

_BETWEEN = "\t"


class Kind(StrEnum):
    """What has versions."""

    APPLICATION = "application"
    RULESET = "ruleset"
    BINDING = "binding"


class Stage(StrEnum):
    """States of a version; only an approved one has a number."""

    DRAFT = "draft"
    REVIEWING = "reviewing"
    APPROVED = "approved"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


DEFAULTS: Mapping[Kind, Mapping[str, Any]] = MappingProxyType(
    {
        Kind.APPLICATION: {"display_name": "", "enabled": True},
        Kind.RULESET: {"display_name": "", "description": "", "enabled": True, "timezone": None, "rules": []},
        Kind.BINDING: {"mode": None, "enabled": True},
    }
)
"""The content of each kind, where nothing else is said."""

COMMITTING = "committing"
"""Beside the content of a proposal that is on its way into Git: the content as it will stand there."""

IMPLICIT = "implicit"
"""Beside the content of an application that stands in for what is deployed without a declared one."""

_OF_RULES = ("id", "created_at")


@dataclass(frozen=True, slots=True)
class Ref:
    """One thing that has versions: an application, a ruleset, or the binding of both. Ids of applications compare
    without regard to case."""

    kind: Kind
    application: str = ""
    ruleset: str = ""

    @property
    def key(self) -> str:
        """What it is stored under."""
        parts = {
            Kind.APPLICATION: [folded(self.application)],
            Kind.RULESET: [self.ruleset],
            Kind.BINDING: [folded(self.application), self.ruleset],
        }
        return _BETWEEN.join(parts[self.kind])

    @property
    def name(self) -> str:
        """Its id as it was given; a binding has none."""
        return {Kind.APPLICATION: self.application, Kind.RULESET: self.ruleset}.get(self.kind, "")

    @property
    def words(self) -> str:
        """What it is called in a refusal."""
        return {
            Kind.APPLICATION: "application",
            Kind.RULESET: "approval ruleset",
            Kind.BINDING: "application approval ruleset binding",
        }[self.kind]


def application(name: str) -> Ref:
    """An application."""
    return Ref(Kind.APPLICATION, application=name)


def ruleset(name: str) -> Ref:
    """An approval ruleset."""
    return Ref(Kind.RULESET, ruleset=name)


def binding(application: str, ruleset: str) -> Ref:
    """What binds a ruleset to an application."""
    return Ref(Kind.BINDING, application, ruleset)


def bound_by(key: str) -> tuple[str, str]:
    """The keys of the application and the ruleset of a binding."""
    application, _, ruleset = key.partition(_BETWEEN)
    return application, ruleset


def folded(name: str) -> str:
    """An application's id as it is compared."""
    return name.lower()


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The part without versions. `number` grows in the order in which those of a kind became known."""

    kind: Kind
    key: str
    name: str
    number: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """One version; a proposal has no `number`. Rules in its content have an `id` and a `created_at` of their own."""

    kind: Kind
    id: int
    key: str
    number: int | None
    stage: Stage
    content: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    approved_at: datetime | None


def stated(kind: Kind, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as Git states it: without what only this server knows of it."""
    found = {name: content.get(name, value) for name, value in DEFAULTS[kind].items()}
    if kind is Kind.RULESET:
        found["rules"] = [
            {name: value for name, value in rule.items() if name not in _OF_RULES} for rule in found["rules"]
        ]
    return found


@dataclass(frozen=True, slots=True)
class Named:
    """Something with its newest approved version, if there is any."""

    reviewed: Reviewed
    latest: Version | None


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding with both that it ties together."""

    named: Named
    application: Named
    ruleset: Named


@dataclass(frozen=True, slots=True)
class Whole:
    """One thing with all around it.

    `version`: the one that was made or asked for. `bindings`: of an application or a ruleset; of a binding, itself.
    `releases`: the requests that copied this version of a ruleset, with their applications.
    """

    named: Named
    version: Version | None
    bindings: tuple[Bound, ...]
    releases: tuple[tuple[Mode, Request, Named], ...] = ()
