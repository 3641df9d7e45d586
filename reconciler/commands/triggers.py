"""Anything that runs, started by hand by its KEY: a Build, a Deployment, a Pipeline (design 14.8).

Nothing is committed here: what would be put back at once is refused with the place to change it at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.access import Caller, missing, require
from reconciler.commands import executions, jobs, pipelines
from reconciler.commands.executions import Asked
from reconciler.errors import Conflict, Refused
from reconciler.installation import Installation
from reconciler.json_text import Unreadable, decode
from reconciler.model import deployment as state_of
from reconciler.model.execution import Type
from reconciler.model.release import Release
from reconciler.model.resource import Resource
from reconciler.store import deployments, releases
from reconciler.store.database import Connection
from specs.deployment import is_own_package
from specs.meta import Key, parse_key
from specs.release import wanted_version_fault

_ACTIONS = (Type.DEPLOY.value, Type.SMOKE.value, Type.DESTROY.value)
_ONE_OF = "a Build, a Deployment or a Pipeline can be triggered"


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted; what the kind has no use for is refused. `action`: deploy, smoke or destroy; none is deploy."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    branch: str | None = None
    commit: str | None = None
    version: str | None = None
    action: str | None = None
    errand: str | None = None


async def trigger(installation: Installation, caller: Caller, key: str, order: Order) -> dict[str, Any]:
    """Number and id of the job, or of a Pipeline's run. Where Git is wrong, the last good version runs.

    Conflict, NotFound, Refused.
    """
    require(installation, caller, "trigger", key)
    resource = installation.snapshot.current.resources.get(key)
    if resource is None:
        raise missing(key)
    if resource.kind == "Build":
        _without(order, resource, "version", "action", "errand")
        return await jobs.trigger(installation, caller, key, order.inputs, order.branch, order.commit)
    if resource.kind == "Deployment":
        made = await _deployment(installation, caller, resource, order)
        return {"number": made.number, "id": made.id}
    if resource.kind == "Pipeline":
        _without(order, resource, "branch", "commit", "version", "action", "errand")
        payload = dict(order.inputs) or None
        run = await pipelines.trigger(installation, caller, _key(resource), payload=payload, last_good=True)
        return {"number": run.number, "id": run.id}
    raise Refused("NotRunnable", f"{key} is a {resource.kind}; {_ONE_OF}")


async def _deployment(
    installation: Installation, caller: Caller, resource: Resource, order: Order
) -> executions.Made:
    _without(order, resource, "branch", "commit")
    if order.action not in (None, *_ACTIONS):
        raise Refused("NoSuchAction", f"an action is one of {', '.join(_ACTIONS)}, not {order.action!r}")
    type_ = Type.ERRAND if order.errand is not None else Type(order.action or Type.DEPLOY)
    if order.inputs and type_ is not Type.ERRAND:
        told = "its inputs are declared: change them there and commit; `--input` goes with `--errand NAME`"
        raise Refused("InputsAreDeclared", f"{resource.key} is at {resource.location}, and {told}")
    if order.version is not None and type_ is not Type.DEPLOY:
        raise Refused("NoUse", f"`version` is for a deploy, not for a {type_.value}")
    spec = resource.spec or {}
    asked = Asked()
    if type_ is Type.ERRAND:
        given = await _typed(installation, resource, str(order.errand), order.inputs)
        asked = Asked(errand_name=str(order.errand), errand_inputs=given)
    elif type_ is Type.DESTROY:
        _stays_gone(resource, spec)
    elif order.version is not None:
        asked = await _deviation(installation, resource, spec, order.version)
    return await executions.trigger_deployment(
        installation, caller, resource.key, type_, asked, last_good=True
    )


def _without(order: Order, resource: Resource, *names: str) -> None:
    """Refused where something is given that the kind has no use for."""
    hints = {
        "branch": "what it deploys are releases, which Builds make",
        "commit": "what it deploys are releases, which Builds make",
    }
    for name in names:
        if getattr(order, name) is not None:
            hint = hints.get(name) if resource.kind == "Deployment" else None
            told = f"{resource.key} is a {resource.kind}, and `{name}` means nothing to it"
            raise Refused("NoUse", f"{told}: {hint}" if hint else told)


def _put_back(spec: Mapping[str, Any]) -> bool:
    """Does it see to it itself that what is declared stands?"""
    by_itself = spec.get("reconcile") != "manual" and not spec.get("suspend") and not spec.get("disabled")
    wants = spec.get("version") or spec.get("follow") or is_own_package(spec)
    return bool(by_itself and wants)


def _stays_gone(resource: Resource, spec: Mapping[str, Any]) -> None:
    if _put_back(spec):
        told = "it would be deployed again at once: commit `suspend: true` there first, or remove it with"
        raise Conflict(
            "StillDeclared",
            f"{resource.key} is declared at {resource.location}, and {told} `on_delete: destroy`",
        )


async def _deviation(
    installation: Installation, resource: Resource, spec: Mapping[str, Any], version: str
) -> Asked:
    """Another version than the declared one, where nothing would put that back (escape-state, 9.5)."""
    if is_own_package(spec):
        raise Refused("NoUse", f"{resource.key} brings its own scripts, and they have no versions")
    if fault := wanted_version_fault(version):
        raise Refused("InvalidVersion", f"version {version!r} {fault}")
    name = str(spec.get("release") or resource.name)

    def look(connection: Connection) -> tuple[Release | None, Release | None]:
        declared = spec.get("version")
        now = releases.resolve(connection, name, declared) if declared else None
        return releases.resolve(connection, name, version), now

    wanted, declared = await installation.database.read(look)
    if wanted is not None and wanted == declared:
        return Asked()
    if _put_back(spec):
        here = f"version: {spec['version']!r}" if spec.get("version") else f"follow: {spec.get('follow')}"
        told = f"{resource.key} says `{here}` at {resource.location}, and that would be put back at once"
        raise Conflict(
            "DeclaredVersion", f"{told}: change it there and commit, or commit `reconcile: manual` first"
        )
    return Asked(version=version)


async def _typed(
    installation: Installation, resource: Resource, errand: str, given: Mapping[str, str]
) -> dict[str, Any]:
    """Texts as the errand's inputs have them: whole numbers, yes or no, lists. What does not fit stays a text."""
    row = await installation.database.read(
        lambda c: deployments.load(c, installation.keys, state_of.of(resource.key))
    )
    spec = resource.spec or {}
    scripts: Mapping[str, Any] = spec.get("scripts") or {}
    if not is_own_package(spec) and row is not None:
        version = state_of.stage(row.state, state_of.DEPLOY)["version"]
        namespace, _, application = row.release.partition("/")
        release = await installation.database.read(
            lambda c: releases.find(c, namespace, application, version)
        )
        scripts = release.plan if release is not None else {}
    known = ((scripts.get("errands") or {}).get(errand) or {}).get("inputs") or ()
    types = {item["id"]: item.get("type") for item in known}
    return {name: _read(value, types.get(name)) for name, value in given.items()}


def _read(text: str, type_: str | None) -> Any:
    if type_ not in ("integer", "bool", "list"):
        return text
    try:
        return decode(text)
    except Unreadable:
        return text


def _key(resource: Resource) -> Key:
    return parse_key(resource.key)
