"""What comes next of a request for approval: order, outcomes, people, and the time between tries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers import approvers
from reconciler.controllers.requests import Turn, decided, delay, in_time, may_retry, result, rules, turn
from reconciler.controllers.rights import ADMINISTRATOR, Authority
from reconciler.model.request import Mode, Outcome, Verdict
from reconciler.model.rights import INSTALLATION, Level, Rights, Scope
from tests.requesting import ALWAYS, MADE, NEVER, asks, copied, manual, request, subject

AUTHORITY = Authority(
    {
        "User/alice": Rights({INSTALLATION: Level.OWNER}),
        "User/bob": Rights({Scope("shop", "prod"): Level.OWNER}),
        "User/carol": Rights({Scope("shop"): Level.WRITE}),
        "User/gone": Rights({INSTALLATION: Level.OWNER}),
        "ServiceAccount/ops/bot": Rights({INSTALLATION: Level.OWNER}),
    },
    {"ops": frozenset({"bob", "gone"})},
    frozenset({"User/gone"}),
)


def outcome(rule: int, state: Verdict = Verdict.PENDING) -> Outcome:
    return Outcome(rule, rule, rule, True, False, state, MADE)


def test_rules_come_by_type_then_by_ruleset_then_as_written() -> None:
    bindings = [
        copied("b", asks("http://x/"), ALWAYS, manual()),
        copied("a", NEVER, {**ALWAYS, "enabled": False}, manual(), first=10),
    ]
    assert [(rule.binding.ruleset, rule.id) for rule in rules(bindings)] == [
        ("a", 13), ("b", 3), ("a", 11), ("b", 2), ("b", 1)
    ]  # fmt: skip


def test_recorded_outcomes_are_trusted() -> None:
    asked = request(copied("a", ALWAYS, NEVER))
    first, second = turn(asked, []), turn(asked, [outcome(1)])
    assert isinstance(first, Turn)
    assert isinstance(second, Turn)
    assert ((first.rule.id, first.last), (second.rule.id, second.last)) == ((1, False), (2, True))
    assert turn(asked, [outcome(1), outcome(2)]) is Verdict.APPROVED
    assert turn(asked, [outcome(1, Verdict.REJECTED)]) is Verdict.REJECTED
    assert turn(request(), []) is Verdict.APPROVED


@pytest.mark.parametrize(
    ("success", "mode", "last", "expected"),
    [
        (True, Mode.ENFORCING, False, (Verdict.PENDING, False)),
        (True, Mode.PERMISSIVE, True, (Verdict.APPROVED, False)),
        (False, Mode.PERMISSIVE, False, (Verdict.PENDING, True)),
        (False, Mode.PERMISSIVE, True, (Verdict.APPROVED, True)),
        (False, Mode.ENFORCING, False, (Verdict.REJECTED, False)),
        (False, Mode.ENFORCING, True, (Verdict.REJECTED, False)),
    ],
)
def test_the_state_that_an_outcome_makes(success: bool, mode: Mode, last: bool, expected: object) -> None:
    assert result(mode, success=success, last=last) == expected


def test_a_schedule_rule_is_judged_for_the_moment_of_the_request_in_its_own_zone() -> None:
    rule = {"type": "schedule", "begin_time": "19:00", "end_time": "20:00"}
    asked = request(copied("a", rule), copied("b", rule, timezone="Europe/Amsterdam", first=5))
    utc, own = rules(asked.bindings)
    assert not in_time(utc, asked, "UTC")
    assert in_time(utc, asked, "Europe/Amsterdam")
    assert in_time(own, asked, "UTC")


@pytest.mark.parametrize(
    ("rule", "said", "expected"),
    [
        (manual(), {}, None),
        (manual(), {"User/a": "approved"}, True),
        (manual(), {"User/a": "approved", "User/b": "rejected"}, False),
        (manual("minimum", minimum=2), {"User/a": "approved"}, None),
        (manual("minimum", minimum=2), {"User/a": "approved", "User/x": "approved"}, True),
        (manual("all"), {"User/a": "approved"}, None),
        (manual("all"), {"User/a": "approved", "User/b": "approved"}, True),
        (manual("all"), {"User/x": "approved", "User/y": "approved"}, None),
    ],
)
def test_how_many_people_it_takes(rule: dict[str, Any], said: dict[str, str], expected: bool | None) -> None:
    assert decided(rule, said, {"User/a", "User/b"}) is expected


def test_where_nobody_may_decide_nothing_is_decided() -> None:
    assert decided(manual("all"), {}, frozenset()) is None


def test_who_may_decide() -> None:
    deploy = request(subject=subject(), authors=("User/alice",))
    named = manual("all", approvers={"users": ["alice"], "teams": ["ops"]})
    strict = {**named, "allow_self_approval": False}
    owners = manual(allow_self_approval=False)
    assert approvers.eligible(named, deploy, AUTHORITY) == {"User/alice", "User/bob"}
    assert approvers.eligible(strict, deploy, AUTHORITY) == {"User/bob"}
    assert approvers.eligible(owners, deploy, AUTHORITY) == {"User/bob"}
    assert approvers.eligible(manual(), request(), AUTHORITY) == {"User/alice"}
    assert approvers.eligible(manual(), request(), Authority({}, {}, frozenset())) == {ADMINISTRATOR}
    told = {
        who: approvers.refusal(named, deploy, AUTHORITY, who, Level.OWNER)
        for who in ("User/bob", "User/carol", "User/gone", ADMINISTRATOR)
    }
    assert told["User/bob"] is None
    assert (
        told["User/carol"]
        == told["User/gone"]
        == told[ADMINISTRATOR]
        == "alice or the team ops may decide it"
    )
    assert approvers.refusal(manual(), deploy, AUTHORITY, "User/x", Level.WRITE) == (
        "it takes the role owner on environment shop/prod"
    )


def test_what_a_request_waits_for() -> None:
    asked = request(
        copied("two", manual("minimum", minimum=2, approvers={"users": ["alice"], "teams": ["ops"]})),
        copied("all", manual("all"), first=5),
        subject=subject(),
        trouble="a server does not answer",
        again_at=MADE,
    )
    assert list(approvers.all_waits(asked, [], [], AUTHORITY)) == [
        "all: waits for alice, bob",
        "two: 0 of 2 approvals; alice or the team ops may decide",
        "a server does not answer; it is tried again at 2031-04-09T17:20:01+00:00",
    ]


def test_tries_as_many_as_the_rule_allows() -> None:
    assert [may_retry(asks("http://x/", 2), posted) for posted in (1, 2, 3)] == [True, True, False]
    assert not may_retry(asks("http://x/"), 1)


@given(st.integers(1, 1000), st.floats(-5, 5))
def test_the_time_between_tries_grows_and_is_bounded(tries: int, jitter: float) -> None:
    found = delay(tries, timedelta(seconds=jitter))
    assert timedelta(seconds=5) <= found <= timedelta(seconds=300)
    assert found <= delay(tries + 1, timedelta(seconds=jitter))


def test_the_time_between_tries_doubles() -> None:
    assert [delay(tries, timedelta(0)).total_seconds() for tries in range(1, 9)] == [
        5,
        10,
        20,
        40,
        80,
        160,
        300,
        300,
    ]
