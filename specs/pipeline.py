"""The kind Pipeline (escape-state, 7.9 to 7.12): phases of steps, what starts a run, and what is named on
the way.

Called by the kinds table. Never knows a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from specs import pipeline_step, references
from specs.meta import Key
from specs.model import Name, PlainNameOrEmpty, Spec, SpecFault, Steps
from specs.pipeline_step import PipelineStep
from specs.references import Reference, SpecOf
from specs.release import not_owned
from specs.schedule import check_cron, check_timezone

MOST_PHASES = 50
MOST_STEPS = 100


def _cron(text: str) -> str:
    if message := check_cron(text):
        raise ValueError(message)
    return text


def _timezone(name: str) -> str:
    if message := check_timezone(name):
        raise ValueError(message)
    return name


class PipelineTrigger(Spec):
    """An address with a code that starts a run; the server makes the code."""

    type: Literal["webhook"]
    """What kind of trigger this is."""
    name: Name
    """The trigger's name, once in a pipeline; a new name is a new code."""


class Schedule(Spec):
    """Runs at fixed times."""

    cron: Annotated[str, AfterValidator(_cron)]
    """Five cron fields, or @hourly, @daily, @weekly, @monthly, @yearly."""
    timezone: Annotated[str, AfterValidator(_timezone)] | None = None
    """The time zone of `cron`, such as Europe/Amsterdam; without it, the server's."""


class Phase(Spec):
    """Steps that run beside each other."""

    name: Name
    """The phase's name, once in a pipeline."""
    steps: list[PipelineStep] = Field(default_factory=list, max_length=MOST_STEPS)
    """What the phase does."""

    @model_serializer(mode="wrap")
    def _with_names(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        phase: dict[str, Any] = whole(self)
        names = pipeline_step.names(phase["steps"])
        steps = [{**step, "name": name} for step, name in zip(phase["steps"], names, strict=True)]
        return {**phase, "steps": steps}


class Pipeline(Spec):
    """Phases, one after the other."""

    disabled: bool = False
    """No run starts while this is true."""
    phases: list[Phase] = Field(default_factory=list, max_length=MOST_PHASES)
    """What a run does; none means a run that is right at once."""
    triggers: list[PipelineTrigger] = Field(default_factory=list, max_length=100)
    """Addresses that start a run."""
    schedules: list[Schedule] = Field(default_factory=list, max_length=100)
    """Times that start a run."""
    concurrency: Literal["queue", "replace", "allow"] = "queue"
    """What a new run does while others are there: wait, replace pending ones, or run beside."""
    timeout_seconds: Annotated[int, Field(ge=0, le=31_622_400)] = 0
    """Seconds that a run may take; 0 means as long as it needs."""
    service_account_name: PlainNameOrEmpty = ""
    """The service account that runs act as; without one, who started the run."""
    service_account_team: PlainNameOrEmpty = ""
    """The team that owns it; needed only if several teams have one of that name."""


def _steps(spec: Mapping[str, Any]) -> Iterator[tuple[Steps, Mapping[str, Any]]]:
    for at, phase in enumerate(spec["phases"]):
        for index, step in enumerate(phase["steps"]):
            yield ("phases", at, "steps", index), step


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    for field, what in (("phases", "phase"), ("triggers", "trigger")):
        names = [item["name"] for item in spec[field]]
        for at, name in enumerate(names):
            if name in names[:at]:
                yield (field, at, "name"), f'a {what} "{name}" stands above; names are unique in a pipeline'
    for where, step in _steps(spec):
        yield from pipeline_step.check(where, step)
    if spec["service_account_team"] and not spec["service_account_name"]:
        yield ("service_account_team",), "service_account_team needs service_account_name beside it"


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """What a Pipeline refers to. What it starts need not be valid: that is told when the step runs."""
    yield from references.identity(spec)
    for where, step in _steps(spec):
        yield from _of_step(where, step, key)


def _of_step(where: Steps, step: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    project, environment = step.get("project") or key.project, step.get("environment") or None
    if step.get("project"):
        yield Reference((*where, "project"), (f"Project/{project}",), usable=False)
    if environment:
        yield Reference((*where, "environment"), (f"Environment/{project}/{environment}",), usable=False)
    if environment and step.get("build"):
        keys = tuple(str(Key("Build", project, each, step["build"])) for each in (environment, None))
        yield Reference((*where, "build"), keys, usable=False)
    if environment and step.get("deployment"):
        name = str(Key("Deployment", project, environment, step["deployment"]))
        yield Reference((*where, "deployment"), (name,), usable=False)
    if step.get("update_version_deployment") and step.get("update_version_environment"):
        source = Key(
            "Deployment", project, step["update_version_environment"], step["update_version_deployment"]
        )
        yield Reference((*where, "update_version_deployment"), (str(source),), usable=False)
    if step.get("pipeline"):
        yield Reference((*where, "pipeline"), (f"Pipeline/{project}/{step['pipeline']}",), usable=False)
    if step.get("team"):
        yield Reference((*where, "team"), (f"Team/{step['team']}",))
    if step.get("user"):
        yield from references.user((*where, "user"), step["user"])
    own = Key("Pipeline", key.project, environment if project == key.project else None, key.name)
    for steps, name in references.secrets_in((*where, "errand_inputs"), step.get("errand_inputs")):
        yield references.secret(own, steps, name)


def beside(spec: Mapping[str, Any], key: Key, spec_of: SpecOf) -> Iterator[SpecFault]:
    """Faults that show in what a Pipeline names: versions of followers, namespaces of others."""
    for where, step in _steps(spec):
        if step.get("namespace"):
            owned = spec_of(f"Project/{key.project}")
            for message in not_owned(step["namespace"], key.project, owned):
                yield (*where, "namespace"), message
        environment, deployment = step.get("environment"), step.get("deployment")
        if step.get("update_version", "dont-update") != "dont-update" and environment and deployment:
            project = step.get("project") or key.project
            target = str(Key("Deployment", project, environment, deployment))
            follows = (spec_of(target) or {}).get("follow")
            if follows:
                yield (
                    (*where, "update_version"),
                    f"{target} follows {follows}, so its version is not for a pipeline to set; "
                    "remove update_version, or follow there",
                )
