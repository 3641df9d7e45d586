"""The passes of `job/NUMBER` and of `jobs` (all live ones): states move on, limits are kept."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from reconciler.apply import jobs as apply
from reconciler.apply.jobs import Outcome
from reconciler.installation import Installation
from reconciler.passes import builds
from reconciler.store import jobs as rows

_REST = timedelta(seconds=0.25)  # a Build that many jobs end of shows them a few times a second


async def run(installation: Installation, number: int) -> datetime | None:
    """One look at one job; gives the time of its limit."""
    return await settle(installation, await installation.database.write(lambda w: apply.advance(w, number)))


async def settle(installation: Installation, outcome: Outcome | None) -> datetime | None:
    """What follows from a stored decision: scripts to end, names to wake; gives when to look at the job again."""
    if outcome is None:
        return None
    for trial in outcome.decision.stop:
        if not installation.runs.stop(trial):
            await installation.runs.abandon(trial)
    installation.wake("dispatch")
    key, now = outcome.job.key, time.monotonic()
    if (
        outcome.finished
        and now - installation.shown.get(key, -_REST.total_seconds()) >= _REST.total_seconds()
    ):
        installation.shown[key] = now
        installation.wake(key)
    else:
        installation.wake(key, installation.now() + _REST)
    if outcome.finished:
        builds.wake_after(installation, key)
    return outcome.decision.wake_at


def begun(installation: Installation, number: int, key: str) -> None:
    """A script has begun: its Build shows it, and its job's limit is looked for; neither is urgent."""
    for name in (key, f"job/{number}"):
        installation.wake(name, installation.now() + _REST)


async def run_all(installation: Installation) -> None:
    """Queue every live job."""
    for job in await installation.database.read(rows.live):
        installation.wake(f"job/{job.number}")
