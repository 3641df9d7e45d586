"""What a commit means for deployments that stand: those that are gone from Git, and are to be destroyed (13.13).

A tombstone is the last specification, kept with the state until the destroy has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.model import deployment as state_of
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.store import deployments
from reconciler.store.database import Write

TOMBSTONE = "tombstone"


def bury(write: Write, resource: Resource, environment_inputs: Mapping[str, Any]) -> None:
    """A Deployment that is removed, and wants to be destroyed then; the state of what stands says so."""
    spec = resource.spec or {}
    place = state_of.of(resource.key)
    row = deployments.summaries(write.connection, place.project, place.environment).get(place)
    if spec.get("on_delete") != "destroy" or row is None or state_of.code(row.state) == state_of.EMPTY:
        return
    stone = {
        "uuid": resource.uuid,
        "generation": resource.generation,
        "revision": resource.revision,
        "path": resource.path,
        "line": resource.line,
        "spec": dict(spec),
        "environment_inputs": dict(environment_inputs),
    }
    known = dict(row.deployed or {})
    deployments.note(write, place, deployed=known | {TOMBSTONE: stone}, tried=0, again_at=None)


def raise_(write: Write, place: state_of.Place, deployed: Mapping[str, Any]) -> None:
    """It is declared again."""
    deployments.note(write, place, deployed={k: v for k, v in deployed.items() if k != TOMBSTONE})


def resource_of(place: state_of.Place, stone: Mapping[str, Any]) -> Resource:
    """The Deployment as it was last declared."""
    blank = Resource(
        key=place.key,
        kind="Deployment",
        project=place.project,
        environment=place.environment,
        name=place.name,
        labels={},
        annotations={},
        path=stone["path"],
        line=stone["line"],
        revision=stone["revision"],
        digest=None,
        spec=stone["spec"],
        references=(),
        files=(),
        generation=stone["generation"],
        observed_generation=stone["generation"],
        sync=Sync.OUT_OF_SYNC,
        health=Health.UNKNOWN,
        conditions=(),
        uuid=stone["uuid"],
    )
    return replace(blank, spec={**stone["spec"], "disabled": False})
