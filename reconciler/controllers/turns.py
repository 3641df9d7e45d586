"""One decision of dispatch: who takes the room that is left, in which order (design 7.5, 13.22, cider-ci 5.7).

Pure; called by `reconciler.controllers.dispatch`, which keeps the queue from one decision to the next. Lanes take
turns, the one with the least load at work first; within a lane the rank decides.

A trial with a large load or several locks would wait for ever where small ones take every bit that becomes free.
So a trial that was passed over too often is *owed* its turn: what becomes free is kept for it. Its locks go to nobody
else; once they are all free, so does its load on one place, the one that has most room. At most one trial keeps room
on a place, so the others wait for their turn to be owed one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from reconciler.controllers.places import Place
from reconciler.model.queue import Need

Rank = tuple[int, int, int, int, str]
"""Ascending: job priority (negated), job number, task priority (negated), position, trial id."""

Lines = Mapping[Need, list[Rank]]
"""The waiting trials of one lane: those that need the same are in one line, in order."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """This trial of this job, to that executor; `ready`: nothing has to be fetched for it first."""

    trial: str
    job: int
    executor: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Owed:
    """A waiting trial that was passed over too often."""

    trial: str
    job: int
    lane: str
    need: Need


@dataclass(frozen=True, slots=True)
class _Blocked:
    """The first of a line that could not start. `scarce`: places or locks it lacks; `before`: starts there so far."""

    trial: str
    scarce: tuple[str, ...]
    before: int


@dataclass(slots=True)
class Round:
    """What is free, and what has been given away so far.

    `kept`: place → the job that its room is kept for; `kept_locks`: likewise. `starts` counts by place and by lock.
    `idle`: seconds since anything was given to a place, where anything was.
    """

    fits: Callable[[Need], tuple[Place, ...]]
    room: dict[str, int]
    shares: dict[str, int]
    locks: set[str]
    idle: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    kept_locks: dict[str, int] = field(default_factory=dict)
    chosen: list[Assignment] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    least: int = 1
    open: int = 0

    def count_open(self, least: int) -> None:
        """Count the places with room for the least load that waits: without one there is nothing to look for."""
        self.least = least
        self.open = sum(room >= least for room in self.room.values())

    def place_for(self, need: Need, fits: tuple[Place, ...]) -> str | None:
        """The least busy of the places that fit where it could start now."""
        if need.locks and not self.locks.isdisjoint(need.locks):
            return None
        load, room = need.load, self.room
        best, most = None, -1.0
        for place in fits:
            left = room.get(place.key, 0)
            if need.delay and self.left(need, place.key):
                continue
            if left >= load and left / place.max_load > most:
                best, most = place.key, left / place.max_load
        return best

    def left(self, need: Need, place: str) -> float:
        """Seconds until the place has been left alone for as long as is asked for; 0: it has."""
        return max(0.0, need.delay - self.idle.get(place, inf))

    def start(self, assignment: Assignment, lane: str, need: Need) -> None:
        """Give a trial its load and its locks."""
        self._take(assignment.executor, need.load)
        self.idle[assignment.executor] = 0.0
        self.shares[lane] = self.shares.get(lane, 0) + need.load
        self.starts[assignment.executor] += 1
        if need.locks:
            self.locks |= need.locks
            self.starts.update(_lock(name) for name in need.locks)
        self.chosen.append(assignment)

    def keep(self, item: Owed) -> None:
        """Keep its locks, and room for it once they are all free, from everybody else.

        A place with room that must be left alone for a while first gets nothing else until then.
        """
        need = item.need
        if self.locks.isdisjoint(need.locks):
            places = [p.key for p in self.fits(need) if p.key in self.room and p.key not in self.kept]
            best = max(places, key=lambda key: self._suits(need, key), default=None)
            if best is not None:
                self._take(best, max(self.room[best], need.load) if self.left(need, best) else need.load)
                self.kept[best] = item.job
        for lock in item.need.locks - self.locks:
            self.kept_locks[lock] = item.job
        self.locks |= item.need.locks

    def _suits(self, need: Need, place: str) -> tuple[int, float, int]:
        """How soon it may be there: enough room counts first, then how long it was left alone."""
        return min(self.room[place], need.load), -self.left(need, place), self.room[place]

    def scarce(self, need: Need, fits: tuple[Place, ...]) -> tuple[str, ...]:
        """What it lacks: its locks where one of them is held, else the places."""
        if fits and not self.locks.isdisjoint(need.locks):
            return tuple(_lock(name) for name in need.locks)
        return tuple(place.key for place in fits)

    def _take(self, place: str, load: int) -> None:
        before = self.room[place]
        self.room[place] = before - load
        self.open -= before >= self.least > before - load


def _lock(name: str) -> str:
    """A lock's name among those of places, which begin with `Executor/`."""
    return f"lock {name}"


