"""Builds that start after others (own-kinds, trigger `build`): who follows whom, and who is still awaited.

Pure; called by `passes.builds`, `passes.jobs`, `controllers.builds` and `queries.why`. A pass counts once for each
trigger: from the version of the store on that the trigger's timer holds, which is that after the trigger was first
seen, then after the last of the passes that it has started a job for. No clock is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.follow import Follow
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


def awaited(follow: Follow, since: int | None) -> tuple[str, ...]:
    """Those that have not passed from this version on; None: the trigger was not seen yet, and nothing counts."""
    return tuple(
        key
        for key in follow.keys
        if since is None or (found := follow.passes.get(key)) is None or found.version < since
    )


def _key(resource: Resource) -> Key:
    return Key("Build", resource.project, resource.environment, resource.name)
