"""The passes of `job/NUMBER` and of `jobs` (all live ones): states move on, limits are kept."""

from __future__ import annotations

from datetime import datetime

from reconciler.apply import jobs as apply
from reconciler.installation import Installation
from reconciler.passes import builds
from reconciler.store import jobs as rows


async def run(installation: Installation, number: int) -> datetime | None:
    """One look at one job; gives the time of its limit."""
    outcome = await installation.database.write(lambda w: apply.advance(w, number))
    if outcome is None:
        return None
    job, decision = outcome
    for trial in decision.stop:
        if not installation.runs.stop(trial):
            await installation.runs.abandon(trial)
    installation.wake("dispatch")
    installation.wake(job.key)
    if job.state.finished or any(m.entity == "job" and m.state.finished for m in decision.moves):
        builds.wake_after(installation, job.key)
    return decision.wake_at


async def run_all(installation: Installation) -> None:
    """Queue every live job."""
    for job in await installation.database.read(rows.live):
        installation.wake(f"job/{job.number}")
