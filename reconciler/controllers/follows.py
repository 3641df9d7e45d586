"""Builds that start after others (own-kinds, trigger `build`): who follows whom, and who is still awaited.

Pure; called by `passes.builds`, `passes.jobs`, `controllers.builds` and `queries.why`. A pass counts once for each
trigger: its job is newer than the one of the last such start, and it ended after the moment that the trigger's timer
holds, which is when the trigger was first seen, then the earliest of the passes that the last start came after.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from reconciler.model.follow import Follow, Pass
from reconciler.model.resource import Resource
from reconciler.model.timer import Timer
from specs.digest import digest
from specs.meta import Key
from specs.triggers import followed, followed_keys

_TICK = timedelta(microseconds=1)


def index(resources: Mapping[str, Resource]) -> dict[str, tuple[str, ...]]:
    """KEY → the Builds that may start after it."""
    found: dict[str, dict[str, None]] = {}
    for key, resource in resources.items():
        if resource.kind == "Build" and resource.spec is not None:
            for _, meant in followed(resource.spec, _key(resource)):
                for leader in meant:
                    found.setdefault(leader, {})[key] = None
    return {leader: tuple(followers) for leader, followers in found.items()}


def leaders(
    resource: Resource, trigger: Mapping[str, Any], resources: Mapping[str, Resource]
) -> tuple[str, ...]:
    """The KEYs that a `build` trigger names: in the same environment where there is one, else without."""
    names = []
    for name in trigger["builds"]:
        meant = followed_keys(_key(resource), name)
        names.append(next((key for key in meant if key in resources), meant[-1]))
    return tuple(dict.fromkeys(names))


def trigger_digest(trigger: Mapping[str, Any]) -> str:
    """What makes a trigger another one; of a `build` trigger only the names count, not the inputs it gives."""
    if trigger["type"] == "build":
        return digest({"type": "build", "builds": sorted(trigger["builds"])})
    return digest(trigger)


def awaited(follow: Follow, since: datetime) -> tuple[str, ...]:
    """Those that have not passed since then."""
    return tuple(
        key for key in follow.keys if not _counts(follow.passes.get(key), follow.after.get(key), since)
    )


def is_ahead(timer: Timer, follow: Follow, now: datetime) -> bool:
    """Would what passes now not count, as the clock was set back? Which ones did is known by their numbers too, once
    the trigger has started a job.
    """
    return timer.last_due is not None and timer.last_due > now and follow.after.keys() >= set(follow.keys)


def before_newer(follow: Follow, now: datetime) -> datetime:
    """A moment before all that has passed since the last start, by the numbers of jobs; now, if nothing has."""
    newer = [found.at for key, found in follow.passes.items() if found.number > follow.after.get(key, 0)]
    return min([now, *(at - _TICK for at in newer)])


def _counts(found: Pass | None, after: int | None, since: datetime) -> bool:
    return found is not None and found.number > (after or 0) and found.at > since


def _key(resource: Resource) -> Key:
    return Key("Build", resource.project, resource.environment, resource.name)
