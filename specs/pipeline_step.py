"""A step of a Pipeline (escape-state, 7.11): nine types, which fields each needs and may have, and the names
of those that have none.

Called by the Pipeline's model and cross-checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from specs.meta import (
    BUILT_IN_USER,
    deployment_name_fault,
    environment_name_fault,
    plain_name_fault,
    project_name_fault,
    user_name_fault,
)
from specs.model import PlainNameOrEmpty, Spec, SpecFault, Steps, WebOrEmpty, no_nul, or_empty
from specs.references import Inputs
from specs.release import ApplicationOrEmpty, NamespaceOrEmpty, TagOrEmpty

CONFIRMATION_SECONDS = 604_800
"""How long a confirmation waits where its step says nothing."""

StepType = Literal[
    "build", "deploy", "run-smoke", "run-destroy", "run-errand", "pipeline-trigger", "webhook-trigger",
    "confirmation", "tag-release",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """The fields of a step type: what it needs, what it may have, and what some of them are without a word."""

    needs: tuple[str, ...]
    may: tuple[str, ...]
    built_in: Mapping[str, Any]


_ALL = ("name", "timeout_seconds")
_TARGET = ("project", "ignore_failure", *_ALL)
_VERSIONS = ("update_version", "update_version_environment", "update_version_deployment", "tag")

USES: Mapping[str, Use] = {
    "build": Use(("environment", "build"), (*_TARGET, "trigger_pipeline_on_build"), {}),
    "deploy": Use(
        ("environment", "deployment"),
        (*_TARGET, "trigger_pipeline_on_deploy", *_VERSIONS),
        {"update_version": "dont-update"},
    ),
    "run-smoke": Use(("environment", "deployment"), _TARGET, {}),
    "run-destroy": Use(("environment", "deployment"), _TARGET, {}),
    "run-errand": Use(("environment", "deployment", "errand_name"), (*_TARGET, "errand_inputs"), {}),
    "pipeline-trigger": Use(("pipeline",), (*_TARGET, "wait_for_pipeline"), {}),
    "webhook-trigger": Use(("webhook_url",), ("ignore_failure", *_ALL), {}),
    "confirmation": Use(
        (),
        ("user", "team", "allow_self_approval", *_ALL),
        {"allow_self_approval": True, "timeout_seconds": CONFIRMATION_SECONDS},
    ),
    "tag-release": Use(
        ("tag", "namespace", "application"),
        ("tag_version", "tag_tagged_version", "ignore_failure", *_ALL),
        {"tag_version": "last-version-in-pipeline"},
    ),
}

# A value of a field -> the further fields that it needs, and that only it has.
_WITH: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "deploy", "update_version", "version-from-deployment-job",
        ("update_version_environment", "update_version_deployment"),
    ),
    ("deploy", "update_version", "tagged-version", ("tag",)),
    ("tag-release", "tag_version", "tagged-version", ("tag_tagged_version",)),
)  # fmt: skip


def _named(kind: str, fault: Any) -> AfterValidator:
    def check(name: str) -> str:
        if message := fault(name):
            raise ValueError(f"must be the name of {kind}: {message}")
        return name

    return AfterValidator(or_empty(check))


def _user_fault(name: str) -> str | None:
    return None if name == BUILT_IN_USER else user_name_fault(name)


# An empty text stands for none, as clients with forms send it.
_EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)


class PipelineStep(Spec):
    """One thing that a phase does. Each type has its own fields; `type` says which type it is."""

    type: StepType
    """What the step does."""
    name: Annotated[str, Field(max_length=300), AfterValidator(no_nul)] = ""
    """The step's name, once in a phase; without it, its type and what it is about."""
    project: Annotated[str, _named("a Project", project_name_fault)] = ""
    """The project of what it is about; without it, the pipeline's own."""
    environment: Annotated[str, _named("an Environment", environment_name_fault)] = ""
    """The environment of what it is about."""
    build: Annotated[str, _named("a Build", plain_name_fault)] = ""
    """The Build to run."""
    deployment: Annotated[str, _named("a Deployment", deployment_name_fault)] = ""
    """The Deployment it is about."""
    errand_name: PlainNameOrEmpty = ""
    """The errand to run."""
    errand_inputs: Inputs = Field(default_factory=dict)
    """Values for the errand."""
    pipeline: Annotated[str, _named("a Pipeline", plain_name_fault)] = ""
    """The Pipeline to start."""
    wait_for_pipeline: bool = False
    """Whether the step lasts until that run has ended."""
    webhook_url: WebOrEmpty = ""
    """The address that is told."""
    user: Annotated[str, _named("a User", _user_fault)] = ""
    """Who may decide."""
    team: Annotated[str, _named("a Team", plain_name_fault)] = ""
    """The team whose members may decide."""
    allow_self_approval: bool | None = None
    """Whether who started the run may decide too; true if not set."""
    ignore_failure: bool = False
    """Whether the phase goes on where this step fails."""
    trigger_pipeline_on_build: bool = False
    """Whether a run of that Build by itself starts this pipeline."""
    trigger_pipeline_on_deploy: bool = False
    """Whether a deploy of that Deployment by itself starts this pipeline."""
    update_version: Annotated[
        Literal[
            "dont-update", "last-version-in-pipeline", "latest-version", "version-from-deployment-job",
            "tagged-version",
        ]
        | None,
        _EMPTY_IS_NONE,
    ] = None  # fmt: skip
    """Which version is declared before it is deployed; dont-update if not set."""
    update_version_environment: Annotated[str, _named("an Environment", environment_name_fault)] = ""
    """The environment of the Deployment whose deployed version is taken."""
    update_version_deployment: Annotated[str, _named("a Deployment", deployment_name_fault)] = ""
    """The Deployment whose deployed version is taken."""
    tag: TagOrEmpty = ""
    """The tag to set, or (deploy) the tag whose version is taken."""
    namespace: NamespaceOrEmpty = ""
    """The namespace of the release to tag."""
    application: ApplicationOrEmpty = ""
    """The application of the release to tag."""
    tag_version: Annotated[
        Literal["highest-version-in-pipeline", "last-version-in-pipeline", "tagged-version"] | None,
        _EMPTY_IS_NONE,
    ] = None
    """Which version is tagged; last-version-in-pipeline if not set."""
    tag_tagged_version: TagOrEmpty = ""
    """The tag whose version is tagged."""
    timeout_seconds: Annotated[int, Field(ge=0, le=31_622_400)] = 0
    """Seconds that the step may take; 0 means what its target may take, and a week for a confirmation."""

    @model_serializer(mode="wrap")
    def _only_what_says_something(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said = {name: value for name, value in whole(self).items() if value or value is False}
        booleans = {name for name, value in said.items() if value is False}
        use = USES[self.type]
        used = {*use.needs, *use.may}
        return dict(use.built_in) | {
            name: value for name, value in said.items() if name not in booleans or name in used
        }


def check(where: Steps, step: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults of one step: what its type needs, and what it does not have."""
    kind = step["type"]
    use = USES[kind]
    for field in use.needs:
        if not step.get(field):
            yield (*where, field), f"{field} is missing: a {kind} step needs it"
    for field in step:
        if field not in ("type", *use.needs, *use.may):
            yield (*where, field), f"a {kind} step has no {field}; remove it"
    for of, field, value, further in _WITH:
        if kind != of:
            continue
        for name in further:
            if step.get(field) == value and not step.get(name):
                yield (*where, name), f"{name} is missing: {field}: {value} needs it"
            if name in step and not _goes(kind, step, name):
                yield (*where, name), f"{name} needs {field}: {value}; write that, or remove {name}"


def _goes(kind: str, step: Mapping[str, Any], name: str) -> bool:
    return any(of == kind and step.get(field) == value for of, field, value, names in _WITH if name in names)


def names(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of a phase's steps: as written or made of type and target, and each once, by `-2`, `-3`."""
    found: list[str] = []
    for step in steps:
        name = step.get("name") or " ".join(word for word in (step["type"], _target(step)) if word)
        count = 1
        while (unique := name if count == 1 else f"{name}-{count}") in found:
            count += 1
        found.append(unique)
    return found


def _target(step: Mapping[str, Any]) -> str:
    if step.get("webhook_url"):
        return urlsplit(step["webhook_url"]).hostname or ""
    for field in ("build", "deployment", "pipeline", "team", "user", "tag"):
        if value := step.get(field):
            return str(value)
    return ""
