"""What a Deployment wants now: a version that its release has, its inputs, its own files (escape-state, 9.1).

Called by the pass of an environment, and whenever an execution is prepared. A moving version (`latest`, `1.4.@`, a tag,
`follow`) is looked up each time.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.deployment import Place
from reconciler.model.execution import LOCKED
from reconciler.model.release import Release
from reconciler.model.resource import Resource
from reconciler.store import deployments, releases
from reconciler.store.database import Connection
from specs.deployment import is_own_package
from specs.digest import digest
from specs.globs import any_match
from specs.release import is_version
from specs.versions import ordinal

_LARGEST_FILE = 16 << 20
_EXECUTABLE = "100755"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants instead of what is declared; which errand, with what; and (`drop`) whether the state of what
    is destroyed goes too. `environment_inputs`: where the environment may be gone; `patient`: providers that are about
    to be deployed are waited for.
    """

    version: str | None = None
    inputs: Mapping[str, Any] | None = None
    providers: Mapping[str, str] | None = None
    errand_name: str = ""
    errand_inputs: Mapping[str, Any] = field(default_factory=dict)
    drop: bool = False
    patient: bool = False
    environment_inputs: Mapping[str, Any] | None = None


AS_DECLARED = Asked()


@dataclass(frozen=True, slots=True)
class Wanted:
    """`version` "": nothing is wanted. `fault`: (reason, sentence) why what is wanted cannot be had.

    `own`: a deployment's own package, {scripts, includes, revision}; `files`: the blobs of its includes.
    """

    resource: Resource
    version: str = ""
    release: Release | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    environment_inputs: Mapping[str, Any] = field(default_factory=dict)
    providers: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    fault: tuple[str, str] | None = None

    @property
    def anything(self) -> bool:
        """Is there something that should stand there?"""
        return self.own is not None or bool(self.version) or self.fault is not None

    @property
    def plan(self) -> Mapping[str, Any]:
        """The compiled plan of its release; {} where it brings its own scripts, or there is no such release."""
        return self.release.plan if self.release is not None else {}

    @property
    def signature(self) -> str:
        """Two that want the same have the same one: what was deployed with it need not be deployed again."""
        own = self.own
        return digest(
            {
                "release": self.release.label if self.release else None,
                "digest": self.release.digest if self.release else None,
                "inputs": dict(self.inputs),
                "environment_inputs": dict(self.environment_inputs),
                "providers": dict(self.providers),
                "own": None if own is None else [own["scripts"], own["includes"], dict(self.files)],
            }
        )

    def stages(self) -> dict[str, Any]:
        """What a task is told of it."""
        spec = self.resource.spec or {}
        name, team = spec.get("service_account_name"), spec.get("service_account_team")
        signature = self.signature
        found: dict[str, Any] = {
            "release": self.release.name if self.release else None,
            "version": self.release.version if self.release else "",
            "digest": self.release.digest if self.release else None,
            "fat": self.release.fat if self.release else False,
            "own": self.own,
            "scripts": spec.get("scripts") if self.own is None else None,
            "inputs": dict(self.inputs),
            "environment_inputs": dict(self.environment_inputs),
            "providers": dict(self.providers),
            "identity": f"ServiceAccount/{team}/{name}" if name and team else None,
            "signature": signature,
        }
        found["deployed"] = {
            "signature": signature,
            "attempt": signature,
            "version": found["version"],
            "release": found["release"],
            "digest": found["digest"],
            "inputs": digest(dict(self.inputs)),
            "providers": dict(self.providers),
            "revision": self.resource.revision,
        }
        return found


async def look(
    installation: Installation, resource: Resource, asked: Asked = AS_DECLARED, *, need_release: bool = True
) -> Wanted:
    """What a Deployment with a good specification wants."""
    base = await _base(installation, resource, asked)
    if base.own is not None or not need_release:
        return base
    found = await installation.database.read(lambda c: _with_release(c, base, asked.version))
    return _hiding(installation, found, asked.inputs or {})


def _hiding(installation: Installation, found: Wanted, given: Mapping[str, Any]) -> Wanted:
    """Sensitive inputs that somebody gives by hand are locked: a specification is there for all to read."""
    hidden = {item["id"] for item in found.plan.get("inputs") or () if item.get("sensitive")}
    locked = {
        name: locked_value(installation, found.resource.key, value)
        for name, value in given.items()
        if name in hidden
    }
    return replace(found, inputs={**found.inputs, **locked}) if locked else found


def locked_value(installation: Installation, key: str, value: Any) -> dict[str, str]:
    """A value for the executions of one KEY alone, as it may stand in a specification."""
    text = json.dumps(value).encode()
    return {LOCKED: base64.b64encode(installation.keys.lock(text, key)).decode()}


