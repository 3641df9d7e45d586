"""Who decides a manual rule of a request for approval (sqedule, 7.5; design 8.2).

Those whom the rule names; where it names nobody, who owns what is deployed. Called by the doors and by the pass of
requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from reconciler.controllers.requests import APPROVED, needed, rules
from reconciler.controllers.rights import ADMINISTRATOR, Authority, parsed
from reconciler.model.request import Decision, Outcome, Request
from reconciler.model.rights import INSTALLATION, Level, Scope, scope_of

_PERSON = "User/"


def scope(request: Request) -> Scope:
    """Where a role counts that lets somebody decide: the environment of what is deployed, else everything."""
    key = parsed(request.subject.target) if request.subject is not None else None
    return INSTALLATION if key is None else scope_of(key)


def level(request: Request) -> Level:
    """The role that it takes where no approvers are named."""
    return Level.WRITE if request.subject is None else Level.OWNER


def eligible(rule: Mapping[str, Any], request: Request, authority: Authority) -> frozenset[str]:
    """The people who may decide; the built-in administrator only where there is nobody else."""
    named = _named(rule, authority)
    if named is None:
        at, least = scope(request), level(request)
        people = [subject for subject in authority.rights if subject.startswith(_PERSON)]
        named = frozenset(subject for subject in people if (authority.of(subject).at(at) or 0) >= least)
        named = _allowed(rule, request, named) - authority.disabled
        return named or _allowed(rule, request, frozenset({ADMINISTRATOR}))
    return _allowed(rule, request, named) - authority.disabled


def refusal(
    rule: Mapping[str, Any], request: Request, authority: Authority, subject: str, held: Level | None
) -> str | None:
    """Why a subject may not decide, in a sentence; None: it may. `held`: its role at the `scope`."""
    if not rule.get("allow_self_approval", True) and subject in request.authors:
        return "who asked for it, or wrote what is deployed, may not decide it"
    named = _named(rule, authority)
    if named is not None:
        return None if subject in named - authority.disabled else f"{who(rule, request)} may decide it"
    least = level(request)
    if not subject.startswith(_PERSON):
        return "people decide this"
    return (
        None if held is not None and held >= least else f"it takes the role {least.word} on {scope(request)}"
    )


def who(rule: Mapping[str, Any], request: Request) -> str:
    """Who may decide, in words."""
    approvers = rule.get("approvers")
    if not approvers:
        owned = level(request) is Level.OWNER
        return f"an owner of {scope(request)}" if owned else f"who may write on {scope(request)}"
    words = [*approvers.get("users", ()), *(f"the team {name}" for name in approvers.get("teams", ()))]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counting(
    rule: Mapping[str, Any], request: Request, decisions: Mapping[str, str], authority: Authority
) -> dict[str, str]:
    """The decisions of those who may still decide: who was shut out since, or lost the role, counts no more."""
    at = scope(request)
    return {
        subject: decision
        for subject, decision in decisions.items()
        if subject not in authority.disabled
        and refusal(rule, request, authority, subject, authority.of(subject).at(at)) is None
    }


def waits(
    rule: Mapping[str, Any], request: Request, decisions: Mapping[str, str], authority: Authority
) -> str:
    """What a manual rule still needs, in words. `decisions`: those that were made, by subject."""
    decisions = counting(rule, request, decisions, authority)
    given = sum(decision == APPROVED for decision in decisions.values())
    if rule["approval_policy"] == "all":
        missing = sorted(eligible(rule, request, authority) - decisions.keys())
        return f"waits for {', '.join(name.removeprefix(_PERSON) for name in missing) or 'somebody who may decide'}"
    own = ", but not who asked for it" if not rule.get("allow_self_approval", True) else ""
    return f"{given} of {needed(rule)} approvals; {who(rule, request)} may decide{own}"


def all_waits(
    request: Request, outcomes: Iterable[Outcome], decisions: Collection[Decision], authority: Authority
) -> Iterator[str]:
    """What a request still needs: of each manual rule that is open, and what goes wrong; sentences without an end."""
    judged = {outcome.rule for outcome in outcomes}
    for rule in () if request.final else rules(request.bindings):
        if rule.type == "manual" and rule.id not in judged:
            given = {each.actor: each.decision for each in decisions if each.rule == rule.id}
            yield f"{rule.binding.ruleset}: {waits(rule.spec, request, given, authority)}"
    if request.trouble is not None:
        again = "at the next start of the server"
        if request.again_at is not None:
            again = f"at {request.again_at.isoformat(timespec='seconds')}"
        yield f"{request.trouble}; it is tried again {again}"


def _named(rule: Mapping[str, Any], authority: Authority) -> frozenset[str] | None:
    """The people whom a rule names; None: it names nobody."""
    approvers = rule.get("approvers")
    if not approvers:
        return None
    members = (member for team in approvers.get("teams", ()) for member in authority.teams.get(team, ()))
    return frozenset(f"{_PERSON}{name}" for name in (*approvers.get("users", ()), *members))


def _allowed(rule: Mapping[str, Any], request: Request, people: frozenset[str]) -> frozenset[str]:
    return people if rule.get("allow_self_approval", True) else people - set(request.authors)
