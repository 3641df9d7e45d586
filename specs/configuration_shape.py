"""The keys of a project configuration and what may stand at each (cider-ci, section 6): the tables that its
checks are made of.

Called when a configuration is read, on what is left once everything has been included. What is required of
tasks and scripts only after defaults have been merged is asked for where that is done.
"""

from __future__ import annotations

import re
from typing import Any

from specs.configuration_checks import (
    Check,
    both,
    branch_expression,
    choice,
    duration,
    duration_up_to,
    either,
    expression,
    fault,
    flag,
    keys,
    list_of,
    map_of,
    name,
    number_above_zero,
    text,
    text_up_to,
    whole,
)
from specs.configuration_conditions import JOB_STATES, cron_fault
from specs.configuration_faults import Chain, Faults
from specs.model import RESERVED_PREFIX, variable_shape_fault

LONGEST_BODY = 10_240
SCRIPT_STATES = ("pending", "waiting", "executing", "passed", "failed", "aborted", "defective", "skipped")
AGGREGATES = ("satisfy-any", "satisfy-last")

LONGEST_STORM_DELAY = 3600
"""In seconds: so far back is looked for what an executor was given last."""

_LONGEST_DESCRIPTION = 10_000
_WORD = r"[A-Za-z0-9!#$&^_.+-]+"
_MEDIA_TYPE = re.compile(rf'{_WORD}/{_WORD}(?: *; *{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*')


def _short(where: Chain, value: Any) -> Faults:
    if isinstance(value, str) and len(value) > _LONGEST_DESCRIPTION:
        yield from fault(where, f"must have at most {_LONGEST_DESCRIPTION} characters")


_PRIORITY = whole(-1_000_000, 1_000_000)
_DESCRIPTION = both(text, _short)


def _variable(where: Chain, key: Any) -> Faults:
    message = variable_shape_fault(key)
    if message is None and key.upper().startswith(RESERVED_PREFIX):
        message = f"variables that begin with {RESERVED_PREFIX} are set by Steersman; choose another name"
    if message:
        yield from fault(where, message)


def _value(where: Chain, value: Any) -> Faults:
    if value is not None:
        yield from text(where, value)


def _one_case(where: Chain, value: Any) -> Faults:
    seen: dict[str, str] = {}
    for key in value if isinstance(value, dict) else ():
        if key.upper() in seen:
            yield from fault(where, f"{seen[key.upper()]} and {key} are one variable; keep one")
        seen[key.upper()] = key


_VARIABLES = both(map_of(_value, _variable), _one_case)

# Scripts.

_SCRIPT_CONDITION = keys({"script_key": name, "states": list_of(choice(SCRIPT_STATES), at_least=1)})
_SCRIPT_DEFAULT_KEYS: dict[str, Check] = {
    "description": _DESCRIPTION,
    "body": text_up_to(LONGEST_BODY),
    "environment_variables": _VARIABLES,
    "timeout": duration,
    "start_when": map_of(_SCRIPT_CONDITION),
    "terminate_when": map_of(_SCRIPT_CONDITION),
    "exclusive_executor_resource": name,
    "ignore_abort": flag,
    "ignore_state": flag,
    "template_environment_variables": flag,
}
_SCRIPT_KEYS: dict[str, Check] = {"key": name, "name": name, **_SCRIPT_DEFAULT_KEYS}
_SCRIPTS = map_of(
    either((str, text_up_to(LONGEST_BODY)), (dict, keys(_SCRIPT_KEYS)), otherwise="a text or a map")
)
_SCRIPT_DEFAULTS = keys(_SCRIPT_DEFAULT_KEYS)

# Tasks.


def _content_type(where: Chain, value: Any) -> Faults:
    if isinstance(value, str) and not _MEDIA_TYPE.fullmatch(value):
        yield from fault(where, "must be a media type such as text/plain or text/html; charset=utf-8")
    else:
        yield from text_up_to(200)(where, value)


def _no_submodules(where: Chain, _value: Any) -> Faults:
    yield from fault(where, "submodules are not checked out by this server; remove it")


_ATTACHMENTS = map_of(
    keys({"include_match": expression, "exclude_match": expression, "content_type": _content_type})
)
_TASK_DEFAULT_KEYS: dict[str, Check] = {
    "description": _DESCRIPTION,
    "aggregate_state": choice(AGGREGATES),
    "max_trials": whole(1, 100),
    "eager_trials": whole(1, 100),
    "priority": _PRIORITY,
    "load": number_above_zero(100_000),
    "traits": map_of(flag),
    "exclusive_global_resources": map_of(flag),
    "environment_variables": _VARIABLES,
    "git_options": _no_submodules,
    "dispatch_storm_delay_duration": duration_up_to(LONGEST_STORM_DELAY),
    "body": text_up_to(LONGEST_BODY),
    "scripts": _SCRIPTS,
    "script_defaults": _SCRIPT_DEFAULTS,
    "trial_attachments": _ATTACHMENTS,
    "tree_attachments": _ATTACHMENTS,
}
_TASK_KEYS: dict[str, Check] = {"key": name, "name": name, **_TASK_DEFAULT_KEYS}
_TASK_LEFT_OUT = ("ports", "templates")
_OF_A_SCRIPT = {
    key: "it is a key of a script: write it below `scripts` or in `script_defaults`"
    for key in _SCRIPT_KEYS
    if key not in _TASK_KEYS
}


