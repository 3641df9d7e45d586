"""What a valid Build's specification means for those who run it: tasks with everything merged, one a row of
a matrix, in order.

Called by controllers, the cross-checks and the digest. Takes and returns plain dicts, as they are stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from specs.matrix import row_name, rows

MOST_TASKS = 1000
"""Of a build, after its matrices have been expanded."""

RELEASE = "release"
"""The name of the task that makes a release of what the others made."""

NOTHING_FAILED = "nothing-failed"
"""When that task starts: what was left out, as its `when` or its branches say, does not keep it from starting."""

_NO_WORD = re.compile(r"[^A-Za-z0-9_]", re.ASCII)
RETRY_ON = ("failed", "timeout", "defective")


def as_word(task: str) -> str:
    """A task's name in OUTPUT_<TASK>_<NAME>: every character that no variable may have is `_` (own-kinds)."""
    return _NO_WORD.sub("_", task)


def built_in(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task that says nothing, in a build."""
    return {
        "matrix": {},
        "needs": [],
        "when": "passed",
        "ignore_failure": False,
        "branches": [],
        "tags": [],
        "traits": [],
        "image": None,
        "network": None,
        "load": 1,
        "priority": 0,
        "exclusive": [],
        "max_trials": 1,
        "lost_retries": 2,
        "eager_trials": 1,
        "retry_on": list(RETRY_ON),
        "retry_delay_seconds": 0,
        "timeout_seconds": spec.get("timeout_seconds"),
        "environment_variables": {},
        "secrets": [],
        "attachments": [],
        "cache": [],
        "services": [],
        "packages": [],
        "repositories": {},
        "run": None,
        "run_file": None,
        "script": None,
    }


def effective_tasks(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks with built-in values, task_defaults and the build's variables and time-out merged; one for
    each row of a matrix.

    In an order in which every task comes after those it needs, otherwise as declared. All fields are there:
    `name` and `needs` are names of rows, `task` is the declared name, `matrix` the row as {axis: value};
    `image` and `network` are None where the executor's default counts.
    """
    if not spec.get("tasks"):
        return [_steps(spec)] if spec.get("steps") or spec.get("steps_from_yml") else []
    tasks = spec["tasks"]
    order = topological([(task["name"], task.get("needs") or []) for task in tasks])
    merged = {task["name"]: merge(spec, task) for task in tasks}
    names: dict[str, list[str]] = {}
    found: list[dict[str, Any]] = []
    for name in order:
        mine = _rows(merged[name], names)
        names[name] = [row["name"] for row in mine]
        found += mine
    return [*found, _release(spec, found)] if spec.get("release") else found


def _steps(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The one task of a Build in the `steps` form (design 13.9): a process that was lost is not tried again."""
    stages = {
        "type": "build",
        "steps": list(spec.get("steps") or ()),
        "steps_from_yml": bool(spec.get("steps_from_yml")),
        **released(spec),
    }
    return _of_stages(spec, "build", stages)


def _release(spec: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last task of a Build in the `tasks` form with a `release`: what its tasks made becomes one (own-kinds)."""
    step = {
        "run_build": False, "run_deploy": False, "plan_location": "", "tag_git": bool(spec.get("repo")),
    }  # fmt: skip
    stages = {"type": "build", "steps": [step], "steps_from_yml": False, "handed": True, **released(spec)}
    branch = first_branch(spec)
    only = {"branches": [branch] if branch else [], "tags": list(spec.get("tags") or ()) if branch else []}
    needs = [task["name"] for task in tasks]
    return {**_of_stages(spec, RELEASE, stages), **only, "needs": needs, "when": NOTHING_FAILED}


def released(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a Build says of its releases itself, and whom it acts as."""
    name, team = spec.get("service_account_name"), spec.get("service_account_team")
    return {
        "scripts": spec.get("scripts"),
        "release": spec.get("release"),
        "identity": f"ServiceAccount/{team}/{name}" if name and team else None,
        "worker": spec.get("remote_escape_worker_url") or None,
    }


def _of_stages(spec: Mapping[str, Any], name: str, stages: Mapping[str, Any]) -> dict[str, Any]:
    variables = dict(spec.get("environment_variables") or {})
    if spec.get("escape_auth_token_ref"):
        variables["ESCAPE_AUTH_TOKEN"] = {"secret_ref": spec["escape_auth_token_ref"]}
    own = {name: value for name, value in (spec.get("run_on") or {}).items() if value is not None}
    secrets = [*(spec.get("secrets") or ()), *(own.get("secrets") or ())]
    return {
        **built_in(spec), **own,
        "name": name, "task": name, "lost_retries": 0, "environment_variables": variables,
        "secrets": list(dict.fromkeys(secrets)), "stages": stages,
    }  # fmt: skip


def merge(spec: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """One declared task with built-in values and task_defaults, its matrix as declared."""
    defaults = spec.get("task_defaults") or {}
    merged = built_in(spec)
    for layer in (defaults, task):
        merged |= {name: value for name, value in layer.items() if value is not None}
    layers = {
        "environment_variables": (spec.get("environment_variables"), defaults.get("environment_variables")),
        "repositories": (defaults.get("repositories"),),
    }
    for name, weaker in layers.items():
        merged[name] = {}
        for values in (*weaker, task.get(name)):
            merged[name] |= values or {}
    merged["secrets"] = list(dict.fromkeys([*(spec.get("secrets") or ()), *merged["secrets"]]))
    return merged


def _rows(task: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    needs = list(dict.fromkeys(row for need in task["needs"] for row in names.get(need, ())))
    return [
        {**task, "name": row_name(task["name"], row), "task": task["name"], "matrix": row, "needs": needs}
        for row in rows(task["matrix"])
    ]


def first_branch(spec: Mapping[str, Any]) -> str | None:
    """The branch that a Build names first, a pattern is none; None: it names none, so its repository's counts."""
    plain = (name for name in spec.get("branches") or () if not any(mark in name for mark in "*?["))
    return spec.get("branch") or next(plain, None)


def topological(tasks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The names, every one after those it needs, otherwise in the given order; those of a cycle are left
    out.
    """
    names = {name for name, _ in tasks}
    waiting = {name: {need for need in needs if need in names} for name, needs in tasks}
    order: list[str] = []
    done: set[str] = set()
    while True:
        ready = next((name for name, needs in waiting.items() if needs <= done), None)
        if ready is None:
            return order
        del waiting[ready]
        done.add(ready)
        order.append(ready)
