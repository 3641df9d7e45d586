"""Builds that start after others (own-kinds, trigger `build`): who follows whom, and who is still awaited.

Pure; called by `passes.builds`, `passes.jobs`, `controllers.builds` and `queries.why`. A pass counts once for each
trigger: its job is newer than the one of the last such start, and it ended after the version that the trigger's timer
holds, which is when the trigger was first seen, then the earliest of the passes that the last start came after. No
clock is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.follow import Follow, Pass
from reconciler.model.resource import Resource
from specs.digest import digest
from specs.meta import Key
from specs.triggers import followed, followed_keys


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


def awaited(follow: Follow, since: int) -> tuple[str, ...]:
    """Those that have not passed since then."""
    return tuple(
        key for key in follow.keys if not _counts(follow.passes.get(key), follow.after.get(key), since)
    )


def _counts(found: Pass | None, after: int | None, since: int) -> bool:
    return found is not None and found.number > (after or 0) and found.version > since


def _key(resource: Resource) -> Key:
    return Key("Build", resource.project, resource.environment, resource.name)
