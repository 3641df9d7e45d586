"""What may be declared but is not carried out by this version: a condition says so, and `why`, and who runs it is told.

Called by the planner and by the doors. Carrying a thing out means deleting it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KINDS = {
    "Deployment": "a Deployment is declared, checked and shown, but this version does not deploy yet",
    "Pipeline": "a Pipeline is declared, checked and shown, but this version does not run it yet",
    "Freeze": "a Freeze is declared, checked and shown, but there are no deployments yet that it could hold",
}
_STEPS = "a Build with `steps` is declared, checked and shown, but only `tasks` are run by this version"
_RELEASE = "its tasks are run, but this version makes no `release` of them yet"


def declared_only(kind: str, spec: Mapping[str, Any]) -> str | None:
    """What of a specification is not carried out, in a sentence."""
    if kind == "Build":
        return _STEPS if not spec.get("tasks") else _RELEASE if spec.get("release") else None
    return _KINDS.get(kind)
