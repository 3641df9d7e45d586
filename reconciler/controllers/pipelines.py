"""What a pipeline's run does next, and when runs are owed (escape-state, 10, 11.2 to 11.5).

Pure: `decide(run, facts, now)` gives the run as it is to be stored, the steps that are due to start, what is to be
cancelled, and when to look again; `due(view, now)` gives the runs that schedules and finished executions ask for.
`reconciler.passes.pipelines` observes, `reconciler.apply.pipelines` stores. Starting a step is not done here: a step
stays `queued` until what it started is stored together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.controllers.due import is_astray, latest_due
from reconciler.model.execution import Type
from reconciler.model.job import Reason
from reconciler.model.pipeline import CONFIRMATION, Phase, Place, Run, Status, Step, followed, target
from reconciler.model.status import Health
from reconciler.model.timer import Timer
from specs.digest import digest
from specs.schedule import next_due

LONGEST_CHAIN = 10
FOLLOWS = -1
"""The position of the timer that says from which version of the store on the ends of executions count."""

_CALLS = "webhook-trigger"
_STARTS_OTHER = "pipeline-trigger"
TYPES: Mapping[str, Type] = {
    "deploy": Type.DEPLOY,
    "run-smoke": Type.SMOKE,
    "run-destroy": Type.DESTROY,
    "run-errand": Type.ERRAND,
}


@dataclass(frozen=True, slots=True)
class Work:
    """What became of an execution, or of another pipeline's run, that a step waits for."""

    status: Status
    reason: str = ""
    releases: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is looked at beside the run itself. `jobs` and `runs`: what its steps started, if it is still there.

    `first`: no earlier run is in the way; `replaced`: a newer one is there that takes the place of pending ones.
    """

    jobs: Mapping[int, Work] = field(default_factory=dict)
    runs: Mapping[str, Work] = field(default_factory=dict)
    first: bool = True
    replaced: bool = False
    disabled: bool = False
    declared: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The run as it is to be stored; steps that are due; executions and runs to cancel; when to look again."""

    run: Run
    starts: tuple[Place, ...] = ()
    cancel_jobs: tuple[int, ...] = ()
    cancel_runs: tuple[str, ...] = ()
    wake_at: datetime | None = None


def decide(run: Run, facts: Facts, now: datetime) -> Decision:
    """One look at one run."""
    if run.ended:
        return Decision(run)
    run = _each_step(run, lambda step: _observed(step, facts, now))
    run = replace(run, releases=_releases(run))
    ending = "" if _all_good(run) else _ending(run, facts, now)
    if ending:
        run = replace(run, ending=ending)
        run = _each_step(run, lambda step: _withdrawn(step, ending, now))
    elif run.started_at is None and facts.first and not facts.disabled:
        run = replace(run, started_at=now)
    starts: tuple[Place, ...] = ()
    if run.started_at is not None and not ending:
        run, starts = _next(run, now)
    run = _summed(run, now)
    jobs, runs = _to_cancel(run)
    return Decision(run, starts, jobs, runs, _wake_at(run, now))


def _each_step(run: Run, change: Callable[[Step], Step]) -> Run:
    phases = tuple(replace(phase, steps=tuple(map(change, phase.steps))) for phase in run.phases)
    return replace(run, phases=phases)


def ended(step: Step, status: Status, now: datetime, reason: str = "", message: str = "") -> Step:
    """A step that is final."""
    return replace(step, status=status, reason=reason, message=message, finished_at=step.finished_at or now)