def serve_owed(current: Round, owed: Iterable[Owed]) -> None:
    """Those that are owed their turn start first; where they cannot, what they need is kept."""
    for item in owed:
        place = current.place_for(item.need, current.fits(item.need))
        if place is not None:
            current.start(
                Assignment(item.trial, item.job, place, item.need.url is None), item.lane, item.need
            )
        else:
            current.keep(item)


def take_turns(current: Round, lanes: Mapping[str, Lines]) -> Counter[str]:
    """Start trials while there is room; gives how often each that could not was passed over by others."""
    started = {item.trial for item in current.chosen}
    current.count_open(min((need.load for lines in lanes.values() for need in lines), default=1))
    if not current.open:
        return Counter()
    blocked: list[_Blocked] = []
    heap = [
        (current.shares.get(lane, 0), min(ranks[0] for ranks in lines.values()), lane)
        for lane, lines in lanes.items()
    ]
    heapq.heapify(heap)
    turns: dict[str, _Turn] = {}
    while heap and current.open > 0:
        lane = heap[0][2]
        turn = turns.get(lane)
        if turn is None:
            turn = turns[lane] = _Turn(lane, lanes[lane], started, current.fits)
        if turn.start_next(current, blocked):
            heapq.heapreplace(heap, (current.shares[lane], turn.head, lane))
        else:
            heapq.heappop(heap)
    passed: Counter[str] = Counter()
    for item in blocked:
        times = _starts(current, item.scarce) - item.before
        if times:
            passed[item.trial] = times
    return passed


def _starts(current: Round, scarce: tuple[str, ...]) -> int:
    return sum(current.starts[name] for name in scarce)


_LAST: Rank = (1 << 62, 0, 0, 0, "")


class _Turn:
    """One lane within one decision: the heads of its lines in order of rank, with where each could run."""

    def __init__(
        self, lane: str, lines: Lines, started: set[str], fits: Callable[[Need], tuple[Place, ...]]
    ) -> None:
        self._lane = lane
        self._started = started
        self._heads = [(ranks[0], 0, need, ranks, fits(need)) for need, ranks in lines.items()]
        heapq.heapify(self._heads)

    @property
    def head(self) -> Rank:
        """The rank of what would come next."""
        return self._heads[0][0] if self._heads else _LAST

    def start_next(self, current: Round, blocked: list[_Blocked]) -> bool:
        """Start the first that can; a line whose first cannot is left out of this decision. False: none can."""
        while self._heads:
            rank, _, need, _, fits = self._heads[0]
            trial = rank[-1]
            if trial in self._started:
                self._advance()
                continue
            place = current.place_for(need, fits)
            if place is not None:
                current.start(Assignment(trial, rank[1], place, need.url is None), self._lane, need)
                self._advance()
                return True
            scarce = current.scarce(need, fits)
            if scarce:
                blocked.append(_Blocked(trial, scarce, _starts(current, scarce)))
            heapq.heappop(self._heads)
        return False

    def _advance(self) -> None:
        _, at, need, ranks, fits = self._heads[0]
        if at + 1 < len(ranks):
            heapq.heapreplace(self._heads, (ranks[at + 1], at + 1, need, ranks, fits))
        else:
            heapq.heappop(self._heads)
