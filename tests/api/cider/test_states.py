"""Every state has a word there, filters find it again, and results go up as the contract says (cider-ci, 2.9, 5.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from api.cider import properties, results, states
from api.cider.states import Words
from reconciler.model.job import (
    JOB_MOVES,
    SCRIPT_MOVES,
    TASK_MOVES,
    TRIAL_MOVES,
    Checkout,
    Job,
    Reason,
    Script,
    State,
    Task,
    Trial,
)

S = State
START = datetime(2030, 4, 1, 10, 0, 5, 250_999, tzinfo=UTC)
ENUMS = {
    "job": {"pending", "executing", "aborting", "passed", "failed", "aborted", "defective"},
    "trial": {"pending", "dispatching", "executing", "aborting", "passed", "failed", "aborted", "defective"},
    "script": {"pending", "waiting", "executing", "passed", "failed", "aborted", "defective", "skipped"},
}


@pytest.mark.parametrize(
    ("words", "moves", "enum"),
    [
        (states.JOB, JOB_MOVES, "job"),
        (states.TASK, TASK_MOVES, "job"),
        (states.TRIAL, TRIAL_MOVES, "trial"),
        (states.SCRIPT, SCRIPT_MOVES, "script"),
    ],
)
def test_every_state_has_a_word(words: Words, moves: Mapping[State, frozenset[State]], enum: str) -> None:
    """All that the moves reach, in the words of 2.9 and no other; and the way back."""
    reached = set(moves).union(*moves.values())
    assert words.keys() >= reached
    assert set(words.values()) == ENUMS[enum]
    for state in reached:
        assert state in states.meant(words, words[state])
    assert states.meant(words, "success") == states.meant(words, "passed") == (S.PASSED,)
    assert states.meant(words, "nonsense") == states.meant(words, "held") == ()


def trial(number: int, state: State) -> Trial:
    """A trial of which only this counts."""
    at = START + timedelta(minutes=number)
    return Trial(f"trial-{number}", "task", number, state, None, None, None, 0, at, at, None)


def task(*trials: Trial) -> Task:
    """A task with these trials."""
    return Task("task", 1, 0, "main", S.EXECUTING, None, {}, trials)


def job(*tasks: Task) -> Job:
    """A job with these tasks."""
    return Job(
        1, "id", "Build/shop/_/web", S.EXECUTING, None, False, {}, "w", Checkout(), {"type": "schedule"}, {},
        "System", START, None, None, tasks=tasks,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        ([], None),
        ([S.PASSED, S.FAILED, S.ABORTED], 0),
        ([S.FAILED, S.PASSED, S.PASSED, S.FAILED], 2),
        ([S.FAILED, S.FAILED, S.ABORTED], 1),
        ([S.ABORTED, S.DEFECTIVE], 0),
        ([S.DEFECTIVE, S.EXECUTING], None),
    ],
)
def test_the_result_of_the_best_trial(outcomes: Sequence[State], best: int | None) -> None:
    """Passed before failed before aborted, newest first; a job has that of its only task."""
    found = task(*(trial(place, state) for place, state in enumerate(outcomes)))
    expected = None if best is None else found.trials[best]
    assert results.best_of_task(found) is expected
    assert results.best_of_job(job(found)) is expected
    assert results.best_of_job(job(found, found)) is results.best_of_job(job()) is None


def test_what_a_trigger_made() -> None:
    """Nobody created it, and what it was is told; its times are cut to milliseconds."""
    found = properties.job(job(task(trial(7, S.FAILED))), lambda key: f"id of {key}", None)
    assert (found["created_by"], found["trigger_event"]) == (None, {"type": "schedule"})
    assert (found["created_at"], found["updated_at"]) == (
        "2030-04-01T10:00:05.250Z",
        "2030-04-01T10:07:05.250Z",
    )


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (S.DEFECTIVE, Reason.TIMEOUT, "timeout"),
        (S.DEFECTIVE, Reason.EXECUTOR_ERROR, "executor error"),
        (S.SKIPPED, Reason.UNSATISFIABLE, "start_when"),
        (S.FAILED, Reason.EXIT_STATUS, None),
        (S.PASSED, None, None),
    ],
)
def test_issues_of_a_script(state: State, reason: str | None, said: str | None) -> None:
    """What an exit status does not tell, each time under the same id."""
    script = Script(
        "5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10", "trial-1", "a", state, reason, None, None, START, START
    )
    policy = {"scripts": [{"name": "a", "run": "sleep 10", "timeout_seconds": 1.5, "title": "A"}]}
    one, other = (properties.script(trial(1, state), script, policy, "x") for _ in range(2))
    assert one == other
    assert (one["timeout"], one["body"], one["key"], one["name"]) == ("1.5 seconds", "sleep 10", "a", "A")
    assert len(one["issues"]) == (said is not None)
    for issue in one["issues"].values():
        assert issue.keys() == {"title", "description", "type", "created_at"}
        assert said is not None
        assert said in issue["description"]
