"""May it go, given all that was said? The calendar, and what people and other servers have approved (design 8.2).

Pure; asked by the pass `gate` and by the doors. An approval counts for exactly what was approved, by the rules that are
bound now, and until something else is deployed in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reconciler.controllers import gate
from reconciler.controllers.gate import OWNERS, Asked, Rules
from reconciler.model.execution import Type
from reconciler.model.gate import Blocker, Deploy
from reconciler.model.request import SUPERSEDED, Mode, Request, Verdict


@dataclass(frozen=True, slots=True)
class Calendar:
    """What was in the way at a moment, when nothing of it is any more, and until when all of this is so."""

    at: datetime
    blockers: tuple[Blocker, ...]
    opens_at: datetime | None
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Is it still so?"""
        return self.at <= now and (self.until is None or now < self.until)


Calendars = dict[tuple[Any, ...], Calendar]
"""By `gate.concerned` and what was let through. Good as long as the rules are the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that would begin. `since`: when it was wanted; no `job`: it is not made yet."""

    deploy: Deploy
    since: datetime
    job: int | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said so far: the newest request by (application, digest), what those without a verdict wait for, by
    number, and who has let a job through a Freeze, by (Freeze, job, digest). `before`: the newest request by
    (application, KEY) for something else; `standing`: what was deployed last, by KEY.
    """

    requests: Mapping[tuple[str, str], Request] = field(default_factory=dict)
    waits: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    passes: Mapping[tuple[str, int, str], Mapping[str, datetime | None]] = field(default_factory=dict)
    before: Mapping[tuple[str, str], Request] = field(default_factory=dict)
    standing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What stands in the way; none: it may go. `register`: in whose name approval is still to be asked for, which
    holds nothing where the time alone decides it, or where it only records.

    `again_at`: when its calendar changes, for the better or the worse; `zone`: of schedule rules that name none.
    """

    causes: tuple[Blocker, ...] = ()
    opens_at: datetime | None = None
    register: tuple[Asked, ...] = ()
    again_at: datetime | None = None
    zone: str = "UTC"

    @property
    def open(self) -> bool:
        """May it go?"""
        return not self.causes


def fresh(deploy: Deploy, answers: Answers) -> Deploy:
    """A deploy as it is now: what was deployed from here last is only put back."""
    stands = answers.standing.get(deploy.key, {}).get("gate")
    return replace(deploy, repair=deploy.type is Type.DEPLOY and stands == deploy.digest)


def judge(known: Rules, candidate: Candidate, answers: Answers, now: datetime, seen: Calendars) -> Judgement:
    """One look at one of them. `seen` is what is known of calendars so far, and is added to."""
    deploy = fresh(candidate.deploy, answers)
    passed = passes(known, candidate, answers, now)
    place = (*gate.concerned(known, deploy), tuple(sorted(passed.items())))
    calendar = seen.get(place)
    if calendar is None or not calendar.holds(now):
        blockers = tuple(gate.blockers(known, deploy, passed, now))
        opens = gate.opens_at(known, deploy, passed, now) if blockers else now
        calendar = seen[place] = Calendar(now, blockers, opens, gate.next_change(known, deploy, now))
    causes = list(calendar.blockers)
    is_open, register = not causes, []
    for asked in gate.asked(known, deploy):
        request = _counted(known, asked, candidate, answers)
        if request is None:
            if is_open:
                register.append(asked)
            if asked.gates and gate.asks_somebody(known, asked):
                causes.append(_not_asked(asked, deploy, answers))
        elif asked.gates and request.state is Verdict.PENDING:
            causes.append(_pending(request, answers.waits.get(request.id, ())))
        elif asked.gates and request.state is Verdict.REJECTED:
            causes.append(_rejected(request, deploy))
    opens_at = calendar.opens_at if causes else None
    return Judgement(tuple(causes), opens_at, tuple(register), calendar.until, known.timezone)


def passes(known: Rules, candidate: Candidate, answers: Answers, now: datetime) -> dict[str, datetime]:
    """The Freezes that enough people have let just this through, with the ends of their periods."""
    found: dict[str, datetime] = {}
    deploy = fresh(candidate.deploy, answers)
    for freeze in gate.freezes_of(known, deploy) if candidate.job is not None else ():
        way = (freeze.spec or {})["pass"]
        given = answers.passes.get((freeze.key, candidate.job or 0, deploy.digest), {})
        counting = [until for until in given.values() if until is None or until > now]
        if way is not None and len(counting) >= way["approvals"]:
            end = gate.active(known, freeze, now)
            found |= {freeze.key: end} if end is not None else {}
    return found


def _counted(known: Rules, asked: Asked, candidate: Candidate, answers: Answers) -> Request | None:
    """The request that tells about just this; None: it is to be asked for."""
    deploy = candidate.deploy
    request = answers.requests.get((asked.application.lower(), deploy.digest))
    if request is None or request.metadata.get(SUPERSEDED) or not _judged_by(known, request, asked):
        return None
    over = request.finalized_at
    if request.state is Verdict.REJECTED and deploy.by_hand and over is not None and candidate.since > over:
        return None  # somebody asks again
    stands_since = answers.standing.get(deploy.key, {}).get("gate_since")
    if request.state is Verdict.APPROVED and over is not None and stands_since is not None:
        return request if over > datetime.fromisoformat(stands_since) else None
    return request


def _judged_by(known: Rules, request: Request, asked: Asked) -> bool:
    """Do all rulesets that are bound now judge it?"""
    wanted = {name for name, mode in asked.rulesets if mode is Mode.ENFORCING and _usable(known, name)}
    wanted |= {OWNERS} if asked.owners else set()
    return wanted <= {each.ruleset for each in request.bindings if each.mode is Mode.ENFORCING}


def _usable(known: Rules, name: str) -> bool:
    ruleset = known.rulesets.get(name)
    return ruleset is not None and bool((ruleset.spec or {})["enabled"])


def _not_asked(asked: Asked, deploy: Deploy, answers: Answers) -> Blocker:
    told = f"approval of {asked.application} is asked for once nothing else is in the way"
    before = answers.before.get((asked.application.lower(), deploy.key))
    if before is not None and before.subject is not None and not _of_no_use(before):
        changed = ", ".join(deploy.subject.changed(before.subject)) or "what is done"
        told += (
            f"; what was said about request {before.id} does not count any more, since its {changed} changed"
        )
    return Blocker("NeedsApproval", told)


def _of_no_use(before: Request) -> bool:
    """Was it rejected by somebody, rather than overtaken?"""
    return before.state is Verdict.REJECTED and not before.metadata.get(SUPERSEDED)


def _pending(request: Request, waits: Sequence[str]) -> Blocker:
    told = f"request {request.id} of {request.application}: {'; '.join(waits) or 'is being judged'}"
    if replaced := request.metadata.get("replaces"):
        changed = ", ".join(request.metadata.get("changed") or ())
        told += f"; request {replaced} does not count any more, since its {changed} changed"
    return Blocker("AwaitsApproval" if waits else "AwaitsVerdict", told, f"request/{request.id}")


def _rejected(request: Request, deploy: Deploy) -> Blocker:
    told = (
        f"request {request.id} of {request.application} was rejected; change what is deployed, or ask again"
    )
    return Blocker("Rejected", f"{told} by `steersman trigger {deploy.key}`", f"request/{request.id}")
