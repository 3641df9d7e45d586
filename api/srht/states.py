"""Our states as the words of builds.sr.ht: one table for jobs, one for tasks (builds-srht, 9.1).

Used by whatever shows a job here; pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.job import Job, JobGroup, Reason, State

_HELD = "held"
S, R = State, Reason
Words = Mapping[tuple[State, str | None], str]
"""By state and reason; without a reason: where there is no row for the very one."""

JOB: Words = {
    (S.PENDING, _HELD): "pending",
    (S.PENDING, None): "queued",
    (S.EXECUTING, None): "running",
    (S.ABORTING, None): "running",
    (S.PASSED, None): "success",
    (S.FAILED, None): "failed",
    (S.DEFECTIVE, R.TIMEOUT): "timeout",
    (S.DEFECTIVE, None): "failed",
    (S.ABORTED, R.DISPATCH_TIMEOUT): "timeout",
    (S.ABORTED, None): "cancelled",
}
TASK: Words = {
    (S.PENDING, None): "pending",
    (S.WAITING, None): "pending",
    (S.DISPATCHING, None): "pending",
    (S.EXECUTING, None): "running",
    (S.ABORTING, None): "running",
    (S.PASSED, None): "success",
    (S.FAILED, None): "failed",
    (S.DEFECTIVE, None): "failed",
    (S.ABORTED, None): "failed",
    (S.SKIPPED, R.COMPLETED): "skipped",
    (S.SKIPPED, R.UNSATISFIABLE): "skipped",
    (S.SKIPPED, R.NOT_REACHED): "pending",
    (S.SKIPPED, R.NEEDS): "pending",
    (S.SKIPPED, None): "skipped",
}


def of_job(job: Job) -> str:
    """The word for a job."""
    held = job.held and job.state is S.PENDING
    return _word(JOB, job.state, _HELD if held else job.reason)


def of_group(group: JobGroup) -> str:
    """That of the newest of its jobs that has not succeeded, if there is one (3.8)."""
    words = [of_job(job) for job in group.jobs]
    return next((word for word in reversed(words) if word != JOB[S.PASSED, None]), JOB[S.PASSED, None])


def of_task(state: State, reason: str | None) -> str:
    """The word for what stands for a task."""
    return _word(TASK, state, reason)


def not_startable(job: Job) -> str:
    """What a job that cannot be started is, as the refusal says it (3.6)."""
    return "complete" if job.state.finished else of_job(job)


def _word(words: Words, state: State, reason: str | None) -> str:
    return words.get((state, reason)) or words[state, None]
