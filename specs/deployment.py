"""The kind Deployment (escape-state, 7.5 and 14; own-kinds): what is to be deployed in an environment, in
which version; in one document for each environment, or in one for several.

Called by the kinds table. Never knows what is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from specs import references, run_on
from specs.build_step import Providers
from specs.document import Document
from specs.meta import Key
from specs.model import EnvironmentName, Glob, PlainNameOrEmpty, Spec, SpecFault, Steps, WebOrEmpty
from specs.parts import Part, one
from specs.positions import pointer
from specs.references import Inputs, Reference
from specs.release import ReleaseName, WantedVersion, release_fault
from specs.run_on import RunOn
from specs.stage_scripts import StageScripts, script_texts

ENVIRONMENTS = "environments"
"""The field of a document for several environments: environment -> fields over those of the document."""


class DriftCheck(Spec):
    """How it is found out that what is deployed is no longer what was deployed."""

    every_seconds: Annotated[int, Field(ge=10, le=366 * 86_400)]
    """Seconds between two checks."""
    run: Literal["smoke", "check"]
    """The script that checks."""


class Deployment(Spec):
    """A release in an environment, or scripts and files of this source that are deployed there."""

    release: ReleaseName | None = None
    """What is deployed, NAMESPACE/APPLICATION; without it, the name of the deployment."""
    version: WantedVersion = ""
    """The version: "1.4.12", a prefix "1.4.@", "latest" or a tag; none means that nothing is wanted yet."""
    follow: EnvironmentName | None = None
    """An environment: what the same name has deployed there without failure is deployed here, never lower
    than what runs here. A version beside it pins.
    """
    inputs: Inputs = Field(default_factory=dict)
    """Inputs of the scripts, over those of the environment."""
    providers: Providers = Field(default_factory=dict)
    """Which deployment of the environment provides what this one consumes."""
    run_smoke: bool = True
    """Whether the smoke test runs after each deploy."""
    reconcile: Literal["auto", "manual"] = "auto"
    """Whether a difference starts a deploy, or is shown only."""
    on_delete: Literal["orphan", "destroy"] = "orphan"
    """What happens to what is deployed when this is no longer declared."""
    suspend: bool = False
    """Keeps the declaration without acting on it."""
    disabled: bool = False
    """Refuses every trigger."""
    timeout_seconds: Annotated[int, Field(ge=10, le=86_400)] = 3600
    """Seconds that a deploy, a smoke test, a destroy or an errand may take."""
    service_account_name: PlainNameOrEmpty = ""
    """The service account that executions act as; with its team."""
    service_account_team: PlainNameOrEmpty = ""
    """The team that owns it."""
    remote_escape_worker_url: WebOrEmpty = ""
    """A worker that executions are handed to."""
    run_on: RunOn | None = None
    """Where the scripts run, and the keys and files they are given."""
    check: DriftCheck | None = None
    """How drift is found; without it, nothing looks."""
    scripts: StageScripts | None = None
    """The deployment's own scripts, instead of a release; `check` alone goes beside a release."""
    includes: list[Glob] = Field(default_factory=list)
    """Globs of files, from the source's root, that are the deployment's own package together with scripts."""


def expand(document: Document) -> Iterator[Part]:
    """A part for each entry of `environments`, over the rest of the document; or the one that there is."""
    if ENVIRONMENTS not in document.spec:
        yield from one(document)
        return
    entries = document.spec[ENVIRONMENTS]
    base = {name: value for name, value in document.spec.items() if name != ENVIRONMENTS}
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        faults = []
        if document.environment is not None:
            message = "metadata.environment and environments exclude each other; remove one"
            faults.append(("/metadata/environment", message))
        steps: Steps = ("spec", ENVIRONMENTS, name)
        if entry is not None and not isinstance(entry, Mapping):
            faults.append((pointer(steps), f"{ENVIRONMENTS}.{name} must be a mapping of fields"))
        fields = entry if isinstance(entry, Mapping) else {}
        yield Part(name, ((steps, fields), (("spec",), base)), tuple(faults))


def is_own_package(spec: Mapping[str, Any]) -> bool:
    """Whether what is deployed stands in this source, rather than in a release."""
    return bool(spec.get("includes")) or any(stage != "check" for stage in spec.get("scripts") or {})


def named(merged: Mapping[str, Any], key: Key) -> Mapping[str, Any]:
    """Fields whose built-in value is the Deployment's name: its release."""
    scripts = merged.get("scripts")
    own = is_own_package({**merged, "scripts": scripts if isinstance(scripts, Mapping) else {}})
    if "release" in merged or own or release_fault(key.name):
        return {}
    return {"release": key.name}


def check(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    if is_own_package(spec):
        for field in ("release", "version", "follow"):
            if spec[field]:
                yield (
                    (field,),
                    f"{field} says nothing beside scripts or includes, which are the deployment's own package; "
                    "remove one of the two",
                )
        if "deploy" not in (spec["scripts"] or {}):
            yield ("scripts",), "scripts.deploy is missing: a deployment with its own package needs one"
    elif spec["release"] is None:
        fault = release_fault(key.name)
        yield ("release",), f"release is missing, and the deployment's name cannot stand for it: it {fault}"
    yield from _drift(spec)
    yield from references.identity_faults(spec)
    yield from run_on.check(spec)
    for variable, provider in spec["providers"].items():
        if provider == key.name:
            yield ("providers", variable), "a deployment cannot be its own provider"


def _drift(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    scripts = spec["scripts"] or {}
    run = (spec["check"] or {}).get("run")
    if run == "check" and "check" not in scripts:
        yield ("check", "run"), "check needs a script; write scripts.check, or run smoke"
    if run == "smoke" and is_own_package(spec) and "smoke" not in scripts:
        yield ("check", "run"), "smoke needs a script; write scripts.smoke, or run check"


def followed(spec: Mapping[str, Any], key: Key) -> Iterator[tuple[Steps, tuple[str, ...]]]:
    """Where `follow` stands, and the KEY of the Deployment that it means."""
    if spec.get("follow"):
        yield ("follow",), (str(Key("Deployment", key.project, spec["follow"], key.name)),)


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """What a Deployment refers to. A provider need not be declared: it may be known by its state alone."""
    yield from (Reference(steps, keys, usable=False) for steps, keys in followed(spec, key))
    yield from references.identity(spec)
    yield from run_on.secrets(spec, key)
    for steps, name in references.secrets_in(("inputs",), spec["inputs"]):
        yield references.secret(key, steps, name)
    for variable, provider in spec["providers"].items():
        if provider != key.name:
            target = str(Key("Deployment", key.project, key.environment, provider))
            yield Reference(("providers", variable), (target,), usable=False, must=False)


def texts(spec: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Where a specification, valid or not, names texts beside it, and which."""
    return script_texts(("scripts",), spec.get("scripts"))
