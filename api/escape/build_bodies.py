"""Builds on the wire and as specifications (escape-state, 7.1, 7.2): one table of fields for both directions.

Published fields of a body are replaced as a whole, all others are kept where it leaves them out. What values must be
is judged with the specification. Pure but for what callers hand in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.escape.errors import BadRequest
from api.escape.requests import flag, kept, text, wrong
from api.escape.sealed import Change
from specs.build import Build
from specs.build_step import BuildStep

PUBLISHED = (
    "repo", "branch", "disabled", "steps", "steps_from_yml", "service_account_name", "service_account_team",
    "remote_escape_worker_url",
)  # fmt: skip
SHOWN = ("scripts", "release", "triggers", "timeout_seconds", "webhook_rotation")
"""Extension fields that every answer has; the others are there when they say something."""

_HIDDEN = ("private_key_ref", "escape_auth_token_ref")
_MODEL = Build().model_dump(mode="json")
_SILENT = {
    "steps": [], "steps_from_yml": False, "scripts": None, "release": None, "run_on": None, "secrets": [],
    "service_account_name": "", "service_account_team": "", "remote_escape_worker_url": "", "webhook_rotation": 0,
    "private_key_ref": None, "escape_auth_token_ref": None,
}  # fmt: skip
DEFAULTS: dict[str, Any] = _SILENT | _MODEL
EXTENSIONS = tuple(name for name in Build.model_fields if name not in PUBLISHED)
_STEP = BuildStep().model_dump(mode="json")


def shown(spec: Mapping[str, Any], branch: str) -> dict[str, Any]:
    """The fields of a Build that stand in its specification; `branch` is the one that is built."""
    whole = {**DEFAULTS, **spec}
    fields = {name: whole[name] for name in (*PUBLISHED, *SHOWN)}
    fields |= {
        "repo": whole["repo"] or "",
        "branch": branch,
        "steps": [_STEP | step for step in whole["steps"]],
    }
    fields |= {"private_key": "", "private_key_set": bool(whole["private_key_ref"])}
    fields |= {"escape_auth_token": "", "escape_auth_token_set": bool(whole["escape_auth_token_ref"])}
    others = [name for name in EXTENSIONS if name not in (*SHOWN, *_HIDDEN) and name in spec]
    return fields | {name: spec[name] for name in others if spec[name] != DEFAULTS.get(name)}


def wanted(
    data: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any], branch: str
) -> dict[str, Any]:
    """The specification after a body: `current` is what there is (nothing for a new one), `defaults` what it inherits,
    `branch` the one that is built now.
    """
    extensions = {name: value for name, value in current.items() if name in EXTENSIONS}
    spec = kept(extensions, data, EXTENSIONS, defaults)
    for field in PUBLISHED:
        value = data.get(field)
        value = (
            defaults.get(field) if value is None or (value == "" and field in ("repo", "branch")) else value
        )
        if value is not None and field not in ("branch", "steps"):
            spec[field] = value
    spec |= _branch(data, current, branch)
    if spec.get("branch") is not None and "branches" not in data:
        spec.pop("branches", None)
    spec["steps"] = [] if spec.get("steps_from_yml") is True else _steps(data, current, defaults)
    for form in ("steps", "tasks"):
        if not spec.get(form):
            spec.pop(form, None)
    _complete(spec)
    return spec


def secrets(data: Mapping[str, Any], *, new: bool) -> list[Change]:
    """What a body says of the key and the token (13.5)."""
    changes = []
    key = text(data, "private_key")
    update = flag(data, "update_private_key")
    if new and key:
        changes.append(Change("private_key", key))
    if not new and update:
        changes.append(Change("private_key", key or None))
    token = text(data, "escape_auth_token")
    if token or (not new and "escape_auth_token" in data and data["escape_auth_token"] is None):
        changes.append(Change("escape_auth_token", token or None))
    return changes


def _branch(data: Mapping[str, Any], current: Mapping[str, Any], built: str) -> dict[str, Any]:
    """As it is written now where the body says the branch that is built anyway."""
    given = data.get("branch")
    if given in (None, ""):
        return {}
    if current and given == built:
        return {name: current[name] for name in ("branch", "branches") if current.get(name)}
    return {"branch": given}


def _steps(data: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Any]:
    given = data.get("steps")
    if given is None:
        given = defaults.get("steps") or []
    if not isinstance(given, list):
        raise wrong("steps", "must be a list")
    left = [step for step in current.get("steps") or () if isinstance(step, Mapping)]
    return [_step(number, step, left) for number, step in enumerate(given)]


def _step(number: int, given: Any, current: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One step: unknown fields left out, its scripts kept where the body does not speak of them."""
    if not isinstance(given, Mapping):
        raise wrong(f"steps[{number}]", "must be an object")
    step = {name: given[name] for name in BuildStep.model_fields if given.get(name) is not None}
    if "scripts" not in given:
        plan = step.get("plan_location", _STEP["plan_location"])
        same = [old for old in (*current[number : number + 1], *current) if old.get("plan_location") == plan]
        if same and same[0].get("scripts"):
            step["scripts"] = same[0]["scripts"]
    return step


def _complete(spec: Mapping[str, Any]) -> None:
    if spec.get("tasks"):
        return
    if not spec.get("repo"):
        raise BadRequest("invalid-field", "repo: a build with steps needs one", {"repo": "is required"})
    if not spec.get("steps") and not spec.get("steps_from_yml"):
        told = "needs at least one step, or steps_from_yml"
        raise BadRequest("invalid-field", f"steps: a build {told}", {"steps": told})
