"""How a job goes on: which trials to make, which tasks are decided, when it ends (cider-ci 5.1–5.3, design 13.3, 13.4).

Pure: `decide(job, now)` gives moves. One pass of `job/NUMBER` carries them out in one transaction. `when`,
`ignore_failure`, `branches`, `retry_on` and `eager_trials` are those of own-kinds, "Build: the `tasks` form".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler.model.job import Job, Reason, State, Task, Trial
from specs.build_work import NOTHING_FAILED
from specs.globs import branch_matches

_LONGEST_DELAY = timedelta(hours=1)


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
    """Moves in order, trials to make, trials whose scripts must be ended; when to look again, and its time limit."""

    moves: tuple[Move, ...] = ()
    trials: tuple[NewTrial, ...] = ()
    stop: tuple[str, ...] = ()
    wake_at: datetime | None = None
    deadline: datetime | None = None


Verdict = tuple[State, str | None]


def decide(job: Job, now: datetime) -> JobDecision:
    """One look at one job."""
    if job.state.finished:
        return JobDecision()
    if job.state is State.ABORTING:
        return _abort(job)
    if job.specification.get("faults"):
        return JobDecision((Move("job", job.id, State.DEFECTIVE, Reason.CONFIGURATION),))
    if job.held:
        return JobDecision()
    limit = deadline(job)
    if limit is not None and limit <= now:
        return _overdue(job)
    moves: list[Move] = []
    trials: list[NewTrial] = []
    seen: dict[str, _Seen] = {}
    for task in job.tasks:
        found = _task(task, job, seen, now)
        seen[task.name] = found
        trials += [NewTrial(task.id, len(task.trials) + i + 1) for i in range(found.trials)]
        moves += _superfluous(task)
        if found.verdict != (task.state, task.reason):
            moves.append(Move("task", task.id, *found.verdict))
    state, reason = evaluate([found.counted for found in seen.values()], started=job.started_at is not None)
    if state.finished and any(trial.state is not State.PENDING for trial in _live(job)):
        state, reason = State.EXECUTING, None  # the rest of what ran side by side has yet to go
    if (state, reason) != (job.state, job.reason):
        moves.append(Move("job", job.id, state, reason))
    looks = [found.look_at for found in seen.values() if found.look_at]
    return JobDecision(
        tuple(moves),
        tuple(trials),
        _to_stop(job, moves),
        None if state.finished else min(looks, default=None),
        None if state.finished else limit,
    )


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
    """A task's state from its trials (cider-ci 5.2) once no more are to come; with `satisfy-last`, the newest one's.

    One that somebody asked for is waited for, whatever was before it.
    """
    trials = task.trials
    if any(trial.actor is not None and trial.state is State.PENDING for trial in trials):
        return State.PENDING, None
    if task.policy.get("aggregate") == "satisfy-last" and trials and trials[-1].state.finished:
        return trials[-1].state, trials[-1].reason
    states = [trial.state for trial in trials]
    if State.EXECUTING in states or State.DISPATCHING in states:
        return State.EXECUTING, None
    if State.PASSED in states:
        return State.PASSED, None
    if State.ABORTING in states:
        return State.EXECUTING, None
    if not trials or State.PENDING in states:
        return (State.EXECUTING if any(state.finished for state in states) else State.PENDING), None
    newest = trials[-1]
    if newest.state is State.ABORTED:
        return State.ABORTED, newest.reason
    failed = next((trial for trial in reversed(trials) if trial.state is State.FAILED), None)
    decider = failed or newest
    return (State.FAILED if failed else State.DEFECTIVE), decider.reason


def trials_wanted(task: Task) -> int:
    """How many more attempts are owed, now or after a delay (cider-ci 5.3).

    Those lost with their machine or process are counted apart (design 13.3).
    """
    policy, trials = task.policy, task.trials
    if any(trial.state is State.PASSED for trial in trials):
        return 0
    if trials and trials[-1].state is State.ABORTED:
        return 0
    lost = sum(trial.reason == Reason.LOST for trial in trials)
    if lost > int(policy.get("lost_retries", 2)):
        return 0
    if not all(_may_repeat(trial, policy) for trial in _judged(trials)):
        return 0
    unfinished = sum(not trial.state.finished for trial in trials)
    eager = int(policy.get("eager_trials") or 1)
    return max(0, min(eager - unfinished, int(policy.get("max_trials") or 1) - (len(trials) - lost)))


def retry_at(task: Task) -> datetime | None:
    """When a further attempt may be made: `retry_delay_seconds`, doubled each time up to an hour. None: no delay.

    Only what a script did is waited for; a lost process is replaced at once.
    """
    delay = float(task.policy.get("retry_delay_seconds") or 0)
    ends = [trial.finished_at for trial in _judged(task.trials) if trial.finished_at is not None]
    if not delay or not ends or not trials_wanted(task):
        return None
    doubled = delay * 2.0 ** min(len(ends) - 1, 32)
    return max(ends) + min(timedelta(seconds=min(doubled, 1e6)), _LONGEST_DELAY)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a task's dependants, and the job, make of it. `failed`: it, or what kept it from starting, failed."""

    verdict: Verdict
    counted: Verdict
    failed: bool
    trials: int = 0
    look_at: datetime | None = None

    @property
    def good(self) -> bool:
        """Those that need it may start."""
        return self.counted[0] is State.PASSED


