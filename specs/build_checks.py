"""Cross-checks of a Build: what the model alone cannot see. Called by the kinds table with a valid model's
dump. Those of its tasks are in specs.task_checks, those between its forms in specs.build_forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from specs import build_forms, references, release, run_on, task_checks
from specs.meta import Key
from specs.model import SpecFault
from specs.nearest import did_you_mean

_NEEDS_REPO = ("poll", "webhook")


def check(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """All faults of a build that hold between its fields."""
    yield from build_forms.check(spec, key)
    yield from references.identity_faults(spec)
    yield from references.twice(("secrets",), spec.get("secrets") or [])
    yield from run_on.check(spec)
    yield from release.check(spec.get("release") or {})
    yield from _checkout(spec)
    yield from task_checks.check(spec)
    yield from _triggers(spec)
    yield from _inputs(spec)


def _checkout(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    if spec["branch"] is not None and spec["branches"]:
        yield ("branches",), "branch and branches exclude each other; keep one"
    if spec["cancel_running"] and spec["concurrency"] != "replace":
        yield (
            ("cancel_running",),
            f"cancel_running needs concurrency: replace, not {spec['concurrency']}; write that, or remove "
            "cancel_running",
        )
    if spec["repo"] is not None:
        return
    for name in ("branch", "branches", "tags", "build_on_file_changes", "ignore_file_changes"):
        if spec[name]:
            yield (name,), f"{name} needs a repo; name one, or remove {name}"
    for index, trigger in enumerate(spec["triggers"]):
        if trigger["type"] in _NEEDS_REPO:
            yield (
                ("triggers", index, "type"),
                f"a {trigger['type']} trigger needs a repo; name one, or remove the trigger",
            )
    for where, task in (
        (("task_defaults",), spec["task_defaults"]),
        *((("tasks", index), task) for index, task in enumerate(spec["tasks"])),
    ):
        for name in ("branches", "tags"):
            if task.get(name):
                yield (*where, name), f"{name} needs a repo; name one, or remove {name}"
        if "script" in task:
            yield (*where, "script"), "script is a file of the checkout and needs a repo; use run or run_file"


def _triggers(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    for index, trigger in enumerate(spec["triggers"]):
        where = ("triggers", index)
        if trigger["type"] == "schedule":
            if trigger["cron"] is None and trigger["interval_seconds"] is None:
                yield where, "a schedule trigger needs cron or interval_seconds"
            if trigger["cron"] is not None and trigger["interval_seconds"] is not None:
                yield (*where, "interval_seconds"), "cron and interval_seconds exclude each other; keep one"
        if trigger["type"] == "build":
            for at, name in enumerate(trigger["builds"]):
                if name in trigger["builds"][:at]:
                    yield (*where, "builds", at), f'"{name}" stands in builds twice; remove one'
        yield from _trigger_inputs(spec, index, trigger)


def _trigger_inputs(spec: Mapping[str, Any], index: int, trigger: Mapping[str, Any]) -> Iterator[SpecFault]:
    declared = {item["id"]: item for item in spec["inputs"]}
    for name, value in trigger["inputs"].items():
        where = ("triggers", index, "inputs", name)
        if name not in declared:
            yield where, f'this build has no input "{name}"{did_you_mean(name, declared)}'
        elif declared[name]["items"] and value not in declared[name]["items"]:
            yield where, f'"{value}" is not one of {", ".join(declared[name]["items"])}'
    for name, item in declared.items():
        if item["default"] is None and name not in trigger["inputs"]:
            message = f'input "{name}" has no default, so this trigger must give it: inputs: {{{name}: …}}'
            yield ("triggers", index), message


def _inputs(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    seen: set[str] = set()
    for index, item in enumerate(spec["inputs"]):
        if item["id"] in seen:
            yield ("inputs", index, "id"), f'an input "{item["id"]}" stands above; ids are unique in a build'
        seen.add(item["id"])
        if item["items"] and item["default"] is not None and item["default"] not in item["items"]:
            yield (
                ("inputs", index, "default"),
                f'"{item["default"]}" is not one of {", ".join(item["items"])}',
            )
