"""The kind Build (own-kinds; escape-state, 7.1), in its `tasks` form or its `steps` form.

Called by the kinds table. Tasks, steps, releases, scripts and triggers have modules of their own; the
cross-checks are in specs.build_checks, specs.build_forms and specs.task_checks; what controllers take from a
build is in specs.build_work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from specs import references, run_on
from specs.build_step import MOST_STEPS, BuildStep
from specs.build_work import MOST_TASKS, effective_tasks
from specs.digest import work_digest
from specs.meta import Key, plain_name_fault
from specs.model import Glob, PlainNameOrEmpty, Spec, SpecFault, Steps, Text, VariableName, WebOrEmpty
from specs.references import Reference, SecretName, SpecOf, Variables
from specs.release import Release, not_owned
from specs.repository import Branch, url_fault
from specs.run_on import RunOn
from specs.stage_scripts import StageScripts, script_texts
from specs.task import Priority, Task, TaskDefaults
from specs.triggers import Trigger

# Fields that are left out of a specification where they say nothing, as most Builds have none of them.
_SILENT = frozenset(
    {
        "secrets", "steps", "steps_from_yml", "scripts", "release", "run_on", "service_account_name",
        "service_account_team", "private_key_ref", "escape_auth_token_ref", "remote_escape_worker_url",
        "webhook_rotation",
    }
)  # fmt: skip


def is_repository_name(repo: str) -> bool:
    """Whether `repo` is a Repository's name rather than an address."""
    return ":" not in repo and "/" not in repo


def _repo(repo: str) -> str:
    message = plain_name_fault(repo) if is_repository_name(repo) else url_fault(repo)
    if message:
        raise ValueError(
            message if message.startswith("must") else f"must be a Repository or an address: {message}"
        )
    return repo


Repo = Annotated[str, AfterValidator(_repo)]


class BuildInput(Spec):
    """A value that is given by hand or by a trigger; scripts see it as INPUT_<id>."""

    id: VariableName
    """The input's name."""
    default: Text | None = None
    """The value where none is given; without it, one must be given."""
    items: list[Text] = Field(default_factory=list)
    """The values that are allowed; empty means any."""
    description: Text = ""
    """What the input is for, in a sentence for people."""


