"""A task of a Build (own-kinds, the `tasks` form): a named part that may run beside others.

Called by the Build's model. The cross-checks are in specs.task_checks; what a task means with everything
merged is in specs.build_work.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from specs.executor import ImageName
from specs.globs import check_glob
from specs.matrix import Matrix
from specs.model import Glob, Name, RelativePath, Script, Spec, no_nul
from specs.references import SecretName, Variables

SCRIPT_FIELDS = ("run", "run_file", "script")
"""A task has exactly one of these."""

MOST_SERVICES = 10

_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:@/=~-]{0,199}", re.ASCII)
_FILES = re.compile(r"\{files:([^{}]*)\}")


def _task_name(name: str) -> str:
    if not _TASK_NAME.fullmatch(name):
        raise ValueError("must have 1 to 100 letters, digits, _ . : and -, not beginning with . : or -")
    return name


def _service_name(name: str) -> str:
    if name == "run":
        raise ValueError("must not be run, which is the name of the task's own script; choose another name")
    return _task_name(name)


def _package(name: str) -> str:
    if not _PACKAGE.fullmatch(name):
        raise ValueError(
            "must have 1 to 200 letters, digits and + . _ : @ / = ~ -, beginning with a letter or digit"
        )
    return name


def _source(text: str) -> str:
    if text.startswith("-"):
        raise ValueError("must not begin with -, which would make it an option of the image's add_repository")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("must not hold control characters")
    return text


def _cache_key(key: str) -> str:
    for pattern in _FILES.findall(key):
        if message := check_glob(pattern):
            raise ValueError(f"has the glob {{files:{pattern}}}, which {message}")
    if "{" in _FILES.sub("", key) or "}" in _FILES.sub("", key):
        raise ValueError(
            "must hold braces only as {files:GLOB}, which stands for the content of files that fit"
        )
    return key


def _cache_path(path: str) -> str:
    plain = posixpath.normpath(path)
    if plain == ".":
        raise ValueError("must not be the workspace itself; name a folder inside it")
    if ".git" in plain.split("/"):
        raise ValueError("must not be in .git; name a folder of the workspace")
    return plain


def _inside_workspace(path: str) -> str:
    if path.startswith(("/", "~")) or ".." in path.split("/"):
        raise ValueError("must be a relative path inside the workspace, without ..")
    return path


TaskName = Annotated[str, AfterValidator(_task_name)]
PackageName = Annotated[str, AfterValidator(_package)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Priority = Annotated[int, Field(ge=-100, le=100)]
CachePath = Annotated[
    str,
    Field(min_length=1, max_length=1000),
    AfterValidator(no_nul),
    AfterValidator(_inside_workspace),
    AfterValidator(_cache_path),
]


class Cache(Spec):
    """Folders of the workspace that later trials with the same key find again."""

    key: Annotated[
        str, Field(min_length=1, max_length=200), AfterValidator(no_nul), AfterValidator(_cache_key)
    ]
    """The cache's name; `{files:GLOB}` in it stands for the content of the files that fit."""
    paths: list[CachePath] = Field(min_length=1, max_length=100)
    """Files and folders to keep, from the workspace."""


class Service(Spec):
    """A process beside the script: started before it, reached at localhost, ended with it."""

    name: Annotated[str, AfterValidator(_service_name)]
    """The service's name, once in a task; its log has this name."""
    image: ImageName | None = None
    """The image that is started, with the command it brings."""
    run: Script | None = None
    """A shell script that is started in the task's image and workspace."""
    ready: Script | None = None
    """A shell command that succeeds once the service can be used; without it, it can be used at once."""
    environment_variables: Variables = Field(default_factory=dict)
    """Variables of the service."""


class TaskDefaults(Spec):
    """Fields of tasks that a build may set for all its tasks."""

    matrix: Matrix | None = None
    """The task runs once for each combination of these values. A task's own matrix replaces that of
    task_defaults; {} means none.
    """
    when: Literal["passed", "failed", "always"] | None = None
    """How the tasks that this one needs must have ended for it to start; passed if not set. After a cancel, and when
    the build's time is over, nothing starts any more, whatever this says.
    """
    ignore_failure: bool | None = None
    """A failure counts as passed, for the build and for tasks that need this one; false if not set."""
    branches: list[Glob] | None = None
    """Globs of branches; on others the task is skipped."""
    tags: list[Glob] | None = None
    """Globs of tags; on others, and on branches that no glob of branches fits, the task is skipped."""
    traits: list[Name] | None = None
    """What an executor must offer to be given this task."""
    image: ImageName | None = None
    """The image to run in, one of an executor; without it, the executor's default."""
    network: Literal["none", "host"] | None = None
    """Whether the script reaches the network; without it, the executor's default."""
    load: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """How much of an executor's max_load a trial takes; 1 if not set."""
    priority: Priority | None = None
    """Among the tasks of a job that could start, the higher one does first; 0 if not set."""
    exclusive: list[Name] | None = None
    """Named locks, each held by one trial at a time over the whole installation. A trial takes all of its
    locks at once or none, so it holds nothing while it waits.
    """
    max_trials: Annotated[int, Field(ge=1, le=100)] | None = None
    """How often the task is tried at most; 1 if not set."""
    lost_retries: Annotated[int, Field(ge=0, le=100)] | None = None
    """Further tries after a machine or process was lost; 2 if not set."""
    eager_trials: Annotated[int, Field(ge=1, le=20)] | None = None
    """How many trials are started side by side; the first that passes counts. 1 if not set."""
    retry_on: list[Literal["failed", "timeout", "defective"]] | None = None
    """Which ends of a trial are tried again; all three if not set."""
    retry_delay_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Seconds before a further try; doubles each time up to an hour. 0 if not set."""
    timeout_seconds: Seconds | None = None
    """Seconds that one trial may take; without it, the build's."""
    environment_variables: Variables | None = None
    """Variables of the script, over those of the build."""
    secrets: list[SecretName] | None = None
    """Secrets whose keys and files the script is given, beside those of the build. A value goes into
    environment_variables instead.
    """
    attachments: list[Glob] | None = None
    """Globs of files to keep from the workspace after the script has ended."""
    cache: list[Cache] | None = None
    """Folders that are brought back from earlier trials, and kept when a trial has passed."""
    services: Annotated[list[Service], Field(max_length=MOST_SERVICES)] | None = None
    """Processes beside the script: a database, say."""
    packages: list[PackageName] | None = None
    """Packages that the image's `install` command is given before the script runs; an addition to the
    contract's fields.
    """
    repositories: (
        dict[PackageName, Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_source)]]
        | None
    ) = None
    """Package sources by name, which the image's `add_repository` command is given before the packages are
    installed; an addition to the contract's fields. Those of task_defaults count too.
    """

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if value is not None}


class Task(TaskDefaults):
    """A named part of a build that may run beside others."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in SCRIPT_FIELDS]})

    name: TaskName
    """The task's name, once in a build."""
    needs: list[TaskName] = Field(default_factory=list)
    """Tasks that must have ended as `when` says before this one starts; all rows of one with a matrix."""
    run: Script | None = None
    """A shell script, written here."""
    run_file: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """A file beside the specification that holds the script; with a leading /, from the source's root."""
    script: RelativePath | None = None
    """A file of the checkout to run."""