def _one_body(where: Chain, value: Any) -> Faults:
    if isinstance(value, dict) and "body" in value and "scripts" in value:
        yield from fault(where, "has `body` beside `scripts`; write the body as one of the scripts")


_TASK = either(
    (str, text_up_to(LONGEST_BODY)),
    (dict, both(keys(_TASK_KEYS, left_out=_TASK_LEFT_OUT, hints=_OF_A_SCRIPT), _one_body)),
    otherwise="a text or a map",
)
_TASK_DEFAULTS = both(keys(_TASK_DEFAULT_KEYS, left_out=_TASK_LEFT_OUT, hints=_OF_A_SCRIPT), _one_body)
_GENERATE = keys(
    {"include_match": expression, "exclude_match": expression},
    required=("include_match",),
    left_out=("submodule",),
)

# Contexts.


def _context(where: Chain, value: Any) -> Faults:
    yield from _CONTEXT(where, value)


_CONTEXT_PARTS: dict[str, Check] = {
    "tasks": map_of(_TASK),
    "contexts": map_of(_context),
    "task_defaults": _TASK_DEFAULTS,
    "script_defaults": _SCRIPT_DEFAULTS,
    "generate_tasks": _GENERATE,
}
_CONTEXT = keys(
    {"key": name, "name": name, **_CONTEXT_PARTS}, hints={"task": "write it as one of the `tasks`"}
)

# Conditions.


def _cron(where: Chain, value: Any) -> Faults:
    if not isinstance(value, str):
        yield from text(where, value)
    elif message := cron_fault(value):
        yield from fault(where, message)


_CONDITIONS: dict[str, Check] = {
    "job": keys(
        {"type": text, "job_key": name, "states": list_of(choice(JOB_STATES), at_least=1)},
        required=("job_key", "states"),
        left_out=("submodule",),
    ),
    "branch": keys({"type": text, "include_match": branch_expression, "exclude_match": branch_expression}),
    "cron": keys(
        {
            "type": text,
            "value": _cron,
            "branch_include_match": branch_expression,
            "branch_exclude_match": branch_expression,
            "rerun": flag,
        },
        required=("value",),
    ),
}


def _condition(types: tuple[str, ...]) -> Check:
    def check(where: Chain, value: Any) -> Faults:
        of = value.get("type") if isinstance(value, dict) else None
        if of in types:
            yield from _CONDITIONS[of](where, value)
        elif isinstance(value, dict) and "type" in value:
            yield from choice(types)((*where, "type"), of)
        else:
            yield from keys({}, required=("type",))(where, {} if isinstance(value, dict) else value)

    return check


CONDITION_KEYS: dict[str, Check] = {
    "run_when": map_of(_condition(("job", "branch", "cron"))),
    "depends_on": map_of(_condition(("job", "branch"))),
}
"""The keys of a job that hold conditions."""

# Jobs.

COMPACT = ("task", *_CONTEXT_PARTS)
"""Keys of a job that stand in place of `context`."""


def _one_notation(where: Chain, value: Any) -> Faults:
    beside = [key for key in COMPACT if key in value] if isinstance(value, dict) else []
    if "context" in (value if beside else ()):
        yield from fault(where, f"has `{beside[0]}` beside `context`; write it inside the context")
    if "task" in beside and "tasks" in beside:
        yield from fault(where, "has `task` together with `tasks`; keep one")


PLAIN_KEYS: dict[str, Check] = {"name": name, "description": _DESCRIPTION, "priority": _PRIORITY}
"""The keys of a job that hold single values."""

job = both(
    keys(
        {
            "key": name,
            **PLAIN_KEYS,
            **CONDITION_KEYS,
            "context": _context,
            "task": _TASK,
            **_CONTEXT_PARTS,
        }
    ),
    _one_notation,
)
"""The check of one job."""


def _any_map(where: Chain, value: Any) -> Faults:
    if not isinstance(value, dict):
        yield from map_of(text)(where, value)


project = keys({"jobs": _any_map, "name": name, "description": _DESCRIPTION}, required=("jobs",))
"""The check of the top level, which does not look into the jobs."""