def _task(task: Task, job: Job, seen: Mapping[str, _Seen], now: datetime) -> _Seen:
    needed = [seen[name] for name in task.policy.get("needs") or () if name in seen]
    if task.state.finished:
        return _ended(task, (task.state, task.reason), needed)
    if not _for_this_ref(task.policy, job):
        return _ended(task, (State.SKIPPED, Reason.OTHER_REF), needed)
    unmet = None if task.trials else _unmet(task.policy.get("when") or "passed", needed)
    if unmet is not None:
        return _ended(task, unmet, needed)
    wanted, later = trials_wanted(task), retry_at(task)
    state = State.EXECUTING if task.trials else State.PENDING
    if wanted and later is not None and later > now:
        return _Seen((state, None), (state, None), False, look_at=later)
    if wanted:
        return _Seen((state, None), (state, None), False, trials=wanted)
    return _ended(task, task_verdict(task), needed)


def _ended(task: Task, verdict: Verdict, needed: Sequence[_Seen]) -> _Seen:
    """`ignore_failure` counts a failure as passed, for the job and for those that need the task."""
    state, reason = verdict
    ignored = bool(task.policy.get("ignore_failure")) and state in (State.FAILED, State.DEFECTIVE)
    held_up = state is State.SKIPPED and reason == Reason.NEEDS and any(need.failed for need in needed)
    failed = state in (State.FAILED, State.DEFECTIVE, State.ABORTED) and not ignored
    return _Seen(verdict, (State.PASSED, None) if ignored else verdict, failed or held_up)


def _unmet(when: str, needed: Sequence[_Seen]) -> Verdict | None:
    """What keeps a task from starting: it waits (pending), or never starts (skipped); None: it starts."""
    if when == "passed" and any(need.verdict[0].finished and not need.good for need in needed):
        return State.SKIPPED, Reason.NEEDS
    if when == NOTHING_FAILED and any(need.failed for need in needed):
        return State.SKIPPED, Reason.NEEDS
    if not all(need.verdict[0].finished for need in needed):
        return State.PENDING, None
    if when == NOTHING_FAILED and needed and not any(need.good for need in needed):
        return State.SKIPPED, Reason.NEEDS
    if when == "failed" and not any(need.failed for need in needed):
        return State.SKIPPED, Reason.WHEN
    return None


def _for_this_ref(policy: Mapping[str, Any], job: Job) -> bool:
    """A task may be kept to branches and tags; with either list, what fits none of them is left out."""
    branches, tags = policy.get("branches") or (), policy.get("tags") or ()
    if not branches and not tags:
        return True
    branch, tag = job.checkout.branch, job.checkout.tag
    return (branch is not None and branch_matches(branches, branch)) or (
        tag is not None and branch_matches(tags, tag)
    )


def _judged(trials: Sequence[Trial]) -> list[Trial]:
    """Those that ended by what their script did."""
    return [trial for trial in trials if trial.state.finished and trial.reason != Reason.LOST]


def _may_repeat(trial: Trial, policy: Mapping[str, Any]) -> bool:
    """`retry_on`: which ends are followed by another attempt; all of them where it is not said."""
    wanted = policy.get("retry_on")
    if wanted is None or trial.state not in (State.FAILED, State.DEFECTIVE):
        return True
    kind = "timeout" if trial.reason == Reason.TIMEOUT else trial.state.value
    return kind in wanted


def _superfluous(task: Task) -> list[Move]:
    """One of several side by side has passed: the others are ended, but for those that somebody asked for."""
    if not any(trial.state is State.PASSED for trial in task.trials):
        return []
    ends = {State.PENDING: State.ABORTED, State.DISPATCHING: State.ABORTING, State.EXECUTING: State.ABORTING}
    return [
        Move("trial", trial.id, ends[trial.state], Reason.SUPERSEDED)
        for trial in task.trials
        if trial.state in ends and trial.actor is None
    ]


def _to_stop(job: Job, moves: Sequence[Move]) -> tuple[str, ...]:
    """Trials whose scripts must be ended, now or still."""
    ending = {move.id for move in moves if move.entity == "trial" and move.state is State.ABORTING}
    return tuple(trial.id for trial in _live(job) if trial.state is State.ABORTING or trial.id in ending)


def deadline(job: Job) -> datetime | None:
    """When a job's own time is up, counted from its first script; None: not begun, or no limit."""
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
