"""How a job goes on: cases, and a simulated world in which every job ends as its tasks say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.jobs import JobDecision, decide, trials_wanted
from reconciler.model.job import FINISHED, Checkout, Job, Reason, State, Task, Trial
from specs.build_work import effective_tasks

NOW = datetime(2030, 1, 1, tzinfo=UTC)
S = State


def trial(number: int, state: State, reason: str | None = None, task: str = "t") -> Trial:
    return Trial(f"{task}-{number}", task, number, state, reason, None, None, 0, NOW, None, None)


def task(name: str, *trials: Trial, state: State = S.PENDING, **policy: Any) -> Task:
    return Task(name, 1, 0, name, state, None, {"name": name} | policy, trials)


def job(*tasks: Task, state: State = S.PENDING, reason: str | None = None, **more: Any) -> Job:
    fields: dict[str, Any] = {
        "number": 1, "id": "job", "key": "Build/shop/_/b", "state": state, "reason": reason, "held": False,
        "specification": {"timeout_seconds": 60}, "work_digest": "w", "checkout": Checkout(), "trigger": {},
        "inputs": {}, "actor": "User/a", "created_at": NOW, "started_at": None, "finished_at": None, "tasks": tasks,
    }  # fmt: skip
    return Job(**(fields | more))


def moves(decision: JobDecision) -> list[tuple[str, str, State, str | None]]:
    return [(move.entity, move.id, move.state, move.reason) for move in decision.moves]


@pytest.mark.parametrize(
    ("trials", "policy", "wanted"),
    [
        ((), {}, 1),
        ((trial(1, S.PENDING),), {}, 0),
        ((trial(1, S.EXECUTING),), {"max_trials": 3}, 0),
        ((trial(1, S.FAILED),), {}, 0),
        ((trial(1, S.FAILED),), {"max_trials": 2}, 1),
        ((trial(1, S.FAILED), trial(2, S.FAILED)), {"max_trials": 2}, 0),
        ((trial(1, S.DEFECTIVE, Reason.TIMEOUT),), {"max_trials": 2}, 1),
        ((trial(1, S.PASSED),), {"max_trials": 5}, 0),
        ((trial(1, S.ABORTED),), {"max_trials": 5}, 0),
        ((trial(1, S.DEFECTIVE, Reason.LOST),), {}, 1),
        ((trial(1, S.DEFECTIVE, Reason.LOST),), {"lost_retries": 0}, 0),
        ((trial(1, S.DEFECTIVE, Reason.LOST), trial(2, S.DEFECTIVE, Reason.LOST)), {}, 1),
        (tuple(trial(n, S.DEFECTIVE, Reason.LOST) for n in (1, 2, 3)), {}, 0),
        ((trial(1, S.DEFECTIVE, Reason.LOST), trial(2, S.FAILED)), {"max_trials": 1}, 0),
        ((trial(1, S.DEFECTIVE, Reason.LOST), trial(2, S.FAILED)), {"max_trials": 2}, 1),
    ],
)
def test_attempts_are_made_as_declared(
    trials: tuple[Trial, ...], policy: dict[str, Any], wanted: int
) -> None:
    """Lost ones are counted apart (design 13.3); an aborted one is never tried again."""
    assert trials_wanted(task("t", *trials, **policy)) == wanted


def test_a_task_waits_for_those_it_needs() -> None:
    """Only the first gets a trial."""
    decision = decide(job(task("a"), task("b", needs=["a"])), NOW)
    assert [new.task for new in decision.trials] == ["a"]
    assert moves(decision) == []


def test_a_task_is_skipped_when_one_it_needs_did_not_pass() -> None:
    """Reason `needs`, through a whole chain; the job has the reason of what failed (design 13.4)."""
    failed = task("a", trial(1, S.FAILED, Reason.EXIT_STATUS, "a"))
    decision = decide(job(failed, task("b", needs=["a"]), task("c", needs=["b"]), started_at=NOW), NOW)
    assert moves(decision) == [
        ("task", "a", S.FAILED, Reason.EXIT_STATUS),
        ("task", "b", S.SKIPPED, Reason.NEEDS),
        ("task", "c", S.SKIPPED, Reason.NEEDS),
        ("job", "job", S.FAILED, Reason.EXIT_STATUS),
    ]


def released(*tasks: Task, branch: str = "main") -> Job:
    """With a release as a Build has it that makes one of its tasks."""
    told: list[dict[str, Any]] = [{**each.policy, "run": "true"} for each in tasks]
    spec = {"repo": "web", "branch": "main", "release": {"namespace": "shop"}, "tasks": told}
    policies = {policy["name"]: policy for policy in effective_tasks(spec)}
    known = {each.name: each for each in tasks}
    made = [
        replace(known[name], policy=policy) if name in known else task(**policy)
        for name, policy in policies.items()
    ]
    return job(*made, state=S.EXECUTING, checkout=Checkout(branch=branch, commit="c"), started_at=NOW)


def test_a_release_is_made_although_a_task_was_left_out() -> None:
    """One that is for failures, one of another branch, and what needs that: unmet is left out (own-kinds)."""
    test = task("test", trial(1, S.PASSED, task="test"))
    tell = task("tell", needs=["test"], when="failed")
    preview = task("preview", branches=["feature/*"])
    show = task("show", needs=["preview"])
    decision = decide(released(test, tell, preview, show), NOW)
    assert moves(decision) == [
        ("task", "test", S.PASSED, None),
        ("task", "tell", S.SKIPPED, Reason.WHEN),
        ("task", "preview", S.SKIPPED, Reason.OTHER_REF),
        ("task", "show", S.SKIPPED, Reason.NEEDS),
    ]
    assert [new.task for new in decision.trials] == ["release"]


def test_no_release_is_made_of_what_failed_or_of_nothing() -> None:
    """Also where what failed only kept another task from starting, and before the rest has ended."""
    failed = task("test", trial(1, S.FAILED, Reason.EXIT_STATUS, "test"))
    slow = task("slow", trial(1, S.EXECUTING, task="slow"))
    decision = decide(released(failed, task("pack", needs=["test"]), slow), NOW)
    assert ("task", "release", S.SKIPPED, Reason.NEEDS) in moves(decision)
    running = decide(released(task("test", trial(1, S.PASSED, task="test")), slow), NOW)
    assert not running.trials
    assert not any(move.id == "release" for move in running.moves)
    nothing = decide(released(task("preview", branches=["feature/*"])), NOW)
    assert ("task", "release", S.SKIPPED, Reason.NEEDS) in moves(nothing)


def test_the_first_of_several_that_passes_counts_at_once() -> None:
    """cider-ci 5.2: who is only ended still holds nobody up but the job."""
    beside = (trial(1, S.PASSED, task="a"), trial(2, S.EXECUTING, task="a"))
    first = task("a", *beside, state=S.EXECUTING, max_trials=2, eager_trials=2)
    decision = decide(job(first, task("b", needs=["a"]), state=S.EXECUTING, started_at=NOW), NOW)
    assert decision.stop == ("a-2",)
    ended = (beside[0], replace(beside[1], state=S.ABORTING, reason=Reason.SUPERSEDED))
    then = replace(first, trials=ended)
    decision = decide(job(then, task("b", needs=["a"]), state=S.EXECUTING, started_at=NOW), NOW)
    assert moves(decision) == [("task", "a", S.PASSED, None)]
    assert [new.task for new in decision.trials] == ["b"]
    assert decision.stop == ("a-2",)
    last = replace(then, state=S.PASSED)
    alone = job(last, state=S.EXECUTING, started_at=NOW)
    assert moves(decide(alone, NOW)) == []
    gone = (ended[0], replace(ended[1], state=S.ABORTED))
    assert moves(decide(replace(alone, tasks=(replace(last, trials=gone),)), NOW)) == [
        ("job", "job", S.PASSED, None)
    ]


def test_a_job_without_tasks_passes() -> None:
    """cider-ci 5.1."""
    assert moves(decide(job(), NOW)) == [("job", "job", S.PASSED, None)]


def test_a_job_out_of_time_is_ended_and_defective() -> None:
    """Its running trial is stopped, its pending one aborted; in the end it could not be judged."""
    running = task("a", trial(1, S.EXECUTING, task="a"), state=S.EXECUTING)
    waiting = task("b", trial(1, S.PENDING, task="b"))
    late = job(running, waiting, state=S.EXECUTING, started_at=NOW - timedelta(seconds=61))
    assert moves(decide(late, NOW)) == [("job", "job", S.ABORTING, Reason.TIMEOUT)]
    aborting = replace(late, state=S.ABORTING, reason=Reason.TIMEOUT)
    decision = decide(aborting, NOW)
    assert decision.stop == ("a-1",)
    assert ("trial", "b-1", S.ABORTED, Reason.TIMEOUT) in moves(decision)
    ended = task("a", trial(1, S.ABORTED, Reason.TIMEOUT, "a"), state=S.ABORTING)
    done = replace(aborting, tasks=(ended, task("b", trial(1, S.ABORTED, Reason.TIMEOUT, "b"))))
    assert moves(decide(done, NOW))[-1] == ("job", "job", S.DEFECTIVE, Reason.TIMEOUT)


def test_the_limit_of_a_job_is_a_time_to_look_again() -> None:
    """Controllers read no clock; what they want later is data."""
    running = task("a", trial(1, S.EXECUTING, task="a"), state=S.EXECUTING)
    started = job(running, state=S.EXECUTING, started_at=NOW)
    assert decide(started, NOW).deadline == NOW + timedelta(seconds=60)


def test_a_cancelled_job_that_passed_all_the_same_has_passed() -> None:
    """cider-ci 5.1, first rule while aborting."""
    passed = task("a", trial(1, S.PASSED, task="a"), state=S.ABORTING)
    decision = decide(job(passed, state=S.ABORTING, reason=Reason.CANCELLED), NOW)
    assert moves(decision) == [("task", "a", S.PASSED, None), ("job", "job", S.PASSED, None)]


outcomes = st.sampled_from(
    [
        (S.PASSED, None),
        (S.FAILED, Reason.EXIT_STATUS),
        (S.DEFECTIVE, Reason.TIMEOUT),
        (S.DEFECTIVE, Reason.LOST),
    ]
)


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    """Up to five tasks, each needing some of those before it."""
    names = [f"t{n}" for n in range(draw(st.integers(0, 5)))]
    return [
        task(
            name,
            needs=draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else [],
            max_trials=draw(st.integers(1, 3)),
            lost_retries=draw(st.integers(0, 2)),
        )
        for index, name in enumerate(names)
    ]


def apply(state: Job, decision: JobDecision) -> Job:
    """The model of the world: what storing a decision does."""
    tasks = {t.id: t for t in state.tasks}
    for move in decision.moves:
        if move.entity == "task":
            tasks[move.id] = replace(tasks[move.id], state=move.state, reason=move.reason)
        elif move.entity == "job":
            state = replace(state, state=move.state, reason=move.reason)
        else:
            owner = next(t for t in tasks.values() if any(x.id == move.id for x in t.trials))
            changed = tuple(
                replace(x, state=move.state, reason=move.reason) if x.id == move.id else x
                for x in owner.trials
            )
            tasks[owner.id] = replace(owner, trials=changed)
    for new in decision.trials:
        owner = tasks[new.task]
        tasks[new.task] = replace(owner, trials=(*owner.trials, trial(new.number, S.PENDING, task=new.task)))
    return replace(state, tasks=tuple(tasks[t.id] for t in state.tasks))


@given(graphs(), st.data())
def test_every_job_ends_and_then_stays(tasks: list[Task], data: st.DataObject) -> None:
    """Whatever the trials do and whenever it is cancelled: it ends, no task exceeds its tries, nothing more follows."""
    state = job(*tasks)
    for _ in range(100):
        decision = decide(state, NOW)
        again = apply(state, decision)
        assert decide(again, NOW).trials == () or again != state
        state = again
        if state.state in FINISHED:
            break
        if decision.moves or decision.trials:
            continue
        pending = [(t, x) for t in state.tasks for x in t.trials if x.state not in FINISHED]
        assert pending, "it neither ended nor has anything at work"
        if state.state is not S.ABORTING and data.draw(st.integers(0, 9)) == 0:
            state = replace(state, state=S.ABORTING, reason=Reason.CANCELLED)
            continue
        owner, chosen = data.draw(st.sampled_from(pending))
        new_state, reason = data.draw(outcomes)
        if chosen.state is S.ABORTING and new_state is not S.PASSED:
            new_state, reason = S.ABORTED, Reason.CANCELLED
        trials = tuple(replace(x, state=new_state, reason=reason) if x is chosen else x for x in owner.trials)
        state = replace(
            state,
            started_at=NOW,
            tasks=tuple(replace(t, trials=trials) if t is owner else t for t in state.tasks),
        )
    assert state.state in FINISHED
    assert all(t.state in FINISHED for t in state.tasks)
    for each in state.tasks:
        lost = sum(x.reason == Reason.LOST for x in each.trials)
        assert len(each.trials) - lost <= each.policy["max_trials"]
        assert lost <= each.policy["lost_retries"] + 1
    assert decide(state, NOW) == JobDecision()
    states = {t.state for t in state.tasks}
    if state.state is S.PASSED:
        assert states <= {S.PASSED, S.SKIPPED}
