"""Conditions of project configurations (cider-ci, section 6): what triggers a job and what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.configuration_conditions import (
    CRON_WINDOW,
    BranchCondition,
    Condition,
    CronCondition,
    JobCondition,
    condition,
    cron_fault,
    due_by_cron,
    may_rerun,
    next_by_cron,
    triggered_by_branch,
    triggered_by_job,
    unfulfilled,
)
from specs.configuration_matches import Match

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
AFTER_LINT = JobCondition("after lint", "lint", ("passed", "failed"))
NIGHTLY = CronCondition("nightly", "0 3 * * ?", "^master$", None, False)


@pytest.mark.parametrize(
    ("include", "exclude", "branch", "expected"),
    [
        (None, None, "master", False),
        ("", None, "master", False),
        ("  ", None, "master", False),
        (False, None, "master", False),
        (True, None, "master", True),
        (True, True, "master", False),
        (True, False, "master", True),
        (True, "", "master", True),
        ("aste", None, "master", True),
        ("^aste", None, "master", False),
        ("MASTER", None, "master", False),
        ("(?i)MASTER", None, "master", True),
        ("^.*$", "^wip/", "wip/a", False),
        ("^.*$", "^wip/", "my-wip/a", True),
    ],
)
def test_a_branch_triggers_what_fits_it(include: Match, exclude: Match, branch: str, expected: bool) -> None:
    assert expected is triggered_by_branch([BranchCondition("b", include, exclude)], branch)


def test_only_conditions_of_their_type_look_at_a_branch() -> None:
    assert not triggered_by_branch([AFTER_LINT, NIGHTLY], "master")
    assert triggered_by_branch([AFTER_LINT, BranchCondition("b", True, None)], "master")


@pytest.mark.parametrize(
    ("key", "state", "expected"),
    [
        ("lint", "passed", True),
        ("lint", "failed", True),
        ("lint", "aborted", False),
        ("unit", "passed", False),
    ],
)
def test_a_job_that_reaches_a_state_triggers_others(key: str, state: str, expected: bool) -> None:
    conditions = [BranchCondition("b", True, None), AFTER_LINT]
    assert expected is triggered_by_job(conditions, key, state)


def test_every_dependency_must_be_fulfilled() -> None:
    depends_on = [AFTER_LINT, BranchCondition("released", "^release/", None)]
    assert unfulfilled(depends_on, ["release/1"], {"lint": "passed"}) == ()
    assert unfulfilled(depends_on, ["release/1"], {"lint": "executing"}) == (
        "after lint: the job lint must be passed or failed; it is executing",
    )
    assert unfulfilled(depends_on, ["master"], {"unit": "passed"}) == (
        "after lint: the job lint must be passed or failed; there is none yet",
        "released: no branch that fits has this tree at its head",
    )
    assert unfulfilled([], [], {}) == ()


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-1, None), (0, 0), (2, 0), (3, 0), (3.1, None), (60 * 24, 60 * 24)]
)
def test_a_cron_condition_is_due_for_three_minutes(minutes: float, expected: int | None) -> None:
    three = NOW.replace(hour=3)
    due = due_by_cron([NIGHTLY], "master", three + timedelta(minutes=minutes))
    assert expected == (None if due is None else (due.at - three) / timedelta(minutes=1))


def test_a_cron_condition_is_for_heads_of_branches_that_fit() -> None:
    three = NOW.replace(hour=3)
    assert due_by_cron([NIGHTLY], "master", three)
    assert due_by_cron([NIGHTLY], "dev", three) is None
    assert due_by_cron([CronCondition("c", "0 3 * * *", None, None, False)], "master", three) is None
    excluded = CronCondition("c", "0 3 * * *", True, "^master$", False)
    assert due_by_cron([excluded, AFTER_LINT], "master", three) is None


def test_of_several_due_times_the_newest_counts() -> None:
    first = CronCondition("first", "59 11 * * *", True, None, True)
    second = CronCondition("second", "* * * * *", True, None, False)
    due = due_by_cron([first, second], "x", NOW + timedelta(seconds=30))
    assert due is not None
    assert (due.condition.name, due.at) == ("second", NOW)
    both = due_by_cron([second, CronCondition("third", "* * * * *", True, None, True)], "x", NOW)
    assert both is not None
    assert both.condition.rerun


def test_a_cron_condition_is_due_by_the_clock_of_a_zone() -> None:
    two = NOW.replace(hour=2)
    assert due_by_cron([NIGHTLY], "master", two) is None
    due = due_by_cron([NIGHTLY], "master", two, "Europe/Zurich")
    assert due is not None
    assert two == due.at


@settings(deadline=None)
@given(st.integers(0, 24 * 3600))
def test_what_is_due_lies_at_most_the_window_back(seconds: int) -> None:
    now = NOW + timedelta(seconds=seconds)
    due = due_by_cron([CronCondition("c", "*/7 * * * *", True, None, False)], "x", now)
    last = now.replace(minute=now.minute // 7 * 7, second=0)
    assert (last if now - last <= CRON_WINDOW else None) == (due and due.at)


def test_a_rerun_leaves_running_and_fresh_jobs_alone() -> None:
    assert not may_rerun(None, NOW)
    assert not may_rerun(NOW - timedelta(minutes=3), NOW)
    assert may_rerun(NOW - timedelta(minutes=3, seconds=1), NOW)


@pytest.mark.parametrize("text", ["0 3 * * *", "*/5 8-18 ? * 1-5", "0 0 * ? sun", " 0  3 * * * "])
def test_cron_texts_of_five_fields(text: str) -> None:
    assert cron_fault(text) is None


@pytest.mark.parametrize(
    "text", ["", "0 3 * *", "0 3 1 * *", "0 3 * 1 *", "0 3 */2 * *", "60 3 * * *", "0 3 * * 8", "? 3 * * *", "@daily"]
)  # fmt: skip
def test_other_cron_texts_are_refused(text: str) -> None:
    assert cron_fault(text)


def test_the_next_due_time_is_that_of_any_condition_that_fits() -> None:
    """Of cron conditions, for the branch; `?` is `*`."""
    at = datetime(2030, 4, 1, 3, tzinfo=UTC)

    def cron(name: str, value: str, branch: str) -> Condition:
        return condition(name, {"type": "cron", "value": value, "branch_include_match": branch})

    late, early = cron("late", "0 5 ? ? *", "main"), cron("early", "0 4 * * *", "next")
    push = condition("push", {"type": "branch", "include_match": True})
    assert next_by_cron([late, early, push], "main", at) == at + timedelta(hours=2)
    assert next_by_cron([late, early, push], "main-and-next", at) == at + timedelta(hours=1)
    assert next_by_cron([late, early, push], "other", at) is None
    assert next_by_cron([late], "main", at, "Europe/Amsterdam") == at + timedelta(hours=24)
