"""What may be declared but is not carried out by this version: a condition says so, and `why`, and who runs it is told.

Called by the planner and by the doors. Carrying a thing out means deleting it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.controllers.repositories import by_ssh

_KINDS = {
    "Deployment": "a Deployment is declared, checked and shown, but this version does not deploy yet",
    "Pipeline": "a Pipeline is declared, checked and shown, but this version does not run it yet",
    "Freeze": "a Freeze is declared, checked and shown, but there are no deployments yet that it could hold",
}
_STEPS = "a Build with `steps` is declared, checked and shown, but only `tasks` are run by this version"
_FIELDS = {
    "Build": (
        *("release", "private_key_ref", "escape_auth_token_ref", "remote_escape_worker_url"),
        "service_account_name",
    ),
}


def declared_only(kind: str, spec: Mapping[str, Any]) -> str | None:
    """What of a specification is not carried out, in a sentence."""
    if kind == "Build" and not spec.get("tasks"):
        return _STEPS
    fields = [f"`{field}`" for field in _FIELDS.get(kind, ()) if spec.get(field)]
    if fields:
        return f"{', '.join(fields)}: declared and checked, but not used by this version yet"
    if kind == "Repository" and spec.get("private_key_ref") and not by_ssh(spec["url"]):
        return f"`private_key_ref`: an SSH key is of no use for {spec['url']}, which is fetched without it"
    return _KINDS.get(kind)
