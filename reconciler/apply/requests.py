"""Stores how the rules of a request are judged, each in the caller's transaction and each once (sqedule, 7.2 to 7.7).

Called by the pass of requests and by the door through which people decide; what is judged now is looked up again in the
transaction, so that whoever comes second finds it done. Judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.controllers import approvers
from reconciler.controllers import requests as controller
from reconciler.controllers.requests import Rule, Turn
from reconciler.controllers.rights import Authority
from reconciler.model.request import Decision, Outcome, Request, Verdict
from reconciler.store import approvals
from reconciler.store import requests as rows
from reconciler.store.database import Connection, Write
from reconciler.store.requests import Judged, NewRequest


def conclude(write: Write, id: int) -> None:
    """Nothing is left to be judged: store the verdict."""
    request = rows.find(write.connection, id)
    if request is None or request.final:
        return
    verdict = controller.turn(request, rows.outcomes(write.connection, id))
    if isinstance(verdict, Verdict):
        rows.end(write, request, verdict)


def settle(write: Write, id: int, rule: int, detail: Mapping[str, Any], *, success: bool) -> bool:
    """Store the outcome of the rule whose turn it is; False: its turn is over, and nothing is stored."""
    found = _turn(write.connection, id)
    if found is None or found[1].rule.id != rule:
        return False
    rows.judge(write, found[0], _judged(found[1], detail, success=success))
    return True


def register(write: Write, news: Sequence[NewRequest], server_zone: str) -> None:
    """Ask for approval of many things; what the time alone decides is judged in the very same transaction."""
    rows.register_all(write, news, lambda request: _in_time(request, server_zone))


def _in_time(request: Request, server_zone: str) -> list[Judged]:
    """The outcomes of the schedule rules whose turn it is; none of those that cannot be read."""
    judged: list[Judged] = []
    outcomes: list[Outcome] = []
    while isinstance(turn := controller.turn(request, outcomes), Turn) and turn.rule.type == "schedule":
        try:
            success = controller.in_time(turn.rule, request, server_zone)
        except (ValueError, LookupError):
            break  # the pass of the request tells what cannot be read
        judged.append(_judged(turn, {}, success=success))
        last = judged[-1]
        outcomes.append(
            Outcome(
                last.rule,
                0,
                0,
                success,
                last.ignored_error,
                last.result_state,
                request.created_at,
                last.detail,
            )
        )
    return judged


def _judged(turn: Turn, detail: Mapping[str, Any], *, success: bool) -> Judged:
    spec, binding = turn.rule.spec, turn.rule.binding
    state, ignored = controller.result(binding.mode, success=success, last=turn.last)
    whole = {"rule": dict(spec), "ruleset": binding.ruleset, "mode": binding.mode.value, **detail}
    return Judged(turn.rule.id, success, ignored, state, whole)


def by_people(write: Write, id: int, authority: Authority) -> bool:
    """Store the outcome of the manual rule whose turn it is, if people have decided it; False: not yet."""
    found = _turn(write.connection, id)
    if found is None or found[1].rule.type != "manual":
        return False
    request, turn = found
    given = _decisions(write.connection, request, turn.rule)
    who = approvers.eligible(turn.rule.spec, request, authority)
    said = {each.actor: each.decision for each in given}
    counting = approvers.counting(turn.rule.spec, request, said, authority)
    success = controller.decided(turn.rule.spec, counting, who)
    if success is None:
        return False
    detail = {"comments": given[-1].comment, "decided_by": [each.actor for each in given]}
    return settle(write, id, turn.rule.id, detail, success=success)


def decisions_of(connection: Connection, request: Request) -> list[Decision]:
    """What people have said of all manual rules of a request, in order of time."""
    found = [
        decision
        for rule in controller.rules(request.bindings)
        if rule.type == "manual"
        for decision in _decisions(connection, request, rule)
    ]
    return sorted(found, key=lambda each: each.at)


def waits_of(connection: Connection, request: Request, authority: Authority) -> tuple[str, ...]:
    """What a request still needs, in sentences without an end."""
    judged = rows.outcomes(connection, request.id)
    return tuple(approvers.all_waits(request, judged, decisions_of(connection, request), authority))


def all_waits(
    connection: Connection, pending: Sequence[Request], authority: Authority
) -> dict[int, tuple[str, ...]]:
    """What many requests still need, by number."""
    judged = rows.outcomes_of(connection, [request.id for request in pending])
    rules = [
        (request, rule)
        for request in pending
        for rule in controller.rules(request.bindings)
        if rule.type == "manual"
    ]
    given = approvals.of_all(
        connection, [rows.approval_subject(request.id, rule.id) for request, rule in rules]
    )
    made: dict[int, list[Decision]] = {}
    for request, rule in rules:
        for each in given.get(rows.approval_subject(request.id, rule.id), ()):
            decision = Decision(
                rule.id, each.decision, each.comment or None, each.actor, each.at, request.state
            )
            made.setdefault(request.id, []).append(decision)
    return {
        request.id: tuple(
            approvers.all_waits(request, judged.get(request.id, ()), made.get(request.id, ()), authority)
        )
        for request in pending
    }


def _decisions(connection: Connection, request: Request, rule: Rule) -> list[Decision]:
    about = rows.approval_subject(request.id, rule.id)
    return [
        Decision(rule.id, each.decision, each.comment or None, each.actor, each.at, request.state)
        for each in approvals.of(connection, about, request.digest or "")
    ]


def _turn(connection: Connection, id: int) -> tuple[Request, Turn] | None:
    """A request that has no verdict yet, with the rule whose turn it is."""
    request = rows.find(connection, id)
    if request is None or request.final:
        return None
    turn = controller.turn(request, rows.outcomes(connection, id))
    return (request, turn) if isinstance(turn, Turn) else None
