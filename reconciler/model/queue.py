"""What dispatching knows of jobs: unfinished ones with their live trials, and what a trial needs of a place.

Read by `reconciler.store.queue`, kept by `reconciler.controllers.dispatch`. Never holds a script or a variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

UNIT = 1_000_000


def units(load: float) -> int:
    """A load in millionths: sums of whole numbers are exact, whatever their order."""
    return max(1, round(load * UNIT))


@dataclass(frozen=True, slots=True)
class Need:
    """What a trial asks of a place. `load` in units; `images`: its own (None: the default one) and its services'.

    `delay`: seconds that must have passed since anything was given to the place. `daemon`: the place must be one.
    """

    load: int = UNIT
    traits: frozenset[str] = frozenset()
    images: tuple[str | None, ...] = (None,)
    url: str | None = None
    locks: frozenset[str] = frozenset()
    delay: float = 0.0
    daemon: bool = False


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """A trial that is not finished. `executor`: where it is since its claim, as KEY@WORKER; None: it waits."""

    id: str
    position: int
    priority: int
    need: Need
    executor: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """An unfinished job with its unfinished trials. `stopping`: it was asked to end, so nothing of it starts.

    `ref`: its branch, or `tag:NAME`.
    """

    number: int
    key: str
    ref: str | None
    priority: int
    beside: bool
    stopping: bool
    trials: tuple[QueuedTrial, ...]

    @property
    def lane(self) -> str:
        """Whose turn it takes: the project, or `~OWNER` of what has none."""
        return self.key.split("/", 2)[1]


@dataclass(frozen=True, slots=True)
class Changes:
    """Jobs by number as they were at a `version` of the store, None for those that have ended.

    All that changed after the version `since`; None: all that have not ended.
    """

    since: int | None
    version: int
    jobs: Mapping[int, QueuedJob | None]
