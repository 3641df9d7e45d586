"""Which pending trial goes to which executor (design 7.5, cider-ci 5.7): traits, load, concurrency, fairness.

Pure: `decide(queue, executors, load)` gives assignments and, for every trial that waits, its cause. The causes are
what `why` prints.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specs.globs import any_url_match


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending trial with what its choice depends on. `url`: repository of its job, if any."""

    trial: str
    job: int
    project: str
    position: int
    traits: frozenset[str]
    load: float
    url: str | None
    behind: int | None = None  # an older job of the same Build and branch that must end first


@dataclass(frozen=True, slots=True)
class Place:
    """An executor: what it offers, and what runs there."""

    key: str
    traits: frozenset[str]
    max_load: float
    accepted_repositories: tuple[str, ...]
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """This trial, to that executor."""

    trial: str
    executor: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a trial waits."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DispatchDecision:
    """Trials to start now, and the causes of those that wait."""

    assignments: tuple[Assignment, ...]
    waits: Mapping[str, Cause]


def decide(
    queue: Sequence[Waiting], places: Iterable[Place], running: Mapping[str, float]
) -> DispatchDecision:
    """`running`: load at work by project, for fairness: the project with the least goes first, then the older job."""
    load = {place.key: place.busy for place in places}
    by_key = {place.key: place for place in places}
    shares = dict(running)
    lanes: dict[str, list[Waiting]] = {}
    for item in sorted(queue, key=lambda waiting: (waiting.job, waiting.position), reverse=True):
        lanes.setdefault(item.project, []).append(item)
    heap = [(shares.get(project, 0.0), lane[-1].job, project) for project, lane in lanes.items()]
    heapq.heapify(heap)
    chosen: list[Assignment] = []
    waits: dict[str, Cause] = {}
    while heap:
        _, _, project = heapq.heappop(heap)
        item = lanes[project].pop()
        place, cause = _place(item, by_key, load)
        if place is not None:
            load[place.key] += item.load
            shares[project] = shares.get(project, 0.0) + item.load
            chosen.append(Assignment(item.trial, place.key))
        elif cause is not None:
            waits[item.trial] = cause
        if lanes[project]:
            heapq.heappush(heap, (shares.get(project, 0.0), lanes[project][-1].job, project))
    return DispatchDecision(tuple(chosen), waits)


def _place(
    item: Waiting, places: Mapping[str, Place], load: Mapping[str, float]
) -> tuple[Place | None, Cause | None]:
    if item.behind is not None:
        return None, Cause(
            "Concurrency", f"waits for job {item.behind} of the same build and branch to finish"
        )
    skilled = [place for place in places.values() if item.traits <= place.traits]
    if not skilled:
        missing = ", ".join(sorted(item.traits)) or "none asked for"
        return None, Cause("NoExecutor", f"no executor has the traits {missing}")
    accepting = [place for place in skilled if _accepts(place, item.url)]
    if not accepting:
        return None, Cause("NoExecutor", f"no executor with these traits accepts the repository {item.url}")
    fitting = [place for place in accepting if item.load <= place.max_load]
    if not fitting:
        most = max(place.max_load for place in accepting)
        return None, Cause(
            "NoExecutor", f"its load {item.load:g} is above the max_load {most:g} of every executor"
        )
    free = [place for place in fitting if load[place.key] + item.load <= place.max_load + 1e-9]
    if not free:
        names = ", ".join(place.key for place in fitting)
        return None, Cause("Busy", f"{names}: all {fitting[0].max_load:g} of max_load in use")
    return min(free, key=lambda place: (load[place.key] / place.max_load, place.key)), None


def _accepts(place: Place, url: str | None) -> bool:
    return url is None or not place.accepted_repositories or any_url_match(place.accepted_repositories, url)
