"""The compact notation of a project configuration, written out (cider-ci, section 6): a job's context with
tasks and scripts that are maps throughout.

Called for jobs that the checks found valid. Merges nothing and adds no defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specs.configuration_faults import Chain
from specs.configuration_shape import COMPACT

SINGLE_TASK = "0"
"""The key of what stands as `task`."""

SINGLE_SCRIPT = "main"
"""The key of what stands as `body` of a task."""


def context_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's context: tasks, contexts, task_defaults, script_defaults, all there, and generate_tasks or
    None. `within` and `tasks_at` are the keys that led to it and to its tasks, for messages.
    """
    if "context" in job:
        return _context(job["context"], ("context",))
    own = {key: job[key] for key in COMPACT if key in job}
    if "task" not in own:
        return _context(own)
    own["tasks"] = {SINGLE_TASK: own.pop("task")}
    return {**_context(own), "tasks_at": {SINGLE_TASK: ("task",)}}


def _context(context: Mapping[str, Any], within: Chain = ()) -> dict[str, Any]:
    return {
        "within": within,
        "tasks_at": {key: ("tasks", key) for key in context.get("tasks", {})},
        "tasks": {key: _task(task) for key, task in context.get("tasks", {}).items()},
        "contexts": {key: _named(key, inner) for key, inner in context.get("contexts", {}).items()},
        "task_defaults": _task(context.get("task_defaults", {})),
        "script_defaults": _variables(context.get("script_defaults", {})),
        "generate_tasks": context.get("generate_tasks"),
    }


def _named(key: str, context: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": context.get("name", key), **_context(context, ("contexts", key))}


def _task(task: str | Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {"body": task} if isinstance(task, str) else _variables(task)
    if "body" in whole:
        whole["scripts"] = {SINGLE_SCRIPT: {"body": whole.pop("body")}}
    if "scripts" in whole:
        whole["scripts"] = {key: _script(script) for key, script in whole["scripts"].items()}
    if "script_defaults" in whole:
        whole["script_defaults"] = _variables(whole["script_defaults"])
    return whole


def _script(script: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"body": script} if isinstance(script, str) else _variables(script)


def _variables(part: Mapping[str, Any]) -> dict[str, Any]:
    """The part, its variables in upper case, so that layers of them meet."""
    if "environment_variables" not in part:
        return dict(part)
    own = {name.upper(): value for name, value in part["environment_variables"].items()}
    return {**part, "environment_variables": own}
