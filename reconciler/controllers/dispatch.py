"""The queue of dispatch: all unfinished jobs in memory, and which trial goes to which executor (design 7.5).

`passes.dispatch` tells it what changed since it looked last and asks it to decide; `queries` ask it why something
waits. Pure: no clock, no store. Deciding changes nothing but how often a trial was passed over, so what could not be
claimed is offered again. What cannot start costs nothing: of a Build whose jobs wait for each other only the oldest
is offered, and of those that need the same only the first is looked at.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import inf

from reconciler.controllers.places import Cause, Place, fitting, unfit
from reconciler.controllers.turns import Assignment, Owed, Rank, Round, serve_owed, take_turns
from reconciler.model.queue import UNIT, Changes, Need, QueuedJob, QueuedTrial

# A trial that so many others were started in place of is owed its turn.
PATIENCE = 10

__all__ = ["PATIENCE", "Assignment", "Cause", "Place", "Queue"]


class Queue:
    """Unfinished jobs by number. `jobs` is what was told; all else follows from it, but for who was passed over.

    `version`: of the store, up to which all changes were told; None: everything is to be told. `forget` asks for that.
    `dispatched`: when each executor was given something last; None: that was never read.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, QueuedJob] = {}
        self.version: int | None = None
        self.forgotten = 0
        self.dispatched: dict[str, datetime] | None = None
        self.later: float | None = None
        self._groups: dict[tuple[str, str | None], list[int]] = {}
        self._lanes: dict[str, dict[Need, list[Rank]]] = {}
        self._offered: set[int] = set()
        self._waiting: dict[str, tuple[QueuedJob, Need]] = {}
        self._released: set[str] = set()
        self._load: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self._holders: dict[str, dict[str, int]] = {}
        self._passed: dict[str, int] = {}
        self._owed: dict[str, None] = {}
        self._places: tuple[Place, ...] = ()
        self._fits: dict[Need, tuple[Place, ...]] = {}
        self._idle: dict[str, float] = {}

    def update(self, number: int, job: QueuedJob | None) -> None:
        """A job as it is now; None: it has finished, or is no more."""
        old = self.jobs.get(number)
        if old == job:
            return
        if old is not None:
            self._remove(old)
        if job is not None:
            self._add(job)
        self._forget_passed(old, job)

    def forget(self) -> None:
        """Something may be gone without a trace: everything is to be told again, also by who is reading now."""
        self.version = None
        self.forgotten += 1

    def take(self, changes: Changes) -> None:
        """What was read. Readers overtake each other: what is older than what was told is not taken."""
        if changes.since is None:
            for number in self.jobs.keys() - changes.jobs.keys():
                self.update(number, None)
        elif self.version is None or not changes.since <= self.version < changes.version:
            return
        for number, job in changes.jobs.items():
            self.update(number, job)
        self.version = changes.version

    def release(self, number: int, trial: str) -> None:
        """Nothing of it runs any more: its load is free before its end is stored; its locks are not."""
        job = self.jobs.get(number)
        for found in job.trials if job else ():
            if found.id == trial and found.executor is not None and trial not in self._released:
                self._weigh(self.jobs[number], found, found.executor, -1)
                self._released.add(trial)

    def decide(self, places: Iterable[Place]) -> tuple[Assignment, ...]:
        """The trials to start now; `later`: seconds until something else may, as a place was left alone long enough."""
        self._look_at(places)
        current = self._round(self._owed)
        for trial, times in take_turns(current, self._lanes).items():
            self._passed[trial] = self._passed.get(trial, 0) + times
            if self._passed[trial] >= PATIENCE:
                self._owed[trial] = None
        self.later = self._until(current)
        return tuple(current.chosen)

    def given(self, executors: Iterable[str], now: datetime) -> None:
        """These were given something."""
        if self.dispatched is None:
            self.dispatched = {}
        self.dispatched.update(dict.fromkeys(executors, now))

    def idle(self, executor: str, now: datetime) -> float:
        """Seconds since it was given anything; a clock that was set back counts from now."""
        at = (self.dispatched or {}).get(executor)
        if at is not None and at > now:
            self.given([executor], now)
        return inf if at is None else max(0.0, (now - at).total_seconds())

    def load(self, executor: str) -> float:
        """How much of its `max_load` is taken now."""
        return self._load.get(executor, 0) / UNIT

    def waiting(self) -> list[tuple[QueuedJob, QueuedTrial]]:
        """Trials that were not given to an executor, of the oldest jobs first."""
        return [
            (job, trial)
            for _, job in sorted(self.jobs.items())
            for trial in job.trials
            if trial.executor is None
        ]

    def cause(self, trial: str, places: Iterable[Place]) -> Cause | None:
        """Why a trial waits; None if it does not."""
        found = self._waiting.get(trial)
        if found is None or found[0].stopping:
            return None
        job, need = found
        oldest = self._groups[job.key, job.ref][0]
        if job.number not in self._offered:
            return Cause("Concurrency", f"job {oldest} of the same build and branch has not ended")
        self._look_at(places)
        fits = self._fitting(need)
        if not fits:
            return unfit(need, self._places)
        current = self._round([other for other in self._owed if other != trial])
        return self._locked(current, need) or _no_room(current, need, fits) or self._turn(job)

    def _look_at(self, places: Iterable[Place]) -> None:
        seen = tuple(sorted(places, key=lambda place: place.key))
        if seen != self._places:
            self._places = seen
            self._fits = {}
        self._idle = {place.key: place.idle for place in seen if place.idle < inf}

    def _until(self, current: Round) -> float | None:
        """Seconds until a place has been left alone for as long as something that waits asks for."""
        started = {item.trial for item in current.chosen}
        needs = {
            need
            for lines in self._lanes.values()
            for need, ranks in lines.items()
            if need.delay and any(rank[-1] not in started for rank in ranks)
        }
        left = [current.left(need, place.key) for need in needs for place in self._fitting(need)]
        return min((seconds for seconds in left if seconds), default=None)

    def _fitting(self, need: Need) -> tuple[Place, ...]:
        found = self._fits.get(need)
        if found is None:
            found = self._fits[need] = fitting(need, self._places)
        return found

    def _round(self, owed: Iterable[str]) -> Round:
        """What is free now, after those that are owed their turn."""
        current = Round(
            fits=self._fitting,
            room={
                place.key: place.max_load - self._load.get(place.key, 0)
                for place in self._places
                if place.closed is None
            },
            shares=dict(self._shares),
            locks=set(self._holders),
            idle=dict(self._idle),
        )
        offered = ((trial, *self._waiting[trial]) for trial in owed)
        serve_owed(
            current,
            [
                Owed(trial, job.number, job.lane, need)
                for trial, job, need in offered
                if job.number in self._offered
            ],
        )
        return current

    def _locked(self, current: Round, need: Need) -> Cause | None:
        for lock in sorted(need.locks):
            if lock in self._holders:
                return Cause("Locked", f"lock {lock} held by job {min(self._holders[lock].values())}")
            if lock in current.kept_locks:
                return Cause(
                    "Locked", f"lock {lock} kept for job {current.kept_locks[lock]}, which waits longer"
                )
            if lock in current.locks:
                return Cause("Locked", f"lock {lock} goes to another job now")
        return None

    def _turn(self, job: QueuedJob) -> Cause:
        load = self._shares.get(job.lane, 0) / UNIT
        return Cause("Turn", f"there is room; others come first ({job.lane} has a load of {load:g} at work)")

    def _add(self, job: QueuedJob) -> None:
        self.jobs[job.number] = job
        for trial in job.trials:
            if trial.executor is None:
                self._waiting[trial.id] = (job, trial.need)
            else:
                self._at_work(job, trial, trial.executor, 1)
        group = self._groups.setdefault((job.key, job.ref), [])
        first = group[0] if group else None
        insort(group, job.number)
        self._offer(job)
        if first is not None and first > job.number:
            self._withdraw(self.jobs[first])
            self._offer(self.jobs[first])

    def _remove(self, job: QueuedJob) -> None:
        self._withdraw(job)
        del self.jobs[job.number]
        for trial in job.trials:
            if trial.executor is None:
                del self._waiting[trial.id]
            else:
                self._at_work(job, trial, trial.executor, -1)
        group = self._groups[job.key, job.ref]
        first = group[0] == job.number
        del group[bisect_left(group, job.number)]
        if not group:
            del self._groups[job.key, job.ref]
        elif first:
            self._offer(self.jobs[group[0]])

    def _at_work(self, job: QueuedJob, trial: QueuedTrial, executor: str, sign: int) -> None:
        if trial.id not in self._released:
            self._weigh(job, trial, executor, sign)
        for lock in trial.need.locks:
            holders = self._holders.setdefault(lock, {})
            if sign > 0:
                holders[trial.id] = job.number
            else:
                del holders[trial.id]
            if not holders:
                del self._holders[lock]

    def _weigh(self, job: QueuedJob, trial: QueuedTrial, executor: str, sign: int) -> None:
        _count(self._load, executor, sign * trial.need.load)
        _count(self._shares, job.lane, sign * trial.need.load)

    def _offer(self, job: QueuedJob) -> None:
        """Put its waiting trials into their lines, if it may start beside the jobs before it."""
        first = self._groups[job.key, job.ref][0]
        if job.number in self._offered or job.stopping or not (job.beside or first == job.number):
            return
        self._offered.add(job.number)
        for trial in job.trials:
            if trial.executor is None:
                insort(self._lanes.setdefault(job.lane, {}).setdefault(trial.need, []), _rank(job, trial))

    def _withdraw(self, job: QueuedJob) -> None:
        """Take its trials out of their lines."""
        if job.number not in self._offered:
            return
        self._offered.remove(job.number)
        for trial in job.trials:
            if trial.executor is None:
                lines = self._lanes[job.lane]
                line = lines[trial.need]
                del line[bisect_left(line, _rank(job, trial))]
                if not line:
                    del lines[trial.need]
                if not lines:
                    del self._lanes[job.lane]

    def _forget_passed(self, old: QueuedJob | None, new: QueuedJob | None) -> None:
        """What no longer waits is owed nothing."""
        left = {trial.id for trial in new.trials} if new else frozenset()
        for trial in old.trials if old else ():
            if trial.id not in left:
                self._released.discard(trial.id)
            if trial.id not in self._waiting:
                self._passed.pop(trial.id, None)
                self._owed.pop(trial.id, None)


