"""Cross-checks of a Build's tasks: what the model alone cannot see of one task, or between several.

Called by specs.build_checks with a valid model's dump. Faults of what task_defaults hold are told there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specs.build_work import MOST_TASKS, RETRY_ON, as_word, built_in, topological
from specs.matrix import Row, faults, row_name, rows
from specs.model import SpecFault, Steps
from specs.nearest import did_you_mean

LONGEST_NAME = 200

_BUILT_IN = built_in({})
_POLICY = ("when", "max_trials", "eager_trials", "exclusive", "retry_on")

Task = Mapping[str, Any]


def check(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """All faults of a build's tasks."""
    yield from _in_parts(("task_defaults",), spec["task_defaults"])
    for index, task in enumerate(spec["tasks"]):
        yield from _script(("tasks", index), task)
        yield from _in_parts(("tasks", index), task)
        yield from _policy(spec, index, task)
    expanded = [_rows_of(_effective(spec, task, "matrix")) for task in spec["tasks"]]
    yield from _names(spec, expanded)
    yield from _cycle(spec)
    yield from _row_names(spec, expanded)


def place(spec: Mapping[str, Any], index: int, field: str) -> Steps:
    """Where a task's field stands: in the task, or in task_defaults."""
    return ("tasks", index, field) if field in spec["tasks"][index] else ("task_defaults", field)


def _effective(spec: Mapping[str, Any], task: Task, field: str) -> Any:
    """A field of a task, of task_defaults, or the built-in value; only those fields that are not merged."""
    value = task.get(field, spec["task_defaults"].get(field))
    return _BUILT_IN[field] if value is None else value


def _script(where: Steps, task: Task) -> Iterator[SpecFault]:
    given = [name for name in ("run", "run_file", "script") if name in task]
    if not given:
        yield where, f'task "{task["name"]}" says nothing to do; write run, run_file or script'
    for name in given[1:]:
        yield (*where, name), f"{given[0]} and {name} exclude each other; keep one"


def _in_parts(where: Steps, task: Task) -> Iterator[SpecFault]:
    """Faults inside single fields, of a task or of task_defaults."""
    for steps, message in faults(task["matrix"]) if "matrix" in task else ():
        yield (*where, "matrix", *steps), message
    for field in ("exclusive", "retry_on", "secrets"):
        yield from _twice((*where, field), task.get(field) or ())
    yield from _caches((*where, "cache"), task.get("cache") or ())
    yield from _services((*where, "services"), task.get("services") or ())


def _twice(where: Steps, values: Sequence[str]) -> Iterator[SpecFault]:
    for at, value in enumerate(values):
        if value in values[:at]:
            yield (*where, at), f'"{value}" stands in {where[-1]} twice; remove one'


def _caches(where: Steps, caches: Sequence[Task]) -> Iterator[SpecFault]:
    keys = [cache["key"] for cache in caches]
    for at, cache in enumerate(caches):
        if cache["key"] in keys[:at]:
            yield (*where, at, "key"), f'a cache "{cache["key"]}" stands above; put the paths together'
        yield from _twice((*where, at, "paths"), cache["paths"])


def _services(where: Steps, services: Sequence[Task]) -> Iterator[SpecFault]:
    names = [service["name"] for service in services]
    for at, service in enumerate(services):
        if service["name"] in names[:at]:
            message = f'a service named "{service["name"]}" stands above; names are unique in a task'
            yield (*where, at, "name"), message
        if service["image"] is None and service["run"] is None:
            yield (*where, at), f'service "{service["name"]}" says nothing to start; write image or run'
        if service["image"] is not None and service["run"] is not None:
            yield (*where, at, "run"), "image and run exclude each other; keep one"


