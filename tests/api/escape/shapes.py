"""The schemas of the contract (escape-state, 7) as shapes that a body must have, field by field, and how that is told.

A shape is a type, a set of allowed texts, a list of one shape, `Keyed` (a map of one shape), or a dict: field → shape,
whose names ending in `?` may be absent and to which no other may be added.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Keyed:
    """A map whose values all have this shape, and in which these names are."""

    shape: Any
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text of this form."""

    pattern: str


def faults(found: Any, shape: Any, where: str = "body") -> list[str]:
    """What is not as it should be."""
    if isinstance(shape, dict):
        return _object(found, shape, where)
    if isinstance(shape, list):
        if not isinstance(found, list):
            return [f"{where} is no list: {found!r}"]
        return [fault for at, each in enumerate(found) for fault in faults(each, shape[0], f"{where}[{at}]")]
    if isinstance(shape, Keyed):
        if not isinstance(found, dict) or not found.keys() >= set(shape.names):
            return [f"{where} is no map with {shape.names}: {found!r}"]
        return [fault for name in found for fault in faults(found[name], shape.shape, f"{where}.{name}")]
    if isinstance(shape, Text):
        good = isinstance(found, str) and re.fullmatch(shape.pattern, found) is not None
    elif isinstance(shape, frozenset):
        good = isinstance(found, str) and found in shape
    elif isinstance(shape, tuple):
        good = any(not faults(found, each) for each in shape)
    else:
        good = shape is object or type(found) is shape
    return [] if good else [f"{where} is not {shape}: {found!r}"]


def _object(found: Any, shape: dict[str, Any], where: str) -> list[str]:
    if not isinstance(found, dict):
        return [f"{where} is no object: {found!r}"]
    told = []
    known = {name.removesuffix("?"): each for name, each in shape.items()}
    told += [f"{where} lacks {name}" for name in shape if not name.endswith("?") and name not in found]
    told += [f"{where} has {name}, too" for name in found if name not in known]
    return told + [
        fault
        for name in found
        if name in known
        for fault in faults(found[name], known[name], f"{where}.{name}")
    ]


