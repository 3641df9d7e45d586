"""Which jobs of project configurations are asked for (cider-ci, section 6, "Triggers"), and how long they may wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.controllers.configurations import (
    MakeJob,
    TreeView,
    counts,
    decide,
    is_triggered,
    reached,
    undispatched,
)
from reconciler.controllers.jobs import Move
from reconciler.model.history import Branch
from reconciler.model.job import Checkout, Job, Origin, Reason, State, Task, Trial
from specs.configuration import JobDeclaration
from specs.configuration_conditions import condition

NOW = datetime(2030, 4, 1, 3, 1, tzinfo=UTC)
LIMIT = timedelta(minutes=30)
CIDER_CI: dict[str, Any] = {
    "enabled": True,
    "branch_include_match": True,
    "branch_exclude_match": None,
    "max_head_age_seconds": 3600,
    "cron": True,
}


def branch(name: str = "main", judged: str | None = None, age: int = 0) -> Branch:
    """Its head is `c`, which was so many minutes old when it came."""
    return Branch(name, "c", "t", NOW, NOW - timedelta(minutes=age), judged)


def declared(key: str, run_when: Mapping[str, Any] | None = None, **depends_on: Any) -> JobDeclaration:
    """A job with these conditions."""
    return JobDeclaration(
        key,
        key,
        "cider-ci.yml",
        run_when=tuple(condition(*each) for each in (run_when or {}).items()),
        depends_on=tuple(condition(*each) for each in depends_on.items()),
    )


def job(state: State, *, trigger: str = "branch", **more: Any) -> Job:
    """A job of a configuration."""
    ended = NOW - timedelta(minutes=10) if state.finished else None
    facts: dict[str, Any] = {"reason": None, "held": False, "specification": {}, "work_digest": ""}
    facts |= {"checkout": Checkout(), "trigger": {"type": trigger}, "inputs": {}, "actor": "system"}
    facts |= {"created_at": NOW, "started_at": None, "finished_at": ended, "origin": Origin.CONFIGURATION}
    return Job(7, "id", "Configuration/p/_/unit", state, **(facts | more))


def one(tree: TreeView, **cider_ci: Any) -> MakeJob | None:
    """The only job that is asked for."""
    found = decide(CIDER_CI | cider_ci, [tree], NOW, "UTC").jobs
    assert len(found) <= 1
    return found[0] if found else None


PUSH = {"push": {"type": "branch", "include_match": "^main$"}}
AFTER = {"after": {"type": "job", "job_key": "unit", "states": ["passed"]}}
NIGHTLY = {"night": {"type": "cron", "value": "0 3 * * *", "branch_include_match": True}}
AGAIN = {"night": NIGHTLY["night"] | {"rerun": True}}


@pytest.mark.parametrize(
    ("head", "more", "made"),
    [
        (branch(), {}, True),
        (branch(judged="c"), {}, False),
        (branch(judged="before"), {}, True),
        (branch("next"), {}, False),
        (branch(age=60), {}, True),
        (branch(age=61), {}, False),
        (branch(), {"branch_include_match": False}, False),
        (branch(), {"branch_include_match": "ai"}, True),
        (branch(), {"branch_exclude_match": "n$"}, False),
    ],
)
def test_a_head_triggers_once(head: Branch, more: dict[str, Any], made: bool) -> None:
    """Where it is not judged yet, its branch is allowed, and it was young when it came."""
    tree = TreeView("t", [head], {"unit": declared("unit", PUSH)}, {})
    found = one(tree, **more)
    assert (found is not None) is made
    if found is not None:
        assert found == MakeJob("t", "unit", {"type": "branch", "branch": "main"}, "main")
    assert counts(CIDER_CI | more, head) is (made or head.judged == "c" or head.name == "next")


def test_what_was_looked_at_is_judged_unless_something_waits() -> None:
    """A job that depends on another one is asked for again, until that is there."""
    waits = declared("late", PUSH, x={"type": "job", "job_key": "unit", "states": ["passed"]})
    heads = [branch(), branch("other"), branch("known", judged="c")]
    tree = TreeView("t", heads, {"late": waits}, {})
    decision = decide(CIDER_CI, [tree], NOW, "UTC")
    assert decision.jobs == ()
    assert decision.judged == {"other": "c"}
    there = replace(tree, jobs={"unit": job(State.PASSED)})
    decision = decide(CIDER_CI, [there], NOW, "UTC")
    assert [each.key for each in decision.jobs] == ["late"]
    assert decision.judged == {"main": "c", "other": "c"}


@pytest.mark.parametrize(
    ("state", "more", "states", "made"),
    [
        (State.PASSED, {}, ["passed"], True),
        (State.FAILED, {}, ["passed"], False),
        (State.PASSED, {}, ["pending"], True),
        (State.PASSED, {"started_at": NOW}, ["executing"], True),
        (State.PENDING, {}, ["executing"], False),
        (State.ABORTED, {"aborted_at": NOW}, ["aborting"], True),
    ],
)
def test_states_that_a_job_has_been_in_count(
    state: State, more: dict[str, Any], states: list[str], made: bool
) -> None:
    """Also those that were over before anybody looked."""
    after = {"after": AFTER["after"] | {"states": states}}
    tree = TreeView("t", [], {"next": declared("next", after)}, {"unit": job(state, **more)})
    found = one(tree)
    assert (found is not None) is made
    assert found is None or found == MakeJob("t", "next", {"type": "job", "job": "unit"})
    assert (states[0] in reached(tree.jobs["unit"])) is made


def test_nothing_is_made_twice() -> None:
    """A job that is there, in any state, is not asked for again."""
    both = PUSH | AFTER | NIGHTLY
    for state in (State.PENDING, State.FAILED, State.ABORTED):
        jobs = {"unit": job(State.PASSED), "x": job(state)}
        assert one(TreeView("t", [branch()], {"x": declared("x", both)}, jobs)) is None


def test_due_times_count_for_three_minutes() -> None:
    """Of heads of any age, where they are switched on; then the next one is told."""
    tree = TreeView("t", [branch(judged="c", age=10_000)], {"x": declared("x", NIGHTLY)}, {})
    due = {"type": "cron", "branch": "main", "due": "2030-04-01T03:00:00+00:00"}
    assert one(tree) == MakeJob("t", "x", due, "main")
    assert one(tree, cron=False) is None
    assert decide(CIDER_CI, [tree], NOW + timedelta(minutes=3), "UTC").jobs == ()
    assert decide(CIDER_CI, [tree], NOW, "Asia/Tokyo").jobs == ()
    assert decide(CIDER_CI, [tree], NOW, "UTC").cron_at == datetime(2030, 4, 2, 3, tzinfo=UTC)
    assert decide(CIDER_CI | {"cron": False}, [tree], NOW, "UTC").cron_at is None


def test_the_clock_asks_only_for_heads_of_branches_that_are_allowed() -> None:
    """The Repository's own patterns hold for cron conditions too, whatever a head's age."""
    tree = TreeView("t", [branch(judged="c", age=10_000)], {"x": declared("x", NIGHTLY)}, {})
    decision = decide(CIDER_CI | {"branch_exclude_match": "^main$"}, [tree], NOW, "UTC")
    assert (decision.jobs, decision.cron_at) == ((), None)


def test_a_job_is_replaced_once_it_has_been_over_for_long_enough() -> None:
    """`rerun`: not one that runs, and not one that has just ended; that is looked at again in time."""
    x = declared("x", AGAIN)

    def found(there: Job) -> tuple[MakeJob | None, datetime | None]:
        tree = TreeView("t", [branch(judged="c")], {"x": x}, {"x": there})
        decision = decide(CIDER_CI, [tree], NOW, "UTC")
        return next(iter(decision.jobs), None), decision.cron_at

    made, _ = found(job(State.PASSED))
    assert made is not None
    assert made.replaces == 7
    assert found(job(State.EXECUTING))[0] is None
    ended = NOW - timedelta(minutes=2)
    assert found(job(State.PASSED, finished_at=ended)) == (None, ended + timedelta(minutes=3, seconds=1))
    made, at = found(job(State.PASSED, finished_at=NOW - timedelta(seconds=30)))
    assert made is None
    assert at == datetime(2030, 4, 2, 3, tzinfo=UTC)
    assert found(job(State.PASSED, finished_at=NOW + timedelta(hours=1)))[0] is None, "the clock was set back"
    assert found(job(State.PASSED, finished_at=NOW + timedelta(days=30)))[0] is not None, "it was far ahead"


def waiting(*ages: int, actor: str | None = None, **more: Any) -> Job:
    """A job with a task for each pending trial of so many minutes."""
    tasks = []
    for number, age in enumerate(ages):
        created = NOW - timedelta(minutes=age)
        nothing: Any = (None, None, None)
        trial = Trial(
            f"trial{number}", f"task{number}", 1, State.PENDING, *nothing, 0, created, None, None, actor=actor
        )
        tasks.append(Task(f"task{number}", 7, number, f"t{number}", State.PENDING, None, {}, (trial,)))
    return job(State.PENDING, tasks=tuple(tasks), **more)


def test_a_trial_that_no_executor_takes_is_aborted_in_time() -> None:
    """Half an hour by default; when the next one's time is up is told."""
    moves, at = undispatched(waiting(30, 10), NOW, LIMIT)
    assert moves == (Move("trial", "trial0", State.ABORTED, Reason.DISPATCH_TIMEOUT),)
    assert at == NOW + timedelta(minutes=20)
    assert undispatched(waiting(), NOW, LIMIT) == ((), None)


@pytest.mark.parametrize(
    "other",
    [
        waiting(40, trigger="api"),
        waiting(40, origin=Origin.DECLARED),
        waiting(40, held=True),
        waiting(40, actor="User/jo"),
    ],
)
def test_others_wait_as_long_as_they_must(other: Job) -> None:
    """What somebody asked for, and what is held (design 13.5)."""
    assert undispatched(other, NOW, LIMIT) == ((), None)
    assert is_triggered(waiting(1))
    assert not is_triggered(waiting(1, trigger="api"))