def _rank(job: QueuedJob, trial: QueuedTrial) -> Rank:
    return (-job.priority, job.number, -trial.priority, trial.position, trial.id)


def _count(sums: dict[str, int], name: str, change: int) -> None:
    """Add to a sum; what is nothing again is left out."""
    total = sums.get(name, 0) + change
    if total:
        sums[name] = total
    else:
        sums.pop(name, None)


def _no_room(current: Round, need: Need, fits: Sequence[Place]) -> Cause | None:
    """Why no place that fits takes it now: closed, full, or kept for another."""
    able = [place for place in fits if place.closed is None]
    if not able:
        told = dict.fromkeys(f"{place.shown}: {place.closed[1]}" for place in fits if place.closed)
        return Cause("Closed", "; ".join(told))
    roomy = [place for place in able if current.room[place.key] >= need.load]
    if roomy and all(current.left(need, place.key) for place in roomy):
        return Cause("Delay", f"{_names(roomy)}: {need.delay:g} s are to pass after each start there")
    if roomy:
        return None
    kept = next((current.kept[place.key] for place in able if place.key in current.kept), None)
    most = able[0].max_load / UNIT
    if kept is not None:
        return Cause("Busy", f"{_names(able)}: room is kept for job {kept}, which waits longer")
    return Cause("Busy", f"{_names(able)}: too little of {most:g} max_load is free")


def _names(places: Sequence[Place]) -> str:
    return ", ".join(place.shown for place in places)