_NONE = type(None)
STATUS = frozenset({"new", "pending", "running", "ok", "failed"})
RUN_STATUS = STATUS - {"new"}
LEVEL = frozenset({"read", "write", "owner"})
SYNC = frozenset({"in-sync", "out-of-sync", "unknown"})
TIME = Text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
ULID = Text(r"[0-9A-HJKMNP-TV-Z]{26}")
UUID = Text(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OBJECT, TEXTS = Keyed(object), [str]
SCRIPTS = (_NONE, OBJECT)

BUILD_STEP = {
    "plan_location": str,
    **dict.fromkeys(("run_build", "run_tests", "run_deploy", "run_smoke"), bool),
    **dict.fromkeys(("run_destroy", "run_destroy_build", "run_destroy_deploy"), bool),
    **dict.fromkeys(("skip_if_exists", "force_overwrite", "fat_package"), bool),
    **dict.fromkeys(("cache_release", "push_release", "tag_git"), bool),
    "override_namespace": str,
    "build_on_file_changes": TEXTS,
    "ignore_file_changes": TEXTS,
    "providers": Keyed(str),
    "variables": Keyed(str),
    "scripts": SCRIPTS,
}
BUILD = {
    "id": UUID,
    **dict.fromkeys(("name", "project", "environment", "repo", "branch"), str),
    "disabled": bool,
    "status": STATUS,
    "steps": [BUILD_STEP],
    "steps_from_yml": bool,
    "private_key": frozenset({""}),
    "private_key_set": bool,
    "escape_auth_token": frozenset({""}),
    "escape_auth_token_set": bool,
    **dict.fromkeys(("webhook_token", "service_account_name", "service_account_team"), str),
    "remote_escape_worker_url": str,
    "scripts": SCRIPTS,
    "release": (_NONE, OBJECT),
    "triggers": [OBJECT],
    "timeout_seconds": int,
    "webhook_rotation": int,
    "permission": LEVEL,
    "tasks?": [OBJECT],  # of the other form
}
STAGE = {
    "name": str,
    "status": frozenset({"ok", "failed", "skipped"}),
    "reason": str,
    "started_at?": TIME,
    "finished_at?": TIME,
    "exit_code?": int,
    "data?": str,
}
STEP_EXECUTION = {
    "index": int,
    "plan_location": str,
    "status": frozenset({"queued", "running", "ok", "failed"}),
    **dict.fromkeys(("status_reason", "release", "version", "git_tag"), str),
    "stages": [STAGE],
}
COMMIT = {
    "git_revision": Text(r"[0-9a-f]{40}|[0-9a-f]{64}"),
    **dict.fromkeys(("branch?", "repository?", "revision_message?", "revision_author?"), str),
    "committed_at?": TIME,
}
_EXECUTION = {
    "id": ULID,
    "status": RUN_STATUS,
    "status_reason": str,
    "cancel_requested": bool,
    "trigger": {
        **dict.fromkeys(("type", "user", "pipeline_execution_id", "retry_of", "payload_digest"), str),
        "reason?": str,
    },
    "worker": str,
    "log_seq": int,
    "created_at": TIME,
    "started_at?": TIME,
    "finished_at?": TIME,
}
BUILD_EXECUTION = _EXECUTION | {
    "build": {"id": (UUID, frozenset({""})), "name": str, "project": str, "environment": str},
    "branch": str,
    "commit": (_NONE, COMMIT),
    "steps": [STEP_EXECUTION],
    "releases": TEXTS,
}
JOB = {
    "id": UUID,
    **dict.fromkeys(("name", "project", "environment", "release", "version"), str),
    "inputs": OBJECT,
    "providers": Keyed(str),
    "run_smoke": bool,
    "reconcile": frozenset({"auto", "manual"}),
    "on_delete": frozenset({"orphan", "destroy"}),
    "suspend": bool,
    "disabled": bool,
    **dict.fromkeys(("service_account_name", "service_account_team", "remote_escape_worker_url"), str),
    "timeout_seconds": int,
    "status": STATUS,
    "sync": SYNC,
    "deployed_version": str,
    "errands": [{"name": str, "description": str, "inputs": [OBJECT]}],
    "last_execution_id": str,
    "permission": LEVEL,
}
JOB_EXECUTION = _EXECUTION | {
    "type": frozenset({"deploy", "smoke", "destroy", "errand"}),
    "errand_name": str,
    "errand_inputs": OBJECT,
    "deployment_job": Keyed(object, ("id", "name", "project", "environment", "release", "version", "status")),
    "release": str,
    "version": str,
    "stages": [STAGE],
    "outputs": OBJECT,
}
LOG_PAGE = {
    "entries": [
        {
            "seq": int,
            "timestamp": TIME,
            "level": frozenset({"debug", "info", "success", "warn", "error"}),
            "stream": frozenset({"stdout", "stderr", "system"}),
            "step": (_NONE, int),
            "stage": (_NONE, str),
            "message": str,
        }
    ],
    "next_seq": int,
    "complete": bool,
    "status": RUN_STATUS,
}
LOG_TAKEN = {"accepted": int, "last_seq": int, "cancel_requested?": bool}
EXECUTION_ID = {"id": ULID}

STEP_STATUS = STATUS | {"queued"}
PHASE = {"name": str, "status": STATUS, "steps": [Keyed(object, ("type", "name", "status"))]}
PIPELINE = {
    "name": str,
    "project": str,
    "disabled": bool,
    "phases": [PHASE],
    "triggers": [{"id?": str, "type": frozenset({"webhook"}), "webhooktoken": str, "name": str}],
    "service_account_name": str,
    "service_account_team": str,
    "status": STATUS,
    "permission": LEVEL,
    "concurrency": frozenset({"queue", "replace", "allow"}),
    "schedules": [OBJECT],
    "timeout_seconds": int,
    "webhook_secret?": str,
}
PIPELINE_EXECUTION = {
    "id": ULID,
    "run_nr": int,
    "status": RUN_STATUS,
    "status_reason": str,
    "cancel_requested": bool,
    "trigger": Keyed(str, ("type", "user")),
    "payload": object,
    "releases": TEXTS,
    "pipeline": PIPELINE,
    "created_at": TIME,
    "started_at?": TIME,
    "finished_at?": TIME,
}

STAGE_STATUS = {
    "status": str,
    "updated_at?": TIME,
    "updated_by?": str,
    "data?": str,
    "try_again_at?": TIME,
    "tried?": int,
}
_MAPS = dict.fromkeys(("inputs?", "calculated_inputs?", "calculated_outputs?"), OBJECT)
STAGE_STATE = _MAPS | {
    "deployments?": OBJECT,
    "providers?": Keyed(str),
    "provides?": TEXTS,
    "version?": str,
    "previous?": OBJECT,
    "status": STAGE_STATUS,
}
DEPLOYMENT = {
    "name": str,
    "release": str,
    "inputs": OBJECT,
    "stages": Keyed(STAGE_STATE, ("deploy",)),
    "managed": bool,
    "sync": SYNC,
    "declared?": OBJECT,
}
SUMMARY = {
    **{name: DEPLOYMENT[name] for name in ("name", "release", "managed", "sync")},
    "stages": Keyed({"version": str, "status": STAGE_STATUS}, ("deploy",)),
}
ENVIRONMENT = {
    "name": str,
    "description": str,
    "inputs": OBJECT,
    "order": int,
    "protected": bool,
    "permission": LEVEL,
    "deployments": Keyed(SUMMARY),
}
PROJECT = {
    **dict.fromkeys(("name", "description", "org_url", "logo"), str),
    "is_public": bool,
    "permission": LEVEL,
    "namespaces": TEXTS,
    "environment_order": TEXTS,
}
WHOLE_PROJECT = PROJECT | {"environments": Keyed(ENVIRONMENT)}
NAMESPACE = dict.fromkeys(("name", "description", "logo", "org_url", "project"), str)
ROLE = Text(r"project:shop:(global|environment:[a-z]+):(read|write|owner)")
ACCOUNT = {
    "name": str,
    "team": str,
    "permission": LEVEL,
    "environment": (_NONE, str),
    "roles": [ROLE],
    "created_at": (TIME, _NONE),
    "token?": Text(r"stm_.+"),
}
REPOSITORY = {
    **dict.fromkeys(("name", "project", "url", "branch", "description", "webhook_token"), str),
    "private_key": frozenset({""}),
    "private_key_set": bool,
}
IMPORTED = {
    "imported": {"environments": TEXTS, "deployments": TEXTS},
    "skipped": TEXTS,
    "secrets": TEXTS,
    "warnings": TEXTS,
    "commit": (str, _NONE),
}
