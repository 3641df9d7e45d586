"""The daemons of one installation: where its leader is."""

from __future__ import annotations

from reconciler.installation import Installation
from reconciler.passes import following
from reconciler.store import workers


async def leader(installation: Installation) -> str | None:
    """The address at which the daemon that leads, or led last, is reached; None: there is none, or it is this one."""
    found = await installation.database.read(workers.leader)
    own = installation.runs.instance
    return None if found is None or found.id == own else found.address


async def reach(installation: Installation, version: int) -> None:
    """Until what this daemon shows is at least as new as a version of the store."""
    await following.reach(installation, version)
