"""What is deployed in environments, as one caller sees it: declared or not, with its state or a summary of it.

A script sees the environment that it runs in, although it has no role there: the client that it calls reads its state
from here (escape-state, 8.3). Who may only read is not shown values that are secret (13.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.access import Caller, runs_in
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model import deployment
from reconciler.model.deployment import DEPLOY, Place
from reconciler.model.deployment import State as DeploymentState
from reconciler.model.execution import Type
from reconciler.model.job import State
from reconciler.model.resource import Resource
from reconciler.model.rights import Level, Scope
from reconciler.queries import declared
from reconciler.store import deployments, executions, releases
from reconciler.store.database import Connection
from reconciler.store.deployments import Row
from specs.release import NO_NAMESPACE


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment: as it is declared, if it is, and its state, if anybody has ever said anything of it.

    `state` has secret values only for those who may see them; of a summary, only versions and statuses.
    """

    place: Place
    resource: Resource | None
    state: DeploymentState | None


async def environment(installation: Installation, caller: Caller, project: str, name: str) -> Resource:
    """An environment that the caller has a role on, or that it runs in; NotFound for all others."""
    try:
        return declared.environment(installation, caller, project, name)
    except NotFound:
        found = declared.of_kind(installation, "Environment").get(f"Environment/{project}/{name}")
        if found is None or not await runs_in(installation, caller, project, name):
            raise
        return found


async def in_environments(installation: Installation, keys: Sequence[str]) -> dict[str, dict[str, Deployed]]:
    """Summaries of all deployments of these environments, by the KEY of the environment and by name."""
    projects = {key.split("/")[1] for key in keys}
    only = min(projects) if len(projects) == 1 else None
    rows = await installation.database.read(lambda c: deployments.summaries(c, only)) if keys else {}
    found: dict[str, dict[str, Row]] = {key: {} for key in keys}
    for place, row in rows.items():
        if (key := f"Environment/{place.project}/{place.environment}") in found:
            found[key][place.name] = row
    around = declared.by_environment(installation, "Deployment")
    return {key: _joined(key, around.get(key, {}), some) for key, some in found.items()}


async def in_environment(installation: Installation, caller: Caller, of: Resource) -> dict[str, Deployed]:
    """All deployments of an environment with their states whole, by name."""
    project, name = str(of.project), of.name

    def read(connection: Connection) -> dict[str, Row]:
        return deployments.of_environment(connection, installation.keys, project, name)

    rows = await installation.database.read(read)
    found = _joined(of.key, declared.by_environment(installation, "Deployment").get(of.key, {}), rows)
    if await _sees_secrets(installation, caller, project, name):
        return found
    return await _masked(installation, found)


async def one(installation: Installation, caller: Caller, place: Place) -> Deployed | None:
    """One deployment with its state whole; None if it is neither declared nor known by a state."""
    row = await installation.database.read(lambda c: deployments.load(c, installation.keys, place))
    resource = declared.of_kind(installation, "Deployment").get(place.key)
    if row is None and resource is None:
        return None
    found = Deployed(place, resource, row.state if row else None)
    if await _sees_secrets(installation, caller, place.project, place.environment):
        return found
    return (await _masked(installation, {place.name: found}))[place.name]


async def keys_inside(installation: Installation, project: str, name: str | None = None) -> list[str]:
    """The KEYs that executions of what is deployed in a project or an environment have, declared or not any more."""
    rows = await installation.database.read(lambda c: deployments.summaries(c, project, name))
    return [place.key for place in rows]


async def states_at(installation: Installation, places: Sequence[Place]) -> dict[Place, DeploymentState]:
    """The states of deployments, as far as anybody has ever said anything of them; for who may write there."""

    def read(connection: Connection) -> dict[Place, DeploymentState]:
        rows = ((place, deployments.load(connection, installation.keys, place)) for place in places)
        return {place: row.state for place, row in rows if row is not None}

    return await installation.database.read(read)


@dataclass(frozen=True, slots=True)
class Automation:
    """What there is to know of a declared deployment as something that runs (7.5).

    `newest`: id and state of its newest execution; `version`: what stands there, "" if nothing does; `errands`: by
    name, those of what stands there.
    """

    newest: tuple[str, State] | None
    version: str
    errands: Mapping[str, Mapping[str, Any]]


