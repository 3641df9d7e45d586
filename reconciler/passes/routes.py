"""Which pass a name belongs to. Called by the loop only."""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.controllers.builds import looks
from reconciler.installation import Installation
from reconciler.passes import builds, deliveries, dispatch, jobs, retention, source


async def run(installation: Installation, name: str) -> datetime | None:
    """One pass of one name; gives the time at which to look again."""
    if name == "source":
        return await source.run(installation)
    if name == "dispatch":
        await dispatch.run(installation)
    elif name == "jobs":
        await jobs.run_all(installation)
    elif name == jobs.LIMITS:
        return await jobs.run_limits(installation)
    elif name == deliveries.NAME:
        await deliveries.run(installation)
    elif name == "resync":
        return await _resync(installation)
    elif name == "retention":
        due = await retention.run(installation)
        read_queue_whole(installation)
        return due
    elif name.startswith("job/"):
        return await jobs.run(installation, int(name.removeprefix("job/")))
    elif name.startswith("Build/"):
        return await builds.run(installation, name)
    return None


def read_queue_whole(installation: Installation) -> None:
    """Dropped rows have no version: after they may have gone, dispatch reads all that is unfinished."""
    installation.queue.forget()
    installation.wake("dispatch")


async def _resync(installation: Installation) -> datetime:
    """The slow net under all wake-ups: everything is looked at."""
    for key, resource in installation.snapshot.current.resources.items():
        if looks(resource):
            installation.wake(key)
    read_queue_whole(installation)
    for name in ("source", "jobs", deliveries.NAME):
        installation.wake(name)
    return installation.now() + timedelta(seconds=installation.settings.resync_seconds)
