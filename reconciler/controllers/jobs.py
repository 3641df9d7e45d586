"""How a job goes on: which trials to make, which tasks are decided, when it ends (cider-ci 5.1–5.3, design 13.3, 13.4).

Pure: `decide(job, now)` gives moves. One pass of `job/NUMBER` carries them out in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.model.job import Job, Reason, State, Task, Trial


@dataclass(frozen=True, slots=True)
class Move:
    """One state to set; `entity` is `job`, `task` or `trial`."""

    entity: str
    id: str
    state: State
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewTrial:
    """One more attempt at a task."""

    task: str
    number: int


@dataclass(frozen=True, slots=True)
class JobDecision:
    """Moves in order, trials to make, trials whose scripts must be ended, and when to look again."""

    moves: tuple[Move, ...] = ()
    trials: tuple[NewTrial, ...] = ()
    stop: tuple[str, ...] = ()
    wake_at: datetime | None = None


Verdict = tuple[State, str | None]


def decide(job: Job, now: datetime) -> JobDecision:
    """One look at one job."""
    if job.state.finished:
        return JobDecision()
    if job.state is State.ABORTING:
        return _abort(job)
    deadline = _deadline(job)
    if deadline is not None and deadline <= now:
        return _overdue(job)
    moves: list[Move] = []
    trials: list[NewTrial] = []
    states: dict[str, Verdict] = {}
    for task in job.tasks:
        verdict, wanted = _task(task, states)
        states[task.name] = verdict
        trials += [NewTrial(task.id, len(task.trials) + i + 1) for i in range(wanted)]
        if verdict != (task.state, task.reason):
            moves.append(Move("task", task.id, *verdict))
    state, reason = evaluate(list(states.values()), started=job.started_at is not None)
    if (state, reason) != (job.state, job.reason):
        moves.append(Move("job", job.id, state, reason))
    return JobDecision(tuple(moves), tuple(trials), (), None if state.finished else deadline)


def evaluate(tasks: Sequence[Verdict], *, started: bool) -> Verdict:
    """A job's state from its tasks (cider-ci 5.1); skipped ones are left out, a started job stays executing."""
    counted = [verdict for verdict in tasks if verdict[0] is not State.SKIPPED]
    states = {state for state, _ in counted}
    if states <= {State.PASSED}:
        return State.PASSED, None
    if State.EXECUTING in states or (started and State.PENDING in states):
        return State.EXECUTING, None
    if State.PENDING in states:
        return State.PENDING, None
    for state in (State.ABORTED, State.DEFECTIVE, State.FAILED):
        if state in states:
            return state, next(reason for found, reason in counted if found is state)
    return State.EXECUTING, None


def task_verdict(task: Task) -> Verdict:
    """A task's state from its trials (cider-ci 5.2, `satisfy-any`) once no more are to come."""
    trials = task.trials
    states = [trial.state for trial in trials]
    if any(state in (State.EXECUTING, State.DISPATCHING, State.ABORTING) for state in states):
        return State.EXECUTING, None
    if State.PASSED in states:
        return State.PASSED, None
    if not trials or State.PENDING in states:
        return (State.EXECUTING if any(state.finished for state in states) else State.PENDING), None
    newest = trials[-1]
    if newest.state is State.ABORTED:
        return State.ABORTED, newest.reason
    failed = next((trial for trial in reversed(trials) if trial.state is State.FAILED), None)
    decider = failed or newest
    return (State.FAILED if failed else State.DEFECTIVE), decider.reason


def trials_wanted(task: Task) -> int:
    """How many more attempts are owed now (cider-ci 5.3; lost ones are counted apart, design 13.3)."""
    policy, trials = task.policy, task.trials
    if any(trial.state is State.PASSED or not trial.state.finished for trial in trials):
        return 0
    if trials and trials[-1].state is State.ABORTED:
        return 0
    lost = sum(trial.reason == Reason.LOST for trial in trials)
    if trials and trials[-1].reason == Reason.LOST:
        return 1 if lost <= int(policy.get("lost_retries", 2)) else 0
    return 1 if len(trials) - lost < int(policy.get("max_trials", 1)) else 0


def _task(task: Task, states: Mapping[str, Verdict]) -> tuple[Verdict, int]:
    if task.state.finished:
        return (task.state, task.reason), 0
    needed = [states[name][0] for name in task.policy.get("needs") or () if name in states]
    if any(state.finished and state is not State.PASSED for state in needed):
        return (State.SKIPPED, Reason.NEEDS), 0
    if not all(state is State.PASSED for state in needed):
        return (State.PENDING, None), 0
    wanted = trials_wanted(task)
    if wanted:
        return (State.EXECUTING if task.trials else State.PENDING, None), wanted
    return task_verdict(task), 0


def _deadline(job: Job) -> datetime | None:
    seconds = job.specification.get("timeout_seconds")
    if job.started_at is None or seconds is None:
        return None
    return job.started_at + timedelta(seconds=float(seconds))


def _live(job: Job) -> list[Trial]:
    return [trial for task in job.tasks for trial in task.trials if not trial.state.finished]


def _abort(job: Job) -> JobDecision:
    """Cancelled: nothing starts any more; what runs is ended; the job ends when all has."""
    moves = [
        Move("trial", trial.id, State.ABORTED, job.reason)
        for trial in _live(job)
        if trial.state is State.PENDING
    ]
    at_work = [trial for trial in _live(job) if trial.state is not State.PENDING]
    moves += [
        Move("trial", t.id, State.ABORTING, job.reason) for t in at_work if t.state is not State.ABORTING
    ]
    busy = {trial.task for trial in at_work}
    ends: list[Verdict] = []
    for task in job.tasks:
        verdict = _aborted_task(task, busy, job.reason)
        ends.append(verdict)
        if verdict != (task.state, task.reason):
            moves.append(Move("task", task.id, *verdict))
    if not busy:
        counted = [state for state, _ in ends if state is not State.SKIPPED]
        passed = bool(counted) and all(state is State.PASSED for state in counted)
        state = State.PASSED if passed else _aborted_state(job)
        moves.append(Move("job", job.id, state, None if passed else job.reason))
    return JobDecision(tuple(moves), (), tuple(trial.id for trial in at_work))


def _aborted_state(job: Job) -> State:
    """A job that ran out of time could not be judged: defective; a cancelled one is aborted."""
    return State.DEFECTIVE if job.reason == Reason.TIMEOUT else State.ABORTED


def _aborted_task(task: Task, busy: set[str], reason: str | None) -> Verdict:
    if task.state.finished:
        return task.state, task.reason
    if task.id in busy:
        return State.ABORTING, reason
    if any(trial.state is State.PASSED for trial in task.trials):
        return State.PASSED, None
    return State.ABORTED, reason


def _overdue(job: Job) -> JobDecision:
    """The job's own time limit: as a cancel, with its own reason; the next pass ends what runs."""
    return JobDecision((Move("job", job.id, State.ABORTING, Reason.TIMEOUT),), wake_at=None)