async def look_at_all(installation: Installation, resources: Iterable[Resource]) -> dict[str, Wanted]:
    """What many want, by KEY."""
    bases = [await _base(installation, resource, AS_DECLARED) for resource in resources]
    return await _with_releases(installation, bases)


async def look_ahead(
    installation: Installation,
    resources: Iterable[Resource],
    environment_inputs: Mapping[str, Mapping[str, Any]],
    revision: str | None,
) -> dict[str, Wanted]:
    """What many would want at a revision that is not applied, by KEY; the inputs of environments by "project/name"."""
    bases = []
    for resource in resources:
        inputs = environment_inputs.get(f"{resource.project}/{resource.environment}", {})
        bases.append(await _base(installation, resource, Asked(environment_inputs=inputs), revision))
    return await _with_releases(installation, bases)


async def _with_releases(installation: Installation, bases: Sequence[Wanted]) -> dict[str, Wanted]:
    def find(connection: Connection) -> dict[str, Wanted]:
        return {
            base.resource.key: base if base.own is not None else _with_release(connection, base, None)
            for base in bases
        }

    return await installation.database.read(find) if bases else {}


async def _base(
    installation: Installation, resource: Resource, asked: Asked, revision: str | None = None
) -> Wanted:
    spec = resource.spec or {}
    own: dict[str, Any] | None = None
    files: dict[str, str] = {}
    if is_own_package(spec):
        own, files = await _own(installation, spec, revision)
    around = installation.snapshot.current.resources.get(
        f"Environment/{resource.project}/{resource.environment}"
    )
    inputs = asked.environment_inputs
    if inputs is None:
        inputs = ((around.spec if around else None) or {}).get("inputs") or {}
    return Wanted(
        resource,
        inputs=dict(spec.get("inputs") or {}) | dict(asked.inputs or {}),
        environment_inputs=dict(inputs),
        providers=dict(spec.get("providers") or {}) | dict(asked.providers or {}),
        own=own,
        files=files,
    )


def _with_release(connection: Connection, base: Wanted, version: str | None) -> Wanted:
    spec = base.resource.spec or {}
    name = str(spec.get("release") or base.resource.name)
    query = version or spec.get("version") or _followed(connection, base.resource) or ""
    if not query:
        return base
    release = releases.resolve(connection, name, query)
    if release is None:
        told = f"there is no release {name} {query}; `steersman releases` lists those there are"
        return replace(base, version=query, fault=("NoSuchRelease", told))
    return replace(base, version=release.version, release=release)


def _followed(connection: Connection, resource: Resource) -> str | None:
    """The version that stands without failure in the environment that is followed; never lower than what is here."""
    spec = resource.spec or {}
    if not spec.get("follow") or resource.project is None or resource.environment is None:
        return None
    rows = deployments.summaries(connection, resource.project)
    there = rows.get(Place(resource.project, spec["follow"], resource.name))
    here = rows.get(Place(resource.project, resource.environment, resource.name))
    found = _standing(there)
    mine = _standing(here)
    if found is not None and mine is not None and is_version(mine) and is_version(found):
        return max(found, mine, key=ordinal)
    return found or mine


def _standing(row: deployments.Row | None) -> str | None:
    if row is None or state_of.code(row.state) != state_of.OK:
        return None
    return str(state_of.stage(row.state, state_of.DEPLOY)["version"]) or None


async def _own(
    installation: Installation, spec: Mapping[str, Any], revision: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The deployment's own scripts, and the files that it includes; by default of the applied revision."""
    source = installation.snapshot.current.source
    revision = revision or (source.applied if source is not None else None) or ""
    includes = list(spec.get("includes") or ())
    files = (
        {path: blob for path, blob, _ in await _listed(installation, revision, includes)} if includes else {}
    )
    return {"scripts": spec.get("scripts") or {}, "includes": includes, "revision": revision}, files


async def _listed(
    installation: Installation, revision: str, globs: Sequence[str]
) -> list[tuple[str, str, bool]]:
    """(path, blob, executable) of the plain files at a revision that one of the globs names."""
    known = installation.listed
    if known is None or known[0] != revision:
        path = "" if installation.settings.path == "." else installation.settings.path
        known = installation.listed = revision, await installation.source.entries(revision, path)
    return [
        (entry.path, entry.blob, entry.mode == _EXECUTABLE)
        for entry in known[1]
        if entry.regular and any_match(globs, entry.path)
    ]


async def files(
    installation: Installation, revision: str, globs: Sequence[str]
) -> dict[str, tuple[bytes, bool]]:
    """Their contents, with whether they are executable."""
    listed = await _listed(installation, revision, globs)
    contents = await installation.source.read([blob for _, blob, _ in listed], _LARGEST_FILE)
    return {path: (contents[blob], executable) for path, blob, executable in listed if blob in contents}
