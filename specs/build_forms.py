"""The two forms of a Build (own-kinds): `steps` or `tasks`, which fields belong to one of them only, and
which form a Build has.

Called by the Build's cross-checks, and by the evaluation: defaults of the form that a Build does not use are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specs.meta import Key
from specs.model import SpecFault, metadata
from specs.stage_scripts import BUILD_STAGES

TASKS, STEPS = "tasks", "steps"

# Fields of the tasks form, with what they hold where they say nothing.
_OF_TASKS: Mapping[str, Any] = {
    "tasks": [],
    "task_defaults": {},
    "environment_variables": {},
    "branches": [],
    "tags": [],
    "concurrency": "queue",
    "cancel_running": False,
    "build_on_file_changes": [],
    "ignore_file_changes": [],
    "inputs": [],
    "secrets": [],
}
_OF_STEPS = ("steps", "steps_from_yml", "run_on", "remote_escape_worker_url")

# What to write instead, in the steps form.
_INSTEAD = {
    "environment_variables": "; give the steps variables",
    "build_on_file_changes": "; move it to the steps",
    "ignore_file_changes": "; move it to the steps",
    "secrets": "; name them in run_on.secrets",
}


def form(layers: Sequence[Mapping[str, Any]]) -> str | None:
    """The form that fields, strongest first, give a Build; None if they give it none."""
    for fields in layers:
        if fields.get("tasks"):
            return TASKS
        if fields.get("steps") or fields.get("steps_from_yml") is True:
            return STEPS
    return None


def unused(layers: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Fields whose defaults a Build ignores, because they belong to the form that it does not have."""
    has = form(layers)
    return frozenset(_OF_STEPS if has == TASKS else _OF_TASKS if has == STEPS else ())


def check(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """Faults between the forms."""
    steps, from_yml = spec.get("steps"), spec.get("steps_from_yml")
    if steps and from_yml:
        yield ("steps",), "steps and steps_from_yml exclude each other; keep one"
    if spec["tasks"]:
        yield from _of_tasks(spec)
    elif steps or from_yml:
        yield from _of_steps(spec, key)
    else:
        yield (
            ("tasks",),
            "tasks is missing: a Build has tasks, or at least one of steps, or steps_from_yml: true",
        )


def _of_tasks(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    for field in ("steps", "steps_from_yml"):
        if spec.get(field):
            yield (field,), f"{field} and tasks exclude each other; keep one"
    if spec.get("run_on"):
        yield (
            ("run_on",),
            "run_on belongs to the steps form; a task has traits, image, network, load and secrets itself, "
            "and task_defaults has them for all",
        )
    if spec.get("remote_escape_worker_url"):
        yield ("remote_escape_worker_url",), "remote_escape_worker_url belongs to the steps form; remove it"
    if spec.get("scripts") and not spec.get("release"):
        yield ("scripts",), "scripts go with the release that tasks make; add release, or remove scripts"
    for stage in BUILD_STAGES:
        if stage in (spec.get("scripts") or {}):
            yield ("scripts", stage), f"{stage} is not run in the tasks form; make a task of it"
    if spec.get("release") and spec["repo"] is None:
        yield ("release",), "release needs a repo; name one, or remove release"


def _of_steps(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    for field, silent in _OF_TASKS.items():
        if spec.get(field, silent) != silent:
            instead = _INSTEAD.get(field, "; remove it")
            yield (field,), f"{field} belongs to the tasks form, and this Build has steps{instead}"
    if spec["repo"] is None:
        yield ("repo",), "repo is missing: steps need a checkout"
    if key.environment is None:
        yield (
            metadata("environment"),
            "metadata.environment is missing: only a Build in the tasks form does without one",
        )
