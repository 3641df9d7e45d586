"""A job's specification from its declaration in a project configuration (cider-ci, sections 5 and 6): what is
kept of the job, and what its trials are run by.

Called when a job is made. Sets no variable that the run-time sets (CIDER_CI, the ids, the branch heads), and
leaves `{{NAME}}` of these as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from specs.configuration import JobDeclaration
from specs.configuration_durations import seconds
from specs.configuration_faults import MOST_FAULTS, BadConfiguration, Chain, ConfigurationFault, Faults
from specs.configuration_tasks import MergedTask, merged_tasks
from specs.configuration_variables import Unsettled, filled, merged

DEFAULT_TIMEOUT_SECONDS = 180
RESULT = "result.json"
"""The file that becomes a trial's result, in the working directory after its scripts (cider-ci 5.6)."""

MOST_SCRIPTS = 5000
MOST_CHARACTERS = 8 * 1024 * 1024
"""Of all tasks of a job, once all defaults are merged."""

_MOST_NAME_BYTES = 2_000  # what an index of PostgreSQL takes for sure

_ATTACHMENT = ("include_match", "exclude_match", "content_type")
_ATTACHMENTS = ("trial_attachments", "tree_attachments")


def work(job: JobDeclaration, paths: Sequence[str] = ()) -> dict[str, Any]:
    """The specification of a job: {tasks, timeout_seconds, configuration: {file, key, name, description,
    priority}}. `paths` are all regular files of the tree, for `generate_tasks`.

    Tasks are in the order of their names, as they are to be tried (5.7). A task has all its variables in its
    scripts. Raises BadConfiguration where the job is faulty: it is then defective, without tasks.
    """
    if job.faults:
        raise BadConfiguration(job.faults)
    faults: list[ConfigurationFault] = []
    tasks: list[dict[str, Any]] = []
    size = _Size()
    for task in merged_tasks(job.context, ("jobs", job.key), paths):
        faults += _incomplete(task)
        if len(faults) > MOST_FAULTS:
            break
        if not faults:
            tasks.append(_policy(task, faults, size))
    if faults:
        raise BadConfiguration(faults)
    tasks.sort(key=lambda policy: str(policy["name"]))
    return {"tasks": tasks, "timeout_seconds": None, "configuration": described(job)}


def described(job: JobDeclaration) -> dict[str, Any]:
    """The facts of a job that its specification keeps beside its tasks; all there is of a faulty one."""
    return {
        "file": job.file,
        "key": job.key,
        "name": job.name,
        "description": job.description,
        "priority": job.priority,
    }


class _Size:
    """How much a specification has become."""

    def __init__(self) -> None:
        self.scripts = self.characters = 0

    def add(self, scripts: Iterable[Mapping[str, Any]], where: Chain) -> None:
        for script in scripts:
            self.scripts += 1
            self.characters += len(script["run"]) + sum(
                len(name) + len(value) for name, value in script["environment_variables"].items()
            )
        if self.scripts > MOST_SCRIPTS:
            raise BadConfiguration([ConfigurationFault(where[:2], f"has more than {MOST_SCRIPTS} scripts")])
        if self.characters > MOST_CHARACTERS:
            message = f"has more than {MOST_CHARACTERS} characters in its scripts and their variables"
            raise BadConfiguration([ConfigurationFault(where[:2], message)])


def _incomplete(task: MergedTask) -> Faults:
    """What is missing although all defaults are merged."""
    if len(task.name.encode()) > _MOST_NAME_BYTES:
        message = f"has a name of more than {_MOST_NAME_BYTES} bytes with the names of its contexts"
        yield ConfigurationFault(task.where, message)
    if not task.scripts:
        yield ConfigurationFault(task.where, "has no script; write `body` or `scripts`")
    keys: set[str] = set()
    for name, script in task.scripts.items():
        where = (*task.where, "scripts", name)
        key = script.get("key", name)
        if key in keys:
            yield ConfigurationFault(where, f'another script of the task has the key "{key}" too')
        keys.add(key)
        if "body" not in script:
            yield ConfigurationFault(where, "`body` is missing")
        for when in ("start_when", "terminate_when"):
            yield from _without("script_key", script.get(when, {}), (*where, when))
    for kind in _ATTACHMENTS:
        for key in ("include_match", "content_type"):
            yield from _without(key, task.task.get(kind, {}), (*task.where, kind))


def _without(key: str, entries: Mapping[str, Mapping[str, Any]], where: Chain) -> Faults:
    for name, entry in entries.items():
        if key not in entry:
            yield ConfigurationFault((*where, name), f"`{key}` is missing")


def _policy(task: MergedTask, faults: list[ConfigurationFault], size: _Size) -> dict[str, Any]:
    of = task.task
    scripts = _scripts(task, faults)
    size.add(scripts, task.where)
    return {
        "key": task.key,
        "name": task.name,
        "description": of.get("description"),
        "scripts": scripts,
        "directory": "workspace",
        "completed_by": None,
        "max_trials": of.get("max_trials", 2),
        "eager_trials": of.get("eager_trials", 1),
        "aggregate": of.get("aggregate_state", "satisfy-any"),
        "lost_retries": 2,
        "timeout_seconds": None,
        "load": float(of.get("load", 1.0)),
        "traits": _true(of.get("traits", {})),
        "exclusive": _true(of.get("exclusive_global_resources", {})),
        "priority": of.get("priority", 0),
        "dispatch_storm_delay_seconds": seconds(of.get("dispatch_storm_delay_duration", "1 second")),
        "environment_variables": {},
        "image": None,
        "packages": [],
        "repositories": {},
        "secrets": [],
        "attachments": [],
        **{kind: _attachments(of.get(kind, {})) for kind in _ATTACHMENTS},
        "result": RESULT,
    }


def _true(flags: Mapping[str, bool]) -> list[str]:
    return [name for name, wanted in flags.items() if wanted]


def _attachments(rules: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: rule.get(key) for key in _ATTACHMENT} for rule in rules.values()]


def _scripts(task: MergedTask, faults: list[ConfigurationFault]) -> list[dict[str, Any]]:
    shared = task.task.get("environment_variables", {})
    found: list[dict[str, Any]] = []
    for name, script in task.scripts.items():
        variables = merged(shared, script.get("environment_variables", {}))
        templates = script.get("template_environment_variables", True)
        try:
            variables = filled(variables) if templates else variables
        except Unsettled as unsettled:
            where = (*task.where, "scripts", name, "environment_variables")
            faults.append(ConfigurationFault(where, str(unsettled)))
        found.append(
            {
                "name": script.get("key", name),
                "title": script.get("name", name),
                "description": script.get("description"),
                "run": script["body"],
                "start_when": _conditions(script.get("start_when", {})),
                "terminate_when": _conditions(script.get("terminate_when", {})),
                "timeout_seconds": seconds(script["timeout"])
                if "timeout" in script
                else DEFAULT_TIMEOUT_SECONDS,
                "environment_variables": variables,
                "template_environment_variables": templates,
                "ignore_abort": script.get("ignore_abort", False),
                "ignore_state": script.get("ignore_state", False),
                "exclusive": script.get("exclusive_executor_resource"),
            }
        )
    return found


def _conditions(conditions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"script": each["script_key"], "states": list(dict.fromkeys(each.get("states", ["passed"])))}
        for each in conditions.values()
    ]
