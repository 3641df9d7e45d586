"""What comes next of a request for approval: which rule is judged, what its outcome means, when judging is tried again.

Called by the pass of requests and by the doors (sqedule, 7). Everything is judged for the moment at which the request
was made. Knows neither who may decide (`controllers.approvers`) nor how another server is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.controllers import due
from reconciler.model.request import Copied, Mode, Outcome, Request, Verdict
from specs import periods

APPROVED = "approved"
REJECTED = "rejected"
"""What people decide."""

MOST_TRIES = 10
"""So often is judging tried again that goes wrong without being a verdict; then it waits for the next start."""

_ORDER = ("manual", "schedule", "http_api")
_LEAST, _MOST = timedelta(seconds=5), timedelta(seconds=300)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a request, with what the binding says of it. `spec` is as in an ApprovalRuleset, with its `id`."""

    binding: Copied
    spec: Mapping[str, Any]

    @property
    def id(self) -> int:
        """Unique among the rules of a request."""
        return int(self.spec["id"])

    @property
    def type(self) -> str:
        """manual, schedule or http_api."""
        return str(self.spec["type"])


@dataclass(frozen=True, slots=True)
class Turn:
    """The rule that is judged now; `last`: no other comes after it."""

    rule: Rule
    last: bool


def rules(bindings: Sequence[Copied]) -> tuple[Rule, ...]:
    """All that are judged, in their order: cheap and certain before slow, then by ruleset, then as written (7.2)."""

    def found() -> Iterator[Rule]:
        for of_type in _ORDER:
            for binding in sorted(bindings, key=lambda each: each.ruleset):
                yield from (Rule(binding, spec) for spec in binding.rules if spec["type"] == of_type)

    return tuple(found())


def turn(request: Request, outcomes: Collection[Outcome]) -> Turn | Verdict:
    """Which rule is judged next, or the verdict where none is left; recorded outcomes are trusted (7.7)."""
    if any(outcome.result_state is Verdict.REJECTED for outcome in outcomes):
        return Verdict.REJECTED
    judged = {outcome.rule for outcome in outcomes}
    left = [rule for rule in rules(request.bindings) if rule.id not in judged]
    return Turn(left[0], last=len(left) == 1) if left else Verdict.APPROVED


def result(mode: Mode, *, success: bool, last: bool) -> tuple[Verdict, bool]:
    """What an outcome makes of the request, and whether a failure is ignored (7.3)."""
    if not success and mode is Mode.ENFORCING:
        return Verdict.REJECTED, False
    return Verdict.APPROVED if last else Verdict.PENDING, not success


def in_time(rule: Rule, request: Request, server_zone: str) -> bool:
    """Does a schedule rule hold at the moment the request was made (7.4)? ValueError, KeyError: it cannot be read."""
    return periods.holds(rule.spec, request.created_at, ZoneInfo(rule.binding.timezone or server_zone))


def decided(rule: Mapping[str, Any], decisions: Mapping[str, str], eligible: Collection[str]) -> bool | None:
    """Whether people have approved a manual rule (7.5); None: not decided yet.

    `decisions` are those that were made, by subject; `eligible` all whose approval the policy `all` needs.
    """
    if REJECTED in decisions.values():
        return False
    approvals = {subject for subject, decision in decisions.items() if decision == APPROVED}
    policy = rule["approval_policy"]
    if policy == "all":
        return True if eligible and approvals.issuperset(eligible) else None
    return True if len(approvals) >= needed(rule) else None


def needed(rule: Mapping[str, Any]) -> int:
    """How many approvals the policies `any` and `minimum` take."""
    return int(rule["minimum"]) if rule["approval_policy"] == "minimum" else 1


def may_retry(rule: Mapping[str, Any], posted: int) -> bool:
    """Is a rule that asks another server, and has failed so often, tried once more (7.6)?"""
    return rule["retry_policy"] == "retry_on_fail" and posted <= int(rule["retry_limit"])


def delay(tries: int, jitter: timedelta) -> timedelta:
    """How long after so many failures it is tried again: twice as long each time, from 5 s to 300 s (7.7)."""
    doubled = _LEAST * 2 ** min(tries - 1, 10) if tries > 1 else timedelta(0)
    return min(max(doubled + jitter, _LEAST), _MOST)


def waits(again_at: datetime | None, now: datetime) -> bool:
    """Is it too early for the next try?"""
    return due.waits(again_at, now, _MOST)
