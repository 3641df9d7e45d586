"""Deployments as they are shown: what is declared of them beside what is so (escape-state, 7.14).

Maps hold no null and no array, and times no empty text: the client refuses a whole environment for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model import deployment
from reconciler.model.deployment import DEPLOY, EMPTY, State
from reconciler.model.resource import Resource
from reconciler.model.status import Sync
from reconciler.queries.deployments import Deployed

SYNC: Mapping[Sync, str] = {Sync.SYNCED: "in-sync", Sync.OUT_OF_SYNC: "out-of-sync", Sync.UNKNOWN: "unknown"}


def shown(found: Deployed, *, whole: bool) -> dict[str, Any]:
    """A deployment: of a declared one that nobody ever deployed, the stage is empty and has what is declared."""
    resource = found.resource
    spec = (resource.spec if resource else None) or {}
    state = found.state
    if state is None or _is_unsaid(state):
        state = _never_run(found.place.name, spec)
    if DEPLOY not in state["stages"]:
        state = deployment.with_stage(state, DEPLOY, {})
    content = deployment.shown(state, whole=whole)
    content |= {"managed": resource is not None, "sync": sync(resource)}
    if whole and resource is not None:
        content["declared"] = wanted(resource)
    return content


def sync(resource: Resource | None) -> str:
    """Is it as it is declared?"""
    return SYNC[resource.sync] if resource is not None else SYNC[Sync.UNKNOWN]


def wanted(resource: Resource) -> dict[str, Any]:
    """What is declared of a deployment."""
    spec = resource.spec or {}
    return {
        "release": spec["release"] or resource.name,
        "version": spec["version"],
        "inputs": spec["inputs"],
        "providers": spec["providers"],
    }


def _is_unsaid(state: State) -> bool:
    """As a state is made where an execution takes a deployment that nobody has said anything of; also in short."""
    return {"inputs": {}, **state} == deployment.empty(state["name"])


def _never_run(name: str, spec: Mapping[str, Any]) -> State:
    state = deployment.empty(name, spec.get("release"))
    inputs = spec.get("inputs") or {}
    fields = {"inputs": inputs, "providers": spec.get("providers") or {}, "status": {"status": EMPTY}}
    return deployment.with_stage({**state, "inputs": inputs}, DEPLOY, fields)
