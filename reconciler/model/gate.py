"""What the gate looks at: something that is to be done to a Deployment, and what is in its way (design 8.2, 8.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reconciler.model.execution import Type
from reconciler.model.request import Subject
from specs.digest import digest

REPAIR = "repair"
NAME = "gate"
"""The pass that looks at all that is held."""


@dataclass(frozen=True, slots=True)
class Deploy:
    """Something that is to be done to a Deployment, and what exactly that is.

    `release`: NAMESPACE/APPLICATION that is deployed, or the Deployment's own name in that form.
    `repair`: the very same was deployed from here last, and is only put back. `by_hand`: somebody has triggered it.
    `generation`: of the declaration it was made from; `signature`: what is wanted, as the deployment's pass says it.
    """

    type: Type
    subject: Subject
    release: str
    repair: bool = False
    by_hand: bool = False
    generation: int = 0
    signature: str = ""

    @property
    def key(self) -> str:
        """The Deployment's KEY."""
        return self.subject.target

    @property
    def project(self) -> str:
        """Its project."""
        return self.key.split("/")[1]

    @property
    def environment(self) -> str:
        """Its environment."""
        return self.key.split("/")[2]

    @property
    def held_as(self) -> str:
        """The word of Freezes for it."""
        return REPAIR if self.repair else self.type.value

    @property
    def digest(self) -> str:
        """What is approved: two deploys with the same one are the same."""
        subject = self.subject
        parts = [subject.target, subject.package, subject.inputs, subject.scripts, subject.run_on]
        return digest([self.type.value, *parts])

    def to_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return {**asdict(self), "type": self.type.value}


def deploy_of(stored: Mapping[str, Any]) -> Deploy:
    """From what `to_dict` gave."""
    return Deploy(**{**stored, "type": Type(stored["type"]), "subject": Subject(**stored["subject"])})


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that stands in the way. `until`: when it ends by itself; None: only somebody ends it.

    `freeze`: the KEY of the Freeze that it is.
    """

    reason: str
    message: str
    where: str | None = None
    until: datetime | None = None
    freeze: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it is stored, and told."""
        until = None if self.until is None else self.until.isoformat(timespec="seconds")
        return {"reason": self.reason, "message": self.message, "where": self.where, "until": until}
