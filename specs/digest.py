"""Digests of values: SHA-256 over canonical JSON; and the digest of a build's work (design, 14.4).

Called by the tree and by whoever compares plans, specifications and jobs. Takes plain JSON values only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from specs.build_work import built_in, effective_tasks

_MAY_BE_FLOAT = re.compile(rb"[0-9][.eE]")
# Fields of a task that say how, when and how long it may run, not what it does.
_POLICY = frozenset(
    {
        "load", "priority", "exclusive", "max_trials", "lost_retries", "eager_trials", "retry_on",
        "retry_delay_seconds", "timeout_seconds", "run_file",
    }
)  # fmt: skip

# Fields of a build that say what it does beside its tasks; each counts only where it is set.
_RELEASING = ("steps", "steps_from_yml", "scripts", "release", "run_on")


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: keys sorted, no spaces, UTF-8, whole floats as integers."""
    try:
        text = msgspec.json.encode(value, order="deterministic")
        return (
            msgspec.json.encode(_plain(value), order="deterministic") if _MAY_BE_FLOAT.search(text) else text
        )
    except (OverflowError, TypeError):  # a whole number beyond 64 bits, a mapping that is no dict
        return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def work_digest(build_spec: Mapping[str, Any], repository_url: str | None = None) -> str:
    """What a job of this build does: tasks or steps, variables, images, release and checkout; not triggers,
    concurrency, priority, load, locks, retries or limits.

    `repository_url` is the resolved address where `repo` names a Repository. Two builds that do the same
    have the same work digest. Fields with their built-in value do not count, so that a field added by a
    later version changes no digest of a build that does not use it.
    """
    silent = built_in(build_spec)
    tasks = [
        _work(task, {**silent, "task": task["name"]})
        for task in effective_tasks(build_spec)
        if "stages" not in task  # what releases are made of counts below
    ]
    inputs = {item["id"]: item.get("default") for item in build_spec.get("inputs") or []}
    checkout = repository_url or build_spec.get("repo")
    released = {field: build_spec[field] for field in _RELEASING if build_spec.get(field)}
    return digest({"tasks": tasks, "inputs": inputs, "checkout": checkout, **released})


def tree_of_one(name: str, content: bytes) -> str:
    """The id of the Git tree that holds one plain file, and nothing else."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()
    entry = b"100644 " + name.encode() + b"\0" + blob
    return hashlib.sha1(b"tree %d\0" % len(entry) + entry, usedforsecurity=False).hexdigest()


def _work(task: Mapping[str, Any], silent: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in task.items()
        if name not in _POLICY and (name not in silent or value != silent[name])
    }


def _plain(value: Any) -> Any:
    """1.0 and 1 are one number in JSON, so they have one digest."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
