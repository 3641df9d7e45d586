"""What may be declared but is not carried out by this version: a condition says so, and `why`, and who runs it is told.

Called by the planner and by the doors. Carrying a thing out means deleting it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.controllers.repositories import by_ssh


def declared_only(kind: str, spec: Mapping[str, Any]) -> str | None:
    """What of a specification is not carried out, in a sentence."""
    if kind == "Repository" and spec.get("private_key_ref") and not by_ssh(spec["url"]):
        return f"`private_key_ref`: an SSH key is of no use for {spec['url']}, which is fetched without it"
    return None
