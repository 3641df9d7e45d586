"""A request for approval, which is what Sqedule calls a release: one attempt to ship, and its verdict (sqedule, 2.1).

Values; stored by `store.requests`, judged by `controllers.requests`, asked for by the gate and by the served API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

ALL = "requests"
"""The pass that takes up all requests without a verdict."""

PREFIX = "request/"
"""The pass that judges a request is named so, with its number behind."""


SUPERSEDED = "superseded"
"""In the metadata of a request that ended as rejected since nothing waits for it any more."""


RECORDED = "recorded_only"
"""In the metadata of a request that holds nothing."""


class Verdict(StrEnum):
    """States of a request; both ends are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class Mode(StrEnum):
    """What a rule of a binding that does not hold means."""

    ENFORCING = "enforcing"
    PERMISSIVE = "permissive"


@dataclass(frozen=True, slots=True)
class Copied:
    """A binding as it was when the request was made; later changes never touch it (sqedule, 2.2).

    `version`: {id, version_number, created_at, updated_at, approved_at, display_name, description, enabled, rules},
    times as texts; each rule is as in an ApprovalRuleset, with its `id` and `created_at`.
    """

    ruleset: str
    mode: Mode
    created_at: str
    updated_at: str
    timezone: str | None
    version: Mapping[str, Any]

    @property
    def rules(self) -> Sequence[Mapping[str, Any]]:
        """The rules that count."""
        return [rule for rule in self.version["rules"] if rule.get("enabled", True)]


@dataclass(frozen=True, slots=True)
class Subject:
    """What exactly is deployed, part by part: each a digest, but for the target's KEY (design 8.2).

    Whoever approves approves just this; when a part changes, the approval does not count any more.
    """

    target: str
    package: str
    inputs: str
    scripts: str
    version: str = ""
    run_on: str = ""

    def changed(self, other: Subject) -> tuple[str, ...]:
        """The parts in which another one differs."""
        parts = ("target", "package", "inputs", "scripts", "run_on")
        return tuple(part for part in parts if getattr(self, part) != getattr(other, part))


@dataclass(frozen=True, slots=True)
class Request:
    """`application` is folded to lower case; `authors` are the subjects that asked for it, who may not always approve.

    `subject` and `digest`: what a deploy would deploy; None where a client of the served API asked.
    `tried`, `trouble`, `again_at`: of judging that went wrong without being a verdict; `posted`: how often
    another server was asked in vain by the rule whose turn it is.
    """

    id: int
    application: str
    state: Verdict
    source_identity: str | None
    metadata: Mapping[str, Any]
    comments: str | None
    bindings: tuple[Copied, ...]
    actor: str
    authors: tuple[str, ...]
    digest: str | None
    subject: Subject | None
    tried: int
    posted: int
    trouble: str | None
    again_at: datetime | None
    created_at: datetime
    updated_at: datetime
    finalized_at: datetime | None

    @property
    def final(self) -> bool:
        """Is there a verdict?"""
        return self.state is not Verdict.PENDING


@dataclass(frozen=True, slots=True)
class Decision:
    """What one person has said of a manual rule; `state`: the request's, as far as that is known with it."""

    rule: int
    decision: str
    comment: str | None
    actor: str
    at: datetime
    state: Verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rule was judged, once. `event`, `outcome`: numbers of their own; `detail`: the rule, and what came."""

    rule: int
    event: int
    outcome: int
    success: bool
    ignored_error: bool
    result_state: Verdict
    at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)
