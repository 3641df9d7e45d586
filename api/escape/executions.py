"""Executions that are active where something is to be deleted: refused, or cancelled by force (escape-state, 6.2)."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.errors import Conflict
from reconciler.installation import Installation
from reconciler.queries import declared


async def refuse_active(installation: Installation, keys: Iterable[str], *, force: bool) -> list[int]:
    """The unfinished executions of these KEYs, which are to be cancelled; Conflict without `force`."""
    found = await declared.unfinished(installation, keys)
    if found and not force:
        plural = "s are" if len(found) > 1 else " is"
        raise Conflict("InUse", f"{len(found)} execution{plural} active; wait, or give force=true to cancel.")
    return found