async def automation(installation: Installation, resources: Sequence[Resource]) -> dict[str, Automation]:
    """The same of many, by KEY."""
    keys = [resource.key for resource in resources]
    projects = {resource.project for resource in resources}
    only = min(map(str, projects)) if len(projects) == 1 else None

    def read(connection: Connection) -> dict[str, Automation]:
        newest = executions.newest(connection, keys)
        rows = deployments.summaries(connection, only)
        standing = {
            place.key: (*_split(row.release), deployment.stage(row.state, DEPLOY)["version"])
            for place, row in rows.items()
            if deployment.is_deployed(row.state)
        }
        wanted = sorted({standing[key] for key in keys if key in standing})
        known = releases.find_all(connection, wanted)
        found = {}
        for resource in resources:
            at = standing.get(resource.key)
            release = known.get(at) if at else None
            errands = release.plan.get("errands") if release else _own_errands(resource) if at else None
            found[resource.key] = Automation(newest.get(resource.key), at[2] if at else "", errands or {})
        return found

    return await installation.database.read(read) if keys else {}


def _own_errands(resource: Resource) -> Mapping[str, Mapping[str, Any]]:
    """Of a deployment that is its own package."""
    scripts = (resource.spec or {}).get("scripts") or {}
    return scripts.get("errands") or {}


def _split(release: str) -> tuple[str, str]:
    namespace, _, application = release.rpartition("/")
    return namespace or NO_NAMESPACE, application


async def providers(installation: Installation, of: Resource) -> dict[str, list[str]]:
    """Interface → the deployments of an environment that provide it now (9.2)."""
    rows = await installation.database.read(lambda c: deployments.summaries(c, of.project, of.name))
    found: dict[str, list[str]] = {}
    for place, row in rows.items():
        for interface in row.provides:
            found.setdefault(interface, []).append(place.name)
    return {interface: sorted(names) for interface, names in sorted(found.items())}


def _joined(
    environment_key: str, resources: Mapping[str, Resource], rows: Mapping[str, Row]
) -> dict[str, Deployed]:
    _, project, name = environment_key.split("/", 2)
    return {
        each: Deployed(
            Place(project, name, each),
            resources.get(each),
            rows[each].state if each in rows else None,
        )
        for each in sorted(resources.keys() | rows.keys())
    }


async def _sees_secrets(installation: Installation, caller: Caller, project: str, name: str) -> bool:
    level = caller.rights.at(Scope(project, name))
    return (level or Level.READ) >= Level.WRITE or await runs_in(installation, caller, project, name)


async def _masked(installation: Installation, found: Mapping[str, Deployed]) -> dict[str, Deployed]:
    def read(connection: Connection) -> dict[str, frozenset[str] | None]:
        return {
            name: _sensitive(connection, each.state) for name, each in found.items() if each.state is not None
        }

    sensitive = await installation.database.read(read)
    return {
        name: each
        if each.state is None
        else Deployed(each.place, each.resource, deployment.masked(each.state, sensitive[name]))
        for name, each in found.items()
    }


def _sensitive(connection: Connection, state: DeploymentState) -> frozenset[str] | None:
    """The names of inputs and outputs that the deployed release calls sensitive; None if it is not known here."""
    version = deployment.stage(state, DEPLOY)["version"]
    found = releases.resolve(connection, str(state["release"]), version) if version else None
    return None if found is None else _secret_names(found.plan, "inputs", "outputs")


async def sensitive_inputs(installation: Installation, release: str, version: str) -> frozenset[str]:
    """The inputs that a release (the one that is meant by this version, prefix, tag or `latest`) calls sensitive."""
    found = await installation.database.read(lambda c: releases.resolve(c, release, version))
    return frozenset() if found is None else _secret_names(found.plan, "inputs")


async def release_version(installation: Installation, release: str, wanted: str) -> str | None:
    """The version of a release that a version, a prefix, a tag or `latest` means now; None if there is none."""
    if not wanted:
        return None
    found = await installation.database.read(lambda c: releases.resolve(c, release, wanted))
    return None if found is None else found.version


async def execution_at(installation: Installation, place: Place, kind: Type) -> str | None:
    """The job's id of the unfinished execution of this type that has a deployment, if one has."""

    def read(connection: Connection) -> str | None:
        number = deployments.busy_with(connection, place)
        found = None if number is None else executions.load(connection, number)
        return found.job.id if found is not None and found.type is kind else None

    return await installation.database.read(read)


def _secret_names(plan: Mapping[str, Any], *fields: str) -> frozenset[str]:
    return frozenset(item["id"] for field in fields for item in plan.get(field) or () if item["sensitive"])