def _policy(spec: Mapping[str, Any], index: int, task: Task) -> Iterator[SpecFault]:
    """Faults between a task's fields and those of task_defaults."""
    if task.keys().isdisjoint(_POLICY) and spec["task_defaults"].keys().isdisjoint(_POLICY):
        return
    name = task["name"]
    when, most, eager, exclusive, retry_on = (_effective(spec, task, field) for field in _POLICY)
    if when != "passed" and not task["needs"]:
        message = f'task "{name}" needs no other, so when: {when} says nothing; add needs, or remove when'
        yield place(spec, index, "when"), message
    if eager > most:
        message = f'task "{name}" has eager_trials {eager} but max_trials {most}; raise max_trials to {eager}'
        yield place(spec, index, "eager_trials"), message
    if eager > 1 and exclusive:
        message = (
            f'task "{name}" has eager_trials {eager} and exclusive, but trials side by side cannot hold the same '
            "lock; remove one of the two"
        )
        yield place(spec, index, "eager_trials"), message
    if not retry_on and most > 1:
        message = (
            f'task "{name}" retries on nothing but has max_trials {most}; '
            f"set max_trials to 1, or name some of {', '.join(RETRY_ON)}"
        )
        yield place(spec, index, "retry_on"), message


def _rows_of(matrix: Mapping[str, Any]) -> list[Row]:
    """The rows of a matrix; none where it is faulty."""
    return [] if matrix and any(faults(matrix)) else rows(matrix)


def _names(spec: Mapping[str, Any], expanded: list[list[Row]]) -> Iterator[SpecFault]:
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
                yield ("tasks", index, "needs", at), _no_task(spec, expanded, need, sorted(first))
    yield from _outputs(spec, expanded)


def _outputs(spec: Mapping[str, Any], expanded: list[list[Row]]) -> Iterator[SpecFault]:
    """Names of needed tasks, and of rows, whose outputs a script could not tell apart."""
    names: dict[str, list[str]] = {}
    for task, of_task in zip(spec["tasks"], expanded, strict=True):
        names[task["name"]] = [row_name(task["name"], row) for row in of_task]
    for index, task in enumerate(spec["tasks"]):
        first: dict[str, str] = {}
        for at, need in enumerate(task["needs"]):
            for name in names.get(need, ()):
                alike = first.setdefault(as_word(name), name)
                if alike != name:
                    word = f"OUTPUT_{as_word(name)}_…"
                    message = f'the outputs of "{alike}" and "{name}" would both be {word}; rename one'
                    yield ("tasks", index, "needs", at), message
                    break


def _no_task(spec: Mapping[str, Any], expanded: list[list[Row]], need: str, known: list[str]) -> str:
    for task, of_task in zip(spec["tasks"], expanded, strict=True):
        if any(row_name(task["name"], row) == need for row in of_task):
            return f'"{need}" is a row of the task "{task["name"]}"; write {task["name"]}, which means all its rows'
    return f'no task is named "{need}"{did_you_mean(need, known)}'


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


def _row_names(spec: Mapping[str, Any], expanded: list[list[Row]]) -> Iterator[SpecFault]:
    """Faults of the names that rows get, and of their number."""
    total = sum(len(of_task) for of_task in expanded)
    if total > MOST_TASKS:
        yield ("tasks",), f"the matrices make {total} tasks of these; a build has at most {MOST_TASKS}"
        return
    first: dict[str, tuple[str, Row]] = {}
    for index, of_task in enumerate(expanded):
        for row in of_task:
            task = spec["tasks"][index]["name"]
            name = row_name(task, row)
            other, other_row = first.setdefault(name, (task, row))
            where = place(spec, index, "matrix") if row else ("tasks", index, "name")
            if len(name) > LONGEST_NAME:
                message = f"the row {_shown(task, row)} would have a name of {len(name)} characters; "
                yield (
                    where,
                    f"{message}at most {LONGEST_NAME} are allowed, so shorten the task's name or the values",
                )
                break
            if (other, other_row) != (task, row) and (row or other_row):
                both = f"{_shown(other, other_row)} and {_shown(task, row)}"
                yield where, f'{both} would both be named "{name}"; rename one'
                break


def _shown(task: str, row: Row) -> str:
    if not row:
        return f'task "{task}"'
    values = ", ".join(f"{name}: {value}" for name, value in row.items())
    return f'task "{task}" with {values}' if len(values) <= 120 else f'task "{task}" with {values[:120]}…'
