"""Of which trial a task and its job show the result (cider-ci, 5.6). Pure."""

from __future__ import annotations

from reconciler.model.job import Job, State, Task, Trial

_BEST = (State.PASSED, State.FAILED, State.ABORTED)


def best_of_task(task: Task) -> Trial | None:
    """Its best trial: one that passed before one that failed before one that was aborted, newest first."""
    for state in _BEST:
        for trial in reversed(task.trials):
            if trial.state is state:
                return trial
    return None


def best_of_job(job: Job) -> Trial | None:
    """Its task's, if it has exactly one."""
    return best_of_task(job.tasks[0]) if len(job.tasks) == 1 else None
