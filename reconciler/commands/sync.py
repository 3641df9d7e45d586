"""Look at the spec repository now, and confirm removals that wait (design 5.4, 14.9)."""

from __future__ import annotations

import asyncio
from typing import Any

from reconciler.access import Caller, concerns, require_level
from reconciler.errors import Conflict, Forbidden, Transient
from reconciler.installation import Installation
from reconciler.model.plan import Plan
from reconciler.model.rights import INSTALLATION, Level, Scope


async def sync(
    installation: Installation, caller: Caller, confirm: str | None, wait: float
) -> tuple[bool, dict[str, Any]]:
    """(finished within `wait` seconds, answer). `confirm` must be the digest of removals that are held now."""
    if not may_sync(caller):
        most = "read at most" if caller.rights.roles else "none"
        raise Forbidden("Forbidden", f"to sync takes the role write on some project; you have {most}")
    if confirm is not None:
        scope = _held(installation, confirm)
        require_level(caller, Level.OWNER, "confirming removals", scope)
        await installation.database.write(
            lambda w: w.record("removal-confirmed", None, {"digest": confirm}), caller.actor
        )
        installation.confirmed.add(confirm)
    before = installation.plans_applied
    try:
        await asyncio.wait_for(installation.run_now("source"), wait)
    except TimeoutError:
        return False, answer(installation, caller, before)
    source = installation.snapshot.current.source
    if source is None or source.trouble:
        reason, message = (source.trouble if source else None) or (
            "SourceUnavailable",
            "the source was not read yet",
        )
        raise Transient(reason, message)
    return True, answer(installation, caller, before)


def may_sync(caller: Caller) -> bool:
    """Does the caller hold the role write anywhere?"""
    held = caller.rights.within(INSTALLATION)
    return held is not None and held >= Level.WRITE


def may_confirm(caller: Caller, project: str | None) -> bool:
    """May the caller let the removals go that wait in a project, or of what is everywhere?"""
    return caller.rights.at(Scope(project)) is Level.OWNER


def answer(installation: Installation, caller: Caller, before: int) -> dict[str, Any]:
    """The applied revision, and what was applied since there were `before` plans, as far as the caller sees it."""
    source = installation.snapshot.current.source
    plan = (installation.last_plan if installation.plans_applied > before else Plan()).to_dict()
    return {
        "revision": source.applied if source else None,
        "digest": plan["digest"],
        "actions": [action for action in plan["actions"] if caller.sees(action.key)],
        "held": [h for h in source.held if all(map(caller.sees, h["keys"]))] if source else [],
        "errors": [e for e in source.errors if concerns(caller, e["location"])] if source else [],
    }


def _held(installation: Installation, confirm: str) -> Scope:
    """Where the removals of a digest are."""
    source = installation.snapshot.current.source
    digests = {held["digest"]: held["project"] for held in (source.held if source else ()) if held["digest"]}
    if confirm not in digests:
        now = ", ".join(digests) or "none"
        raise Conflict(
            "DigestMismatch", f"no removals with digest {confirm} wait for confirmation; waiting now: {now}"
        )
    return Scope(digests[confirm])
