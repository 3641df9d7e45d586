"""What is declared and how it stands: lists and single resources, from the snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.access import Caller, missing
from reconciler.installation import Installation
from reconciler.model.resource import Resource
from reconciler.passes import following
from specs.tree import origins


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list is narrowed to; None asks for nothing."""

    kind: str | None = None
    project: str | None = None
    environment: str | None = None
    sync: str | None = None
    health: str | None = None
    prefix: str | None = None

    def takes(self, resource: Resource) -> bool:
        """Does the resource belong to the list?"""
        return (
            (self.kind is None or resource.kind == self.kind)
            and (self.project is None or _project(resource) == self.project)
            and (self.environment is None or resource.environment == self.environment)
            and (self.sync is None or resource.sync.value == self.sync)
            and (self.health is None or resource.health.value == self.health)
            and (self.prefix is None or resource.key.startswith(self.prefix))
        )


def find(
    installation: Installation, caller: Caller, wanted: Filter, limit: int, after: str | None
) -> dict[str, Any]:
    """A page of resources by KEY: `items`, and `next` (the KEY after which to go on) while there are more."""
    resources = installation.snapshot.current.resources
    taken = [key for key, resource in resources.items() if wanted.takes(resource) and caller.sees(key)]
    keys = sorted(key for key in taken if after is None or key > after)
    page = keys[:limit]
    return {
        "items": [summary(resources[key]) for key in page],
        "next": page[-1] if len(keys) > limit else None,
        "total": len(taken),
    }


def search(installation: Installation, caller: Caller, text: str, most: int) -> list[dict[str, Any]]:
    """Resources that have a text in their KEY, in upper or lower case; a name that is just this comes first."""
    wanted = text.casefold()
    resources = installation.snapshot.current.resources
    found = [key for key in resources if wanted in key.casefold() and caller.sees(key)]
    found.sort(key=lambda key: (resources[key].name.casefold() != wanted, key))
    return [summary(resources[key]) for key in found[:most]]


def by_project(installation: Installation, caller: Caller) -> dict[str, list[Resource]]:
    """What the caller sees inside of each project."""
    found: dict[str, list[Resource]] = {}
    for key, resource in installation.snapshot.current.resources.items():
        if resource.project is not None and caller.sees(key):
            found.setdefault(resource.project, []).append(resource)
    return found


async def get(installation: Installation, caller: Caller, key: str) -> dict[str, Any]:
    """One resource whole: effective specification, and where each field comes from."""
    resource = installation.snapshot.current.resources.get(key)
    if resource is None or not caller.sees(key):
        raise missing(key)
    return summary(resource) | {
        "uuid": resource.uuid,
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
        "digest": resource.digest,
        "tag": resource.tag,
        "spec": resource.spec,
        "references": list(resource.references),
        "origins": dict(await _origins(installation, resource)),
    }


def summary(resource: Resource) -> dict[str, Any]:
    """A resource as lists show it."""
    return {
        "key": resource.key,
        "kind": resource.kind,
        "project": resource.project,
        "environment": resource.environment,
        "name": resource.name,
        "generation": resource.generation,
        "observed_generation": resource.observed_generation,
        "sync": resource.sync.value,
        "health": resource.health.value,
        "conditions": [condition.to_dict() for condition in resource.conditions],
        "revision": resource.revision,
        "location": resource.location,
    }


async def _origins(installation: Installation, resource: Resource) -> Mapping[str, str]:
    desired = await following.desired(installation)
    if desired is None or resource.invalid or resource.key not in desired.tree.declared:
        return {}
    return origins(desired.tree, resource.key)


def _project(resource: Resource) -> str | None:
    return resource.name if resource.kind == "Project" else resource.project
