"""What a valid Build's specification means for those who run it: tasks with everything merged, in order.

Called by controllers and the digest. Takes and returns plain dicts, as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_TASK_BUILT_IN: dict[str, Any] = {
    "needs": [],
    "traits": [],
    "image": None,
    "network": None,
    "load": 1,
    "max_trials": 1,
    "lost_retries": 2,
    "environment_variables": {},
    "attachments": [],
    "run": None,
    "run_file": None,
    "script": None,
}


def effective_tasks(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks with built-in values, task_defaults and the build's variables and time-out merged.

    In an order in which every task comes after those it needs, otherwise as declared. All fields are there;
    `image` and `network` are None where the executor's default counts.
    """
    tasks = spec.get("tasks") or []
    order = topological([(task["name"], task.get("needs") or []) for task in tasks])
    by_name = {task["name"]: task for task in tasks}
    return [_effective(spec, by_name[name]) for name in order]


def _effective(spec: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    defaults = spec.get("task_defaults") or {}
    built_in = {**_TASK_BUILT_IN, "timeout_seconds": spec.get("timeout_seconds")}
    layers = (built_in, defaults, task)
    merged = {
        name: value
        for layer in layers
        for name, value in layer.items()
        if value is not None or layer is built_in
    }
    merged["environment_variables"] = {
        **(spec.get("environment_variables") or {}),
        **(defaults.get("environment_variables") or {}),
        **(task.get("environment_variables") or {}),
    }
    return merged


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
