"""Groups of jobs (builds-srht 3.8). Never changes anything."""

from __future__ import annotations

from reconciler.access import Caller, own_group
from reconciler.installation import Installation
from reconciler.model.job import JobGroup
from reconciler.store import job_groups


async def get(installation: Installation, caller: Caller, number: int) -> JobGroup:
    """A group with its jobs. NotFound."""
    group = await installation.database.read(lambda c: job_groups.load(c, number))
    return own_group(caller, group, number)
