"""Which executors could run a trial at all, and in words why none could (cider-ci 5.7).

Pure; called by `reconciler.controllers.dispatch`. Knows nothing of what is at work there now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

from reconciler.model.queue import UNIT, Need
from specs.executor import resolve_image
from specs.globs import any_url_match


@dataclass(frozen=True)
class Place:
    """An executor by its specification in force, on one worker that serves it: `key` is KEY@WORKER.

    `closed`: why nothing may start there now, (reason, message). `idle`: seconds since it was given anything; it says
    nothing of which trials fit. `name`: of the worker, for people, where there are others; `most`: the greatest load
    there, where it is another than the executor's; `daemon`: is it one, which runs of releases need?
    """

    key: str
    spec: Mapping[str, Any]
    closed: tuple[str, str] | None = None
    idle: float = field(default=inf, compare=False)
    name: str = ""
    most: float | None = None
    daemon: bool = True

    @property
    def executor(self) -> str:
        """The KEY of the executor."""
        return self.key.partition("@")[0]

    @property
    def worker(self) -> str:
        """The id of the worker."""
        return self.key.partition("@")[2]

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.executor} on {self.name}" if self.name else self.executor

    @cached_property
    def traits(self) -> frozenset[str]:
        """What it offers."""
        return frozenset(self.spec.get("traits") or ())

    @cached_property
    def max_load(self) -> int:
        """The most load at a time, in units."""
        return int(float(self.most or self.spec.get("max_load") or 1) * UNIT + 0.5)

    def accepts(self, url: str | None) -> bool:
        """Does it run scripts of this repository? One that names what it accepts runs nothing of unknown origin."""
        patterns: Sequence[str] = self.spec.get("accepted_repositories") or ()
        return not patterns or (url is not None and any_url_match(patterns, url))

    def lacks(self, images: Iterable[str | None]) -> list[str]:
        """Those of the images that it does not have."""
        return [name or "the default one" for name in images if resolve_image(self.spec, name) is None]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a trial waits."""

    reason: str
    message: str


def fitting(need: Need, places: Iterable[Place]) -> tuple[Place, ...]:
    """The places that could run it if nothing else did."""
    return tuple(
        place
        for place in places
        if need.traits <= place.traits
        and (place.daemon or not need.daemon)
        and need.load <= place.max_load
        and place.accepts(need.url)
        and not place.lacks(need.images)
    )


def unfit(need: Need, places: Sequence[Place]) -> Cause:
    """Why no place could run it: the first thing that rules out all that were left."""
    left = [place for place in places if need.traits <= place.traits]
    if not left:
        missing = ", ".join(sorted(need.traits)) or "none asked for"
        return Cause("NoExecutor", f"no executor has the traits {missing}")
    if need.daemon and not any(place.daemon for place in left):
        names = ", ".join(sorted({place.executor for place in left}))
        return Cause("NoDaemon", f"runs of releases need a daemon, and only workers serve {names}")
    accepting = [place for place in left if place.accepts(need.url) and (place.daemon or not need.daemon)]
    if not accepting:
        what = f"the repository {need.url}" if need.url else "scripts without a repository"
        return Cause("NoExecutor", f"no executor with these traits accepts {what}")
    equipped = [place for place in accepting if not place.lacks(need.images)]
    if not equipped:
        images = ", ".join(accepting[0].lacks(need.images))
        return Cause("NoExecutor", f"no executor that could run it has the image {images}")
    most = max(place.max_load for place in equipped) / UNIT
    load = need.load / UNIT
    return Cause("NoExecutor", f"its load {load:g} is above the max_load {most:g} of every executor")