class Build(Spec):
    """Tasks, or steps that make releases; run by triggers or by hand, in a checkout of a repository or (tasks
    only) in an empty workspace.
    """

    repo: Repo | None = None
    """A Repository of the project, an address, or nothing: then the workspace is empty."""
    branch: Branch | None = None
    """The branch to build; without it, the repository's."""
    branches: list[Glob] = Field(default_factory=list)
    """Globs of branches; every matching new head is owed a job. Not together with branch."""
    tags: list[Glob] = Field(default_factory=list)
    """Globs of tags; every matching new tag is owed a job, unless its tree has one already."""
    disabled: bool = False
    """Nothing starts by itself while this is true."""
    concurrency: Literal["queue", "replace", "allow"] = "queue"
    """What a new job does while others of the same branch are there: wait, replace pending ones, or run
    beside.
    """
    cancel_running: bool = False
    """With `concurrency: replace`, a new job also ends older ones of its branch that are running."""
    priority: Priority = 0
    """Among jobs of one project that could start, the higher one does first."""
    environment_variables: Variables = Field(default_factory=dict)
    """Variables of all tasks' scripts."""
    timeout_seconds: Annotated[int, Field(ge=10, le=86_400)] = 3600
    """Seconds that a job may take, and a trial where its task does not say."""
    triggers: list[Trigger] = Field(default_factory=list)
    """What starts jobs; none means by hand only."""
    build_on_file_changes: list[Glob] = Field(default_factory=list)
    """A new head is owed a job only if a file that fits one of these has changed; empty means any."""
    ignore_file_changes: list[Glob] = Field(default_factory=list)
    """Changes of files that fit one of these do not count."""
    inputs: list[BuildInput] = Field(default_factory=list)
    """Values that are given by hand or by a trigger."""
    task_defaults: TaskDefaults = Field(default_factory=TaskDefaults)
    """Fields for all tasks that do not set them themselves."""
    tasks: list[Task] = Field(default_factory=list, min_length=1, max_length=MOST_TASKS)
    """The parts of the build, in the tasks form."""
    secrets: list[SecretName] = Field(default_factory=list)
    """Secrets whose keys and files all tasks are given."""
    steps: list[BuildStep] = Field(default_factory=list, max_length=MOST_STEPS)
    """What is done one after the other in one checkout, in the steps form."""
    steps_from_yml: bool = False
    """Whether the steps are read from escapekit.yml in the checkout instead."""
    scripts: StageScripts | None = None
    """Scripts of stages, and errands, that go before those of the plan."""
    release: Release | None = None
    """The release that is made, where no plan file says so."""
    run_on: RunOn | None = None
    """Where the steps run, and the keys and files they are given."""
    service_account_name: PlainNameOrEmpty = ""
    """The service account that jobs act as; with its team."""
    service_account_team: PlainNameOrEmpty = ""
    """The team that owns it."""
    private_key_ref: SecretName | None = None
    """The name of the Secret that holds the SSH key to fetch with; without it, the Repository's."""
    escape_auth_token_ref: SecretName | None = None
    """The name of the Secret that holds the token which the build's own tools use."""
    remote_escape_worker_url: WebOrEmpty = ""
    """A worker that the steps are handed to."""
    webhook_rotation: Annotated[int, Field(ge=0, le=2**31)] = 0
    """Raising it makes a new webhook_token; the old one is worth nothing from then on."""

    @model_serializer(mode="wrap")
    def _without_what_is_silent(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        spec: dict[str, Any] = whole(self)
        for name in _SILENT:
            if not spec[name]:
                del spec[name]
        return spec


def named(merged: Mapping[str, Any], key: Key) -> Mapping[str, Any]:
    """Fields whose built-in value is the Build's name: the application of its release."""
    release = merged.get("release")
    if not isinstance(release, Mapping) or "application" in release:
        return {}
    return {"release": {**release, "application": key.name}}


def foreign(spec: Mapping[str, Any], key: Key, spec_of: SpecOf) -> Iterator[SpecFault]:
    """A release in a namespace that its project does not own."""
    if release := spec.get("release"):
        project = spec_of(f"Project/{key.project}")
        for message in not_owned(release["namespace"], key.project, project):
            yield ("release", "namespace"), message


def secrets(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Secrets that a Build names."""
    found = list(references.secrets_in(("environment_variables",), spec["environment_variables"]))
    found += [(("secrets", at), name) for at, name in enumerate(spec.get("secrets") or ())]
    for field in ("private_key_ref", "escape_auth_token_ref"):
        if spec.get(field):
            found.append(((field,), spec[field]))
    found += _task_secrets(("task_defaults",), spec["task_defaults"])
    for index, task in enumerate(spec["tasks"]):
        found += _task_secrets(("tasks", index), task)
    yield from (references.secret(key, steps, name) for steps, name in found)
    yield from run_on.secrets(spec, key)


def _task_secrets(where: Steps, task: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    yield from references.secrets_in((*where, "environment_variables"), task.get("environment_variables"))
    yield from (((*where, "secrets", at), name) for at, name in enumerate(task.get("secrets") or ()))
    for at, service in enumerate(task.get("services") or ()):
        place = (*where, "services", at, "environment_variables")
        yield from references.secrets_in(place, service["environment_variables"])


def build_texts(spec: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Where a specification, valid or not, names texts beside it, and which."""
    for index, task in enumerate(_list(spec.get("tasks"))):
        name = task.get("run_file") if isinstance(task, dict) else None
        if isinstance(name, str) and name:
            yield ("tasks", index, "run_file"), name
    if "scripts" in spec:
        yield from script_texts(("scripts",), spec["scripts"])
    for index, step in enumerate(_list(spec.get("steps"))):
        if isinstance(step, dict):
            yield from script_texts(("steps", index, "scripts"), step.get("scripts"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


__all__ = [
    "Build",
    "Task",
    "TaskDefaults",
    "effective_tasks",
    "is_repository_name",
    "work_digest",
]
