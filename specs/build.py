"""The kind Build in its `tasks` form (own-kinds), as far as this version carries it out.

Called by the kinds table. Fields of the contract that are not carried out yet are refused by specs.refused.
Tasks and triggers have modules of their own; the cross-checks are in specs.build_checks and
specs.task_checks; what controllers take from a build is in specs.build_work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from specs.build_work import MOST_TASKS, effective_tasks
from specs.digest import work_digest
from specs.meta import plain_name_fault
from specs.model import Glob, Spec, Text, VariableName, Variables
from specs.repository import Branch, url_fault
from specs.task import Priority, Task, TaskDefaults
from specs.triggers import Trigger


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
    tasks: list[Task] = Field(min_length=1, max_length=MOST_TASKS)
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
