"""What is declared in a project, as one caller sees it: the project, its environments in order, what is inside.

For served APIs that walk from the project down. Resources are those in force; what a caller has no role on is not
there, in the very words for what does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from reconciler.access import Caller, authority_of
from reconciler.errors import NotFound
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.model.resource import Resource
from reconciler.model.rights import LEVELS, Level, Rights, Scope
from reconciler.store import jobs
from specs.meta import Key


def project(installation: Installation, caller: Caller, name: str) -> Resource:
    """A project; NotFound also where the caller has no role in it."""
    found = of_kind(installation, "Project").get(f"Project/{name}")
    if found is None or not caller.sees(found.key):
        raise NotFound("NoSuchProject", f"There is no project {name!r}.")
    return found


def projects(installation: Installation, caller: Caller) -> list[Resource]:
    """All that the caller has a role in, by name."""
    found = of_kind(installation, "Project")
    return [found[key] for key in sorted(found) if caller.sees(key)]


def environment(installation: Installation, caller: Caller, project_name: str, name: str) -> Resource:
    """An environment of a project; NotFound also where the caller has no role on it."""
    project(installation, caller, project_name)
    found = of_kind(installation, "Environment").get(f"Environment/{project_name}/{name}")
    if found is None or not caller.sees(found.key):
        raise NotFound("NoSuchEnvironment", f"There is no environment {name!r} in {project_name}.")
    return found


def environments(installation: Installation, caller: Caller, of: Resource) -> dict[str, Resource]:
    """Those of a project that the caller sees, by name, in the project's order."""
    return environments_of(installation, caller, of.name, of.spec or {})


def environments_of(
    installation: Installation, caller: Caller, project_name: str, spec: Mapping[str, Any]
) -> dict[str, Resource]:
    """The same where the project has (or shall have) this specification."""
    there = _environments(installation, project_name)
    ordered = in_order(spec.get("environment_order") or (), there)
    return {name: there[name] for name in ordered if caller.sees(there[name].key)}


def position(installation: Installation, project_name: str, name: str) -> int:
    """Where an environment stands among all of its project, from 0; one that is not there yet is the last."""
    owner = of_kind(installation, "Project").get(f"Project/{project_name}")
    spec = (owner.spec if owner else None) or {}
    ordered = in_order(spec.get("environment_order") or (), _environments(installation, project_name))
    return ordered.index(name) if name in ordered else len(ordered)


def _environments(installation: Installation, project_name: str) -> dict[str, Resource]:
    found = of_kind(installation, "Environment").values()
    return {resource.name: resource for resource in found if resource.project == project_name}


def keys_inside(installation: Installation, of: Resource) -> list[str]:
    """The KEYs of everything in a project or an environment, seen or not."""
    project_name, environment_name = (of.name, None) if of.kind == "Project" else (of.project, of.name)
    return [
        key
        for key, resource in installation.snapshot.current.resources.items()
        if resource.project == project_name and environment_name in (None, resource.environment)
    ]


def in_order(order: Iterable[str], names: Iterable[str]) -> list[str]:
    """Environments in their project's order; those that it does not name come last, by name."""
    left = set(names)
    first = [name for name in dict.fromkeys(order) if name in left]
    return first + sorted(left.difference(first))


def inside(installation: Installation, caller: Caller, kind: str, of: Resource) -> dict[str, Resource]:
    """Resources of a kind right in a project, by name; without those that the caller does not see."""
    return {
        resource.name: resource
        for key, resource in sorted(of_kind(installation, kind).items())
        if resource.project == of.name and caller.sees(key)
    }


def by_environment(installation: Installation, kind: str) -> dict[str, dict[str, Resource]]:
    """All resources of a kind by the KEY of their environment and by name; who sees that one sees what is in it."""
    found: dict[str, dict[str, Resource]] = {}
    for _, resource in sorted(of_kind(installation, kind).items()):
        place = f"Environment/{resource.project}/{resource.environment}"
        found.setdefault(place, {})[resource.name] = resource
    return found


def one(installation: Installation, caller: Caller, key: Key, words: str) -> Resource:
    """A resource in force; NotFound with these words also where the caller has no role on it."""
    found = of_kind(installation, key.kind).get(str(key))
    if found is None or not caller.sees(found.key):
        raise NotFound("NotDeclared", words)
    return found


def of_kind(installation: Installation, kind: str) -> Mapping[str, Resource]:
    """All resources in force of one kind, by KEY."""
    return installation.snapshot.current.of_kinds(frozenset({kind}))


def level(caller: Caller, resource: Resource) -> Level:
    """The caller's role on a resource that it sees; `read` where it only sees it for what is inside."""
    if resource.kind == "Project":
        scope = Scope(resource.name)
    elif resource.kind == "Environment":
        scope = Scope(resource.project, resource.name)
    else:
        scope = Scope(resource.project, resource.environment)
    return caller.rights.at(scope) or Level.READ


def rights_of_team(installation: Installation, caller: Caller, team: str) -> Rights:
    """What is granted to a team itself; NotFound for who is neither in it nor an administrator."""
    members = authority_of(installation).teams.get(team)
    kind, _, name = caller.subject.partition("/")
    if members is None or not (caller.administrator or (kind == "User" and name in members)):
        raise NotFound("NoSuchTeam", f"There is no group {team!r}.")
    roles: dict[Scope, Level] = {}
    for binding in of_kind(installation, "RoleBinding").values():
        spec = binding.spec or {}
        if any(subject["kind"] == "Team" and subject["name"] == team for subject in spec["subjects"]):
            scope, found = Scope(binding.project, binding.environment), LEVELS[spec["role"]]
            roles[scope] = max(found, roles.get(scope, found))
    return Rights(roles)


def bindings_of_accounts(
    installation: Installation, of: Resource
) -> list[tuple[Resource, Mapping[str, Any]]]:
    """The bindings in a project that name service accounts, with each of these subjects."""
    return [
        (binding, subject)
        for _, binding in sorted(of_kind(installation, "RoleBinding").items())
        if binding.project == of.name
        for subject in (binding.spec or {})["subjects"]
        if subject["kind"] == "ServiceAccount"
    ]


async def newest_states(installation: Installation, keys: Sequence[str]) -> dict[str, State]:
    """The state of the newest job of each KEY that has one."""
    return await installation.database.read(lambda c: jobs.newest_states(c, keys)) if keys else {}


async def unfinished(installation: Installation, keys: Iterable[str]) -> list[int]:
    """The numbers of the unfinished jobs of these KEYs."""
    wanted = set(keys)
    found = await installation.database.read(jobs.live)
    return [job.number for job in found if job.key in wanted]


def since(resource: Resource) -> datetime:
    """When it was first applied: its identifier begins with that time (UUIDv7)."""
    return datetime.fromtimestamp((UUID(resource.uuid).int >> 80) / 1000, UTC)


def started(installation: Installation) -> bool:
    """Was a revision ever applied?"""
    source = installation.snapshot.current.source
    return source is not None and source.applied is not None