def _observed(step: Step, facts: Facts, now: datetime) -> Step:
    """A step after what its work, or the clock, says."""
    if step.over or step.status is Status.QUEUED:
        return step
    late = (at := deadline(step)) is not None and at <= now
    if step.type == CONFIRMATION:
        return ended(step, Status.FAILED, now, Reason.CONFIRMATION_TIMEOUT) if late else step
    if step.type == _CALLS:
        return ended(step, Status.FAILED, now, Reason.TIMEOUT) if late else step
    work = facts.runs.get(step.run) if step.run else facts.jobs.get(step.job or 0)
    if work is None:
        return ended(step, Status.FAILED, now, Reason.WORKER_LOST, "what it waited for is not there any more")
    if not work.status.ended:
        return replace(step, status=work.status, timed_out=step.timed_out or late)
    reason = Reason.TIMEOUT if step.timed_out and work.status is Status.FAILED else work.reason
    releases = work.releases or step.releases
    return replace(ended(step, work.status, work.finished_at or now, reason, step.message), releases=releases)


def deadline(step: Step) -> datetime | None:
    """When the time of a step that has begun is up."""
    if step.confirmation is not None:
        return datetime.fromisoformat(step.confirmation["expires_at"])
    seconds = step.declared.get("timeout_seconds") or 0
    return step.started_at + timedelta(seconds=seconds) if seconds and step.started_at else None


def _releases(run: Run) -> tuple[str, ...]:
    """Those published in the run, in the order in which its steps told of them."""
    known = dict.fromkeys(run.releases)
    for _, step in run.steps():
        known |= dict.fromkeys(step.releases) if step.status.ended else {}
    return tuple(known)


def _all_good(run: Run) -> bool:
    return run.started_at is not None and all(phase.over and phase.good for phase in run.phases)


def _ending(run: Run, facts: Facts, now: datetime) -> str:
    """Why the run is being ended before its time; "" if it is not."""
    if run.ending:
        return run.ending
    if run.cancel_requested or (run.started_at is None and not facts.declared):
        return Reason.CANCELLED
    if facts.replaced and (run.started_at is None or _only_waits(run)):
        return Reason.SUPERSEDED
    return Reason.TIMEOUT if (at := run_deadline(run)) is not None and at <= now else ""


def _only_waits(run: Run) -> bool:
    """Is it for people alone to go on with it? (10.1)"""
    live = [step for _, step in run.steps() if step.status in (Status.PENDING, Status.RUNNING)]
    return bool(live) and all(step.waits_for_people for step in live)


def run_deadline(run: Run) -> datetime | None:
    """When the time of a run that has begun is up."""
    seconds = run.pipeline.get("timeout_seconds") or 0
    return run.started_at + timedelta(seconds=seconds) if seconds and run.started_at else None


def _withdrawn(step: Step, reason: str, now: datetime) -> Step:
    """What has not begun never will, and nobody is asked any more; executions are waited for."""
    waits = step.status is Status.QUEUED or step.waits_for_people
    if waits or (step.type == _CALLS and not step.over):
        return ended(step, Status.FAILED, now, reason)
    return step


def _next(run: Run, now: datetime) -> tuple[Run, tuple[Place, ...]]:
    """The phase that is reached: its queued steps are due, confirmations are asked for at once."""
    for at, phase in enumerate(run.phases):
        if phase.over and phase.good:
            continue
        if any(step.over and not step.good for step in phase.steps):
            return _without_the_rest(run, at, now), ()
        steps = tuple(
            _asked(step, now) if step.type == CONFIRMATION and step.status is Status.QUEUED else step
            for step in phase.steps
        )
        due = tuple((at, index) for index, step in enumerate(steps) if step.status is Status.QUEUED)
        return run.with_phase(at, replace(phase, steps=steps)), due
    return run, ()


def _asked(step: Step, now: datetime) -> Step:
    seconds = step.declared["timeout_seconds"]
    times = {"requested_at": now.isoformat(), "expires_at": (now + timedelta(seconds=seconds)).isoformat()}
    return replace(step, status=Status.PENDING, confirmation=times, started_at=now)


def _without_the_rest(run: Run, at: int, now: datetime) -> Run:
    """A phase has failed: what runs in it ends, nothing more begins, and nobody needs to be asked any more."""
    for number, phase in enumerate(run.phases[at:], at):
        steps = (
            replace(step, reason=Reason.NOT_RUN.value)
            if step.status is Status.QUEUED
            else ended(step, Status.FAILED, now, Reason.CANCELLED)
            if step.waits_for_people
            else step
            for step in phase.steps
        )
        run = run.with_phase(number, replace(phase, steps=tuple(steps)))
    return run


