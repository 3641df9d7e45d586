"""Our states as the words of builds.sr.ht, row by row (builds-srht, 9.1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from api.srht import states
from reconciler.model.job import LIVE, Checkout, Job, Reason, State

S, R = State, Reason
NOW = datetime(2026, 11, 22, tzinfo=UTC)
JOB = Job(
    number=1,
    id="1",
    key="Manifest/~jo/_/build",
    state=S.PENDING,
    reason=None,
    held=False,
    specification={},
    work_digest="",
    checkout=Checkout(),
    trigger={},
    inputs={},
    actor="User/jo",
    created_at=NOW,
    started_at=None,
    finished_at=None,
)


@pytest.mark.parametrize(
    ("word", "state", "reason"),
    [
        ("queued", S.PENDING, None),
        ("running", S.EXECUTING, None),
        ("running", S.ABORTING, R.CANCELLED),
        ("success", S.PASSED, None),
        ("failed", S.FAILED, R.EXIT_STATUS),
        ("timeout", S.DEFECTIVE, R.TIMEOUT),
        ("failed", S.DEFECTIVE, R.ATTACHMENT),
        ("failed", S.DEFECTIVE, R.LOST),
        ("failed", S.DEFECTIVE, None),
        ("timeout", S.ABORTED, R.DISPATCH_TIMEOUT),
        ("cancelled", S.ABORTED, R.CANCELLED),
        ("cancelled", S.ABORTED, R.SUPERSEDED),
    ],
)
def test_a_job(word: str, state: State, reason: str | None) -> None:
    """Held or not; only what waits is `pending` for being held."""
    job = replace(JOB, state=state, reason=reason)
    assert states.of_job(job) == word
    assert states.of_job(replace(job, held=True)) == ("pending" if state is S.PENDING else word)
    assert states.not_startable(job) == (word if state in LIVE else "complete")


@pytest.mark.parametrize(
    ("word", "state", "reason"),
    [
        ("pending", S.PENDING, None),
        ("pending", S.WAITING, None),
        ("running", S.EXECUTING, None),
        ("success", S.PASSED, None),
        ("failed", S.FAILED, R.EXIT_STATUS),
        ("failed", S.DEFECTIVE, R.SECRET),
        ("failed", S.ABORTED, R.CANCELLED),
        ("skipped", S.SKIPPED, R.COMPLETED),
        ("skipped", S.SKIPPED, R.UNSATISFIABLE),
        ("pending", S.SKIPPED, R.NOT_REACHED),
    ],
)
def test_a_task(word: str, state: State, reason: str | None) -> None:
    """By the state of its script."""
    assert states.of_task(state, reason) == word


@pytest.mark.parametrize("reason", [None, *Reason])
def test_every_state_has_a_word(reason: Reason | None) -> None:
    """Whatever our model makes of a job or a script; jobs are never waiting, dispatching or skipped."""
    for state in State:
        assert states.of_task(state, reason)
        if state not in (S.WAITING, S.DISPATCHING, S.SKIPPED):
            assert states.of_job(replace(JOB, state=state, reason=reason))
