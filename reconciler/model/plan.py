"""A plan: ordered intended effects as a value with a digest (design 5.4). It can do nothing by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from specs.errors import SpecError


class Verb(StrEnum):
    """What an action does to a resource."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One field's difference; `field` is a dotted path inside the specification."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Action:
    """One intended effect on one resource."""

    action: Verb
    key: str
    location: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Removals that wait, and for what: `digest` confirms those of the brake (reason `RemovalBrake`)."""

    reason: str
    message: str
    keys: tuple[str, ...]
    digest: str | None = None
    project: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API and of the store."""
        return {
            "reason": self.reason,
            "message": self.message,
            "keys": list(self.keys),
            "digest": self.digest,
            "project": self.project,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Held:
        """The reverse of `to_dict`."""
        return cls(data["reason"], data["message"], tuple(data["keys"]), data["digest"], data["project"])


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions, what is held, and the errors seen on the way."""

    actions: tuple[Action, ...] = ()
    held: tuple[Held, ...] = ()
    errors: tuple[SpecError, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Nothing to do (what is held does not count)."""
        return not self.actions

    @property
    def digest(self) -> str:
        """Names exactly these actions; the same plan has the same digest anywhere."""
        return hashlib.sha256(msgspec.json.encode(self.actions)).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API; actions and what is held are values that the JSON encoder knows."""
        return {
            "actions": list(self.actions),
            "held": list(self.held),
            "errors": [
                {"location": f"{e.path}:{e.line}:{e.column}", "message": e.message, "key": e.key}
                for e in self.errors
            ],
            "digest": self.digest,
        }
