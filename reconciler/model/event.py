"""Events of the append-only log, and who caused them (design 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something: a subject (`User/alice`, `System/source`), the token used, the address it came from."""

    subject: str
    token: str | None = None
    address: str | None = None


SYSTEM = Actor("System/steersman")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, before it is in the log. `body` is JSON-able and free of secrets."""

    kind: str
    key: str | None
    body: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in the log: `hash` covers it and the one before."""

    seq: int
    at: datetime
    actor: Actor
    event: Event
    hash: str

    def to_dict(self) -> dict[str, Any]:
        """The form of the native API."""
        return {
            "seq": self.seq,
            "at": self.at.isoformat(),
            "actor": self.actor.subject,
            "token": self.actor.token,
            "address": self.actor.address,
            "kind": self.event.kind,
            "key": self.event.key,
            "revision": self.event.revision,
            "body": dict(self.event.body),
            "hash": self.hash,
        }
