"""The kind Build in its `tasks` form (own-kinds), as far as this version carries it out.

Fields of the contract that are not carried out yet are refused by specs.refused. The cross-checks are in
specs.build_checks; what controllers take from a build is in specs.build_work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field

from specs.build_work import effective_tasks
from specs.digest import work_digest
from specs.meta import plain_name_fault
from specs.model import Glob, Name, RelativePath, Script, Spec, Text, VariableName, Variables
from specs.repository import Branch, url_fault
from specs.schedule import check_cron, check_timezone

_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}", re.ASCII)


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


def _task_name(name: str) -> str:
    if not _TASK_NAME.fullmatch(name):
        raise ValueError("must have 1 to 100 letters, digits, _ . : and -, not beginning with . : or -")
    return name


def _cron(text: str) -> str:
    if message := check_cron(text):
        raise ValueError(message)
    return text


def _timezone(name: str) -> str:
    if message := check_timezone(name):
        raise ValueError(message)
    return name


SCRIPT_FIELDS = ("run", "run_file", "script")
"""A task has exactly one of these."""

TaskName = Annotated[str, AfterValidator(_task_name)]
Repo = Annotated[str, AfterValidator(_repo)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Interval = Annotated[int, Field(ge=1, le=366 * 86_400)]


def _unset(value: Any) -> bool:
    return value is None


class PollTrigger(Spec):
    """The branch is looked at again and again; a new head is owed a job."""

    type: Literal["poll"]
    """What kind of trigger this is."""
    interval_seconds: Interval = 60
    """Seconds between two looks."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class ScheduleTrigger(Spec):
    """Jobs at fixed times: by `cron`, or every `interval_seconds`."""

    type: Literal["schedule"]
    """What kind of trigger this is."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Five cron fields, or @hourly, @daily, @weekly, @monthly, @yearly."""
    interval_seconds: Interval | None = None
    """Seconds between two starts, counted from 1970 so that a restart does not shift them."""
    timezone: Annotated[str, AfterValidator(_timezone)] | None = None
    """The time zone of `cron`, such as Europe/Amsterdam; without it, the server's."""
    missed: Literal["once", "skip"] = "once"
    """What becomes of starts that were missed while the server was down."""
    jitter_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Starts are moved by up to so many seconds, always the same for one build, to spread load."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class WebhookTrigger(Spec):
    """A push told by the code host; a new head is owed a job."""

    type: Literal["webhook"]
    """What kind of trigger this is."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


class ChangeTrigger(Spec):
    """A changed specification is owed a job."""

    type: Literal["change"]
    """What kind of trigger this is."""
    inputs: dict[str, Text] = Field(default_factory=dict)
    """Values of the build's inputs for jobs that this trigger starts."""


Trigger = Annotated[PollTrigger | ScheduleTrigger | WebhookTrigger | ChangeTrigger, Discriminator("type")]


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


class TaskDefaults(Spec):
    """Fields of tasks that a build may set for all its tasks."""

    traits: list[Name] | None = Field(default=None, exclude_if=_unset)
    """What an executor must offer to be given this task."""
    image: Literal["host"] | None = Field(default=None, exclude_if=_unset)
    """The image to run in; without it, the executor's default."""
    network: Literal["none", "host"] | None = Field(default=None, exclude_if=_unset)
    """Whether the script reaches the network; without it, the executor's default."""
    load: Annotated[float, Field(gt=0, le=100_000)] | None = Field(default=None, exclude_if=_unset)
    """How much of an executor's max_load a trial takes; 1 if not set."""
    max_trials: Annotated[int, Field(ge=1, le=100)] | None = Field(default=None, exclude_if=_unset)
    """How often the task is tried at most; 1 if not set."""
    lost_retries: Annotated[int, Field(ge=0, le=100)] | None = Field(default=None, exclude_if=_unset)
    """Further tries after a machine or process was lost; 2 if not set."""
    timeout_seconds: Seconds | None = Field(default=None, exclude_if=_unset)
    """Seconds that one trial may take; without it, the build's."""
    environment_variables: Variables | None = Field(default=None, exclude_if=_unset)
    """Variables of the script, over those of the build."""
    attachments: list[Glob] | None = Field(default=None, exclude_if=_unset)
    """Globs of files to keep from the workspace after the script has ended."""


class Task(TaskDefaults):
    """A named part of a build that may run beside others."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in SCRIPT_FIELDS]})

    name: TaskName
    """The task's name, once in a build."""
    needs: list[TaskName] = Field(default_factory=list)
    """Tasks that must have passed before this one starts."""
    run: Script | None = Field(default=None, exclude_if=_unset)
    """A shell script, written here."""
    run_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None, exclude_if=_unset
    )
    """A file beside the specification that holds the script; with a leading /, from the source's root."""
    script: RelativePath | None = Field(default=None, exclude_if=_unset)
    """A file of the checkout to run."""


class Build(Spec):
    """Tasks that run by triggers or by hand, in a checkout of a repository or in an empty workspace."""

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
    tasks: list[Task] = Field(min_length=1, max_length=1000)
    """The parts of the build."""


def task_texts(spec: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Where a specification, valid or not, names texts beside it, and which."""
    tasks = spec.get("tasks")
    found: list[tuple[tuple[str | int, ...], str]] = []
    for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
        name = task.get("run_file") if isinstance(task, dict) else None
        if isinstance(name, str) and name:
            found.append((("tasks", index, "run_file"), name))
    return found


__all__ = [
    "Build",
    "Task",
    "TaskDefaults",
    "effective_tasks",
    "is_repository_name",
    "task_texts",
    "work_digest",
]
