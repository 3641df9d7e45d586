"""Deployment jobs on the wire and as specifications (escape-state, 7.5): one table of fields for both directions.

None of them but the name is published, so all are kept where a body leaves them out, and cleared by null. What values
must be is judged with the specification. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.escape.requests import kept
from specs.deployment import Deployment

SHOWN = (
    "release", "version", "inputs", "providers", "run_smoke", "reconcile", "on_delete", "suspend", "disabled",
    "service_account_name", "service_account_team", "remote_escape_worker_url", "timeout_seconds",
)  # fmt: skip
"""Fields that every answer has; the others are there when they say something."""

_MODEL = Deployment().model_dump(mode="json")
FIELDS = tuple(_MODEL)


def shown(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a job that stand in its specification."""
    whole = {**_MODEL, **spec}
    fields = {field: whole[field] for field in SHOWN} | {"release": whole["release"] or name}
    return fields | {
        field: whole[field] for field in FIELDS if field not in SHOWN and whole[field] != _MODEL[field]
    }


def wanted(
    data: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """The specification after a body: `current` is what there is, `defaults` what it inherits.

    What an own package or the name says of the release is not written down because a client sends it back.
    """
    spec = kept(current, data, FIELDS, defaults)
    if spec.get("release") == name and not current.get("release"):
        spec.pop("release")
    return spec
