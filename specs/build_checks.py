"""Cross-checks of a Build: what the model alone cannot see. Called by the kinds table with a valid model's
dump.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from specs.build_work import topological
from specs.model import SpecFault
from specs.nearest import did_you_mean

_NEEDS_REPO = ("poll", "webhook")


def check(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """All faults of a build that hold between its fields."""
    yield from _checkout(spec)
    yield from _scripts(spec)
    yield from _names(spec)
    yield from _triggers(spec)
    yield from _inputs(spec)


def _checkout(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    if spec["branch"] is not None and spec["branches"]:
        yield ("branches",), "branch and branches exclude each other; keep one"
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
    for index, task in enumerate(spec["tasks"]):
        if "script" in task:
            yield (
                ("tasks", index, "script"),
                "script is a file of the checkout and needs a repo; use run or run_file",
            )


def _scripts(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    for index, task in enumerate(spec["tasks"]):
        given = [name for name in ("run", "run_file", "script") if name in task]
        if not given:
            yield ("tasks", index), f'task "{task["name"]}" says nothing to do; write run, run_file or script'
        for name in given[1:]:
            yield ("tasks", index, name), f"{given[0]} and {name} exclude each other; keep one"


def _names(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    first: set[str] = set()
    for index, task in enumerate(spec["tasks"]):
        if task["name"] in first:
            yield (
                ("tasks", index, "name"),
                f'a task named "{task["name"]}" stands above; names are unique in a build',
            )
        first.add(task["name"])
    for index, task in enumerate(spec["tasks"]):
        for at, need in enumerate(task["needs"]):
            if need not in first:
                yield (
                    ("tasks", index, "needs", at),
                    f'no task is named "{need}"{did_you_mean(need, sorted(first))}',
                )
    yield from _cycle(spec)


def _cycle(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    pairs = [(task["name"], task["needs"]) for task in spec["tasks"]]
    left = {name for name, _ in pairs} - set(topological(pairs))
    if not left:
        return
    needs = dict(pairs)
    name = next(name for name, _ in pairs if name in left)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(need for need in needs[name] if need in left)
    path = [*path[path.index(name) :], name]
    index = next(i for i, (task, _) in enumerate(pairs) if task == name)
    yield ("tasks", index, "needs"), f"tasks need each other in a circle: {' → '.join(path)}"


def _triggers(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    for index, trigger in enumerate(spec["triggers"]):
        where = ("triggers", index)
        if trigger["type"] == "schedule":
            if trigger["cron"] is None and trigger["interval_seconds"] is None:
                yield where, "a schedule trigger needs cron or interval_seconds"
            if trigger["cron"] is not None and trigger["interval_seconds"] is not None:
                yield (*where, "interval_seconds"), "cron and interval_seconds exclude each other; keep one"
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
