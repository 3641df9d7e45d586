"""`escapekit.yml` of a checkout: the steps of a Build with `steps_from_yml` (escape-state, 8.5).

Called when such a Build runs, with the file's text. Never reads a file; what the steps do is in specs.build_step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from specs.build_step import MOST_STEPS, BuildStep
from specs.checkout_file import CheckoutFile, read
from specs.messages import label
from specs.model import Steps
from specs.nearest import did_you_mean
from specs.stage_scripts import script_texts

FILE = "escapekit.yml"
"""Its place, from the root of the checkout."""

_VERSION = 1
_PLAN = "escape_plan_location"
# What is left out when true -> the flag of a step that it turns off.
_SKIPS: Mapping[str, str] = {
    "skip_build": "run_build",
    "skip_tests": "run_tests",
    "skip_deploy": "run_deploy",
    "skip_smoke": "run_smoke",
    "skip_destroy": "run_destroy",
    "skip_build_destroy": "run_destroy_build",
    "skip_deploy_destroy": "run_destroy_deploy",
    "skip_cache": "cache_release",
    "skip_push": "push_release",
}
_KNOWN = (*BuildStep.model_fields, _PLAN, *_SKIPS)


def read_steps(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """(the steps with all their fields, what is wrong with its place); with errors there are no steps."""
    file = read(text, FILE)
    errors = list(file.errors)
    if not isinstance(file.value, dict):
        return [], errors
    steps: list[dict[str, Any]] = []
    for number, given in enumerate(_listed(file, errors)):
        steps += _step(file, ("build", "steps", number), given, errors)
    return ([] if errors else steps), errors


def _listed(file: CheckoutFile, errors: list[str]) -> list[Any]:
    """The steps as they are written."""
    errors += _unknown(file, (), file.value, ("escapekit_version", "build"))
    version = file.value.get("escapekit_version")
    if type(version) is not int or version != _VERSION:
        errors.append(file.at(("escapekit_version",), f"escapekit_version must be {_VERSION}"))
    build = file.value.get("build")
    if not isinstance(build, dict):
        errors.append(file.at(("build",), "build must be a mapping with steps"))
        return []
    errors += _unknown(file, ("build",), build, ("steps",))
    steps = build.get("steps")
    if not isinstance(steps, list) or not 1 <= len(steps) <= MOST_STEPS:
        errors.append(file.at(("build", "steps"), f"build.steps must be a list of 1 to {MOST_STEPS} steps"))
        return []
    return steps


def _step(file: CheckoutFile, at: Steps, given: Any, errors: list[str]) -> Iterator[dict[str, Any]]:
    """One step under the names of a Build's, unless something is wrong with it."""
    if not isinstance(given, dict):
        errors.append(file.at(at, f"{label(at)} must be a mapping"))
        return
    found = list(_unknown(file, at, given, _KNOWN))
    fields = {name: value for name, value in given.items() if name in BuildStep.model_fields}
    for name, flag in ((_PLAN, "plan_location"), *_SKIPS.items()):
        if name not in given:
            continue
        if flag in given:
            message = f"{name} and {flag} say the same in two ways; keep one"
            found.append(file.at((*at, name), message, key=True))
        elif name == _PLAN:
            fields[flag] = given[name]
        elif isinstance(given[name], bool):
            fields[flag] = not given[name]
        else:
            found.append(file.at((*at, name), f"{name} must be true or false, without quotes"))
    for steps, _ in script_texts((*at, "scripts"), fields.get("scripts")):
        found.append(file.at(steps, "inline_file stands in specifications only; write script", key=True))
    try:
        step = BuildStep.model_validate(fields)
    except ValidationError as error:
        found += file.invalid(error, BuildStep, fields, at, {"plan_location": _PLAN})
    if found:
        errors += found
        return
    yield step.model_dump(mode="json")


def _unknown(
    file: CheckoutFile, at: Steps, value: Mapping[str, Any], known: tuple[str, ...]
) -> Iterator[str]:
    for name in value:
        if name not in known:
            yield file.at((*at, name), f'unknown field "{name}"{did_you_mean(name, known)}', key=True)