def _summed(run: Run, now: datetime) -> Run:
    """The states of phases and run, which follow from those of the steps (11.3, 10.1)."""
    reached = run.started_at is not None
    phases = []
    for phase in run.phases:
        status = _phase_status(phase, reached=reached, ending=bool(run.ending))
        phases.append(replace(phase, status=status))
        reached = reached and status is Status.OK
    run = replace(run, phases=tuple(phases))
    if run.started_at is not None and all(phase.status is Status.OK for phase in phases):
        return replace(run, status=Status.OK, ending="", finished_at=now)
    working = any(step.status in (Status.PENDING, Status.RUNNING) for _, step in run.steps())
    if not working and (run.ending or any(phase.status is Status.FAILED for phase in phases)):
        return replace(run, status=Status.FAILED, reason=run.ending or _first_failure(run), finished_at=now)
    runs = any(phase.status is Status.RUNNING for phase in phases)
    return replace(run, status=Status.RUNNING if runs else Status.PENDING)


def _phase_status(phase: Phase, *, reached: bool, ending: bool) -> Status:
    if any(step.status is Status.RUNNING for step in phase.steps):
        return Status.RUNNING
    if phase.over and phase.good and reached:
        return Status.OK
    if phase.over and (reached or ending) and not phase.good:
        return Status.FAILED
    return Status.PENDING if reached else Status.NEW


def _first_failure(run: Run) -> str:
    """Of the failed steps that are not ignored, why the first one failed; the first by time."""
    failed = [step for _, step in run.steps() if step.status is Status.FAILED and not step.good]
    first = min(failed, key=lambda step: step.finished_at or run.created_at, default=None)
    return "" if first is None else first.reason


def _to_cancel(run: Run) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """What a run that is being ended, or a step whose time is up, has started and waits for."""
    left = [step for _, step in run.steps() if not step.over and (run.ending or step.timed_out)]
    jobs = tuple(step.job for step in left if step.job is not None)
    return jobs, tuple(step.run for step in left if step.run is not None)


def _wake_at(run: Run, now: datetime) -> datetime | None:
    if run.ended:
        return None
    times = [deadline(step) for _, step in run.steps() if step.status in (Status.PENDING, Status.RUNNING)]
    return min((at for at in (*times, run_deadline(run)) if at is not None and at > now), default=None)


def chain_fault(run: Run, key: str, *, waits: bool) -> Reason | None:
    """Why a step of a run may not start another pipeline: it would wait for itself, or it goes on too long."""
    if waits and key in run.chain:
        return Reason.PIPELINE_CYCLE
    return Reason.CHAIN_TOO_LONG if len(run.chain) >= LONGEST_CHAIN else None


def adopted(
    phases: Sequence[Phase], project: str, key: str, job: tuple[int, str], work: Work
) -> tuple[Phase, ...]:
    """The phases in which every step that follows this KEY has its execution, as (number, id), already (10.3)."""
    number, execution = job

    def taken(step: Step) -> Step:
        if key not in followed(step.declared, project):
            return step
        own = replace(step, job=number, execution_id=execution, adopted=True, releases=work.releases)
        own = replace(own, started_at=work.started_at, finished_at=work.finished_at)
        return replace(own, status=Status.OK, reason=work.reason)

    return tuple(replace(phase, steps=tuple(map(taken, phase.steps))) for phase in phases)


@dataclass(frozen=True, slots=True)
class Owing:
    """What is looked at to learn which runs a pipeline is owed. `ends`: (version, number) of executions that it follows
    and that started no run of it yet, in order; `version`: that of the store at this look; `zone`: the time zone of
    schedules that name none.
    """

    key: str
    spec: Mapping[str, Any]
    timers: Mapping[int, Timer]
    ends: Sequence[tuple[int, int]]
    version: int
    zone: str


