"""Look at the spec repository now, and confirm removals that wait (design 5.4, 14.9)."""

from __future__ import annotations

import asyncio
from typing import Any

from reconciler.errors import Conflict, Transient
from reconciler.installation import Installation
from reconciler.model.event import Actor
from reconciler.model.plan import Plan


async def sync(
    installation: Installation, confirm: str | None, wait: float, actor: Actor
) -> tuple[bool, dict[str, Any]]:
    """(finished within `wait` seconds, answer). `confirm` must be the digest of removals that are held now."""
    if confirm is not None:
        _check(installation, confirm)
        await installation.database.write(
            lambda w: w.record("removal-confirmed", None, {"digest": confirm}), actor
        )
        installation.confirmed.add(confirm)
    before = installation.plans_applied
    try:
        await asyncio.wait_for(installation.run_now("source"), wait)
    except TimeoutError:
        return False, answer(installation, before)
    source = installation.snapshot.current.source
    if source is None or source.trouble:
        reason, message = (source.trouble if source else None) or (
            "SourceUnavailable",
            "the source was not read yet",
        )
        raise Transient(reason, message)
    return True, answer(installation, before)


def answer(installation: Installation, before: int) -> dict[str, Any]:
    """The applied revision, and what was applied since there were `before` plans; a settled source does nothing."""
    source = installation.snapshot.current.source
    plan = (installation.last_plan if installation.plans_applied > before else Plan()).to_dict()
    return {
        "revision": source.applied if source else None,
        "digest": plan["digest"],
        "actions": plan["actions"],
        "held": list(source.held) if source else [],
        "errors": list(source.errors) if source else [],
    }


def _check(installation: Installation, confirm: str) -> None:
    source = installation.snapshot.current.source
    digests = [held["digest"] for held in (source.held if source else ()) if held["digest"]]
    if confirm not in digests:
        now = ", ".join(digests) or "none"
        raise Conflict(
            "DigestMismatch", f"no removals with digest {confirm} wait for confirmation; waiting now: {now}"
        )
