"""Sync, health and conditions of a resource: the words of design 3, and how health adds up.

Values only; who sets them is `reconciler.apply`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Sync(StrEnum):
    """Does the actual state equal the declared one?"""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """Does the thing work? In ascending order of concern."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


def worst(healths: Iterable[Health]) -> Health:
    """The health of a whole: its worst part; nothing at all is healthy."""
    order = list(Health)
    return max(healths, key=order.index, default=Health.HEALTHY)


@dataclass(frozen=True, slots=True)
class Condition:
    """A typed fact about a resource with its reason, for people and programs."""

    type: str
    status: bool
    reason: str
    message: str
    since: datetime

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API and of the store."""
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "since": self.since.isoformat(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Condition:
        """The reverse of `to_dict`."""
        return cls(
            data["type"],
            data["status"],
            data["reason"],
            data["message"],
            datetime.fromisoformat(data["since"]),
        )


def with_condition(conditions: Iterable[Condition], new: Condition) -> tuple[Condition, ...]:
    """The conditions with `new` in place; `since` only moves when status or reason do."""
    kept = []
    for old in conditions:
        if old.type != new.type:
            kept.append(old)
        elif (old.status, old.reason) == (new.status, new.reason):
            new = Condition(new.type, new.status, new.reason, new.message, old.since)
    return (*kept, new)


def without_condition(conditions: Iterable[Condition], *types: str) -> tuple[Condition, ...]:
    """The conditions less those of the given types."""
    return tuple(condition for condition in conditions if condition.type not in types)