@dataclass(frozen=True, slots=True)
class Due:
    """Times to store, runs to make with theirs, and when the next schedule is due. A run is that of a schedule
    (`cause` None), or of an execution that has ended.
    """

    timers: tuple[Timer, ...] = ()
    runs: tuple[tuple[Timer, int | None], ...] = ()
    wake_at: datetime | None = None


def followed_keys(spec: Mapping[str, Any], project: str) -> tuple[str, ...]:
    """The KEYs whose executions start the pipeline."""
    steps = (step for phase in spec["phases"] for step in phase["steps"])
    return tuple(dict.fromkeys(key for step in steps for key in followed(step, project)))


def due(owing: Owing, now: datetime) -> Due:
    """Which runs are owed now, and which times are to be kept. A disabled pipeline forgets what it would have owed."""
    follows = followed_keys(owing.spec, owing.key.split("/", 2)[1])
    marks = [_of_schedule(owing, index, now) for index in range(len(owing.spec["schedules"]))]
    if owing.spec["disabled"]:
        known = [timer for timer in owing.timers.values() if timer.digest]
        return Due(timers=tuple(Timer(timer.position, "") for timer in known))
    timers = [timer for timer, fires in marks if not fires and timer != owing.timers.get(timer.position)]
    runs: list[tuple[Timer, int | None]] = [(timer, None) for timer, fires in marks if fires]
    mark = digest(sorted(follows))
    since = owing.timers.get(FOLLOWS)
    if follows and (since is None or since.digest != mark or since.since is None):
        timers.append(Timer(FOLLOWS, mark, since=owing.version + 1))
    elif follows:
        runs += [(Timer(FOLLOWS, mark, since=version), number) for version, number in owing.ends]
    coming = (timer.next_due for timer, _ in marks)
    return Due(tuple(timers), tuple(runs), min((at for at in coming if at is not None), default=None))


def schedule_of(spec: Mapping[str, Any], index: int, zone: str) -> dict[str, Any]:
    """A schedule with the zone that its times are in."""
    declared = spec["schedules"][index]
    return {**declared, "timezone": declared.get("timezone") or zone}


def _of_schedule(owing: Owing, index: int, now: datetime) -> tuple[Timer, bool]:
    """The timer of a schedule as it should be stored, and whether its time has come; missed times run once."""
    schedule = schedule_of(owing.spec, index, owing.zone)
    mark, stored = digest(schedule), owing.timers.get(index)
    if stored is None or stored.digest != mark or is_astray(schedule, stored, now, ""):
        return Timer(index, mark, None, next_due(schedule, now)), False
    if stored.next_due is None or stored.next_due > now:
        return stored, False
    return Timer(index, mark, *latest_due(schedule, stored.next_due, now, "")), True


def health(newest: Run | None) -> Health:
    """Of a pipeline: what its newest run came to (design 13.15)."""
    if newest is None or newest.reason in (Reason.CANCELLED, Reason.SUPERSEDED):
        return Health.UNKNOWN
    if not newest.ended:
        return Health.PROGRESSING
    return Health.HEALTHY if newest.status is Status.OK else Health.DEGRADED


def keeps(runs: Iterable[Run]) -> dict[str, Run]:
    """KEY of a Deployment → the unfinished run that says what becomes of it until it has ended (10.2).

    A destroy step has begun there, or a deploy step has chosen its version and is about to deploy it: what Git
    declares is no reason to start anything meanwhile.
    """
    return {key: run for run in runs if not run.ended for key in _kept(run)}


def _kept(run: Run) -> Iterator[str]:
    for _, step in run.steps():
        key = target(step.declared, run.project)
        destroyed = step.type == "run-destroy" and step.status is not Status.QUEUED and not step.carried_over
        if key is not None and (destroyed or (step.type == "deploy" and step.version and not step.over)):
            yield key
