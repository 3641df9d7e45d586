"""The tasks of a job of a project configuration (cider-ci, section 6): contexts flattened, tasks generated
from files, defaults merged from outer to inner, names unique in the job.

Called when a job's work is made of its declaration. Knows contexts as specs.configuration_compact writes them
out, and nothing of how a task is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specs.configuration_expansion import deep_merge
from specs.configuration_faults import BadConfiguration, Chain, ConfigurationFault
from specs.configuration_matches import matches

MOST_TASKS = 1000
MOST_TRIED = 100_000
"""Files of the tree, times the rules that ask for each of them."""

TASK_FILE = "CIDER_CI_TASK_FILE"
"""The variable that tells a generated task its file."""

_BETWEEN = " » "


@dataclass(frozen=True, slots=True)
class MergedTask:
    """One task with all defaults merged into it; `scripts` are merged too, by key.

    `contexts` are the names of the contexts around it, `where` is its place among the keys.
    """

    key: str
    name: str
    contexts: Chain
    where: Chain
    task: Mapping[str, Any]
    scripts: Mapping[str, Mapping[str, Any]]


def merged_tasks(context: Mapping[str, Any], where: Chain, paths: Sequence[str]) -> list[MergedTask]:
    """The tasks of a job's context, in order; `paths` are all regular files of the tree; none is
    made of a path that cannot be printed.

    A task whose name another one has too gets the names of its contexts before it. Raises BadConfiguration
    where that is not enough, and where there are too many.
    """
    found: list[MergedTask] = []
    if len(paths) * _rules(context) > MOST_TRIED:
        message = f"`generate_tasks` would look at more than {MOST_TRIED} files; write the tasks out"
        raise BadConfiguration([ConfigurationFault(where, message)])
    for task in _of_context(context, where, (), ({}, {}), sorted(paths)):
        found.append(task)
        if len(found) > MOST_TASKS:
            raise BadConfiguration([ConfigurationFault(where, f"has more than {MOST_TASKS} tasks")])
    return _uniquely_named(found)


def _rules(context: Mapping[str, Any]) -> int:
    return (1 if context["generate_tasks"] else 0) + sum(map(_rules, context["contexts"].values()))


def _of_context(
    context: Mapping[str, Any],
    where: Chain,
    names: Chain,
    outer: tuple[Mapping[str, Any], Mapping[str, Any]],
    paths: Sequence[str],
) -> Iterator[MergedTask]:
    here = (*where, *context["within"])
    task_defaults = deep_merge(outer[0], context["task_defaults"])
    script_defaults = deep_merge(outer[1], context["script_defaults"])
    at = context["tasks_at"]
    for key, task in _with_generated(context, paths):
        whole = deep_merge(task_defaults, task)
        of_scripts = deep_merge(script_defaults, whole.get("script_defaults", {}))
        scripts = {name: deep_merge(of_scripts, script) for name, script in whole.get("scripts", {}).items()}
        yield MergedTask(
            task.get("key", key),
            task.get("name", key),
            names,
            (*here, *at.get(key, ("generate_tasks",))),
            whole,
            scripts,
        )
    for inner in context["contexts"].values():
        yield from _of_context(inner, here, (*names, inner["name"]), (task_defaults, script_defaults), paths)


def _with_generated(
    context: Mapping[str, Any], paths: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The keys and tasks of one context: those written out, then those generated that none of them is."""
    rule = context["generate_tasks"]
    generated = {
        path: {"environment_variables": {TASK_FILE: path}}
        for path in (paths if rule else ())
        if path.isprintable() and matches(rule["include_match"], rule.get("exclude_match"), path)
    }
    for key, task in context["tasks"].items():
        yield key, deep_merge(generated.pop(task.get("name", key), {}), task)
    yield from generated.items()


def _uniquely_named(tasks: list[MergedTask]) -> list[MergedTask]:
    often = Counter(task.name for task in tasks)
    names = [
        _BETWEEN.join((*task.contexts, task.name)) if often[task.name] > 1 else task.name for task in tasks
    ]
    still = Counter(names)
    faults = [
        ConfigurationFault(task.where, f'another task of the job is named "{name}" too; choose another name')
        for task, name in zip(tasks, names, strict=True)
        if still[name] > 1
    ]
    if faults:
        raise BadConfiguration(faults)
    return [replace(task, name=name) for task, name in zip(tasks, names, strict=True)]
