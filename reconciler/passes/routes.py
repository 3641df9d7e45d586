"""Which pass a name belongs to. Called by the loop only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from reconciler.controllers.builds import looks
from reconciler.controllers.repositories import follows, troubled
from reconciler.installation import Installation
from reconciler.passes import (
    builds,
    deliveries,
    deployments,
    dispatch,
    executors,
    gate,
    jobs,
    notifications,
    pipeline_calls,
    pipelines,
    repositories,
    requests,
    retention,
    source,
    workers,
)


async def run(installation: Installation, name: str) -> datetime | None:
    """One pass of one name; gives the time at which to look again."""
    if name in _NAMES:
        return await _NAMES[name](installation)
    for prefix, work in _PREFIXES.items():
        if name.startswith(prefix):
            return await work(installation, name)
    return None


def read_queue_whole(installation: Installation) -> None:
    """Dropped rows have no version: after they may have gone, dispatch reads all that is unfinished."""
    installation.queue.forget()
    installation.wake("dispatch")


async def _resync(installation: Installation) -> datetime:
    """The slow net under all wake-ups: everything is looked at."""
    for key, resource in installation.snapshot.current.resources.items():
        if looks(resource) or follows(resource) or troubled(resource):
            installation.wake(key)
    read_queue_whole(installation)
    await deployments.wake_all(installation)
    await requests.wake_all(installation)
    for name in (
        "source",
        "jobs",
        deliveries.NAME,
        executors.NAME,
        gate.NAME,
        notifications.ALL,
        pipelines.ALL,
        workers.NAME,
    ):
        installation.wake(name)
    return installation.now() + timedelta(seconds=installation.settings.resync_seconds)


async def _retention(installation: Installation) -> datetime | None:
    due = await retention.run(installation)
    read_queue_whole(installation)
    return due


async def _job(installation: Installation, name: str) -> datetime | None:
    return await jobs.run(installation, int(name.removeprefix("job/")))


async def _begun(installation: Installation, name: str) -> None:
    await jobs.has_begun(installation, int(name.removeprefix("begun/")))


async def _repository(installation: Installation, name: str) -> datetime | None:
    return await repositories.run(installation, name)


async def _deployment(installation: Installation, name: str) -> None:
    await deployments.of_key(installation, name)


async def _release(installation: Installation, name: str) -> None:
    await deployments.of_release(installation, name)


_NAMES: Mapping[str, Callable[[Installation], Awaitable[datetime | None]]] = {
    "source": source.run,
    "dispatch": dispatch.run,
    "jobs": jobs.run_all,
    jobs.LIMITS: jobs.run_limits,
    executors.NAME: executors.run,
    gate.NAME: gate.run,
    deliveries.NAME: deliveries.run,
    notifications.ALL: notifications.run_all,
    pipelines.ALL: pipelines.run_all,
    requests.ALL: requests.take_up,
    workers.NAME: workers.run,
    "resync": _resync,
    "retention": _retention,
}
_PREFIXES: Mapping[str, Callable[[Installation, str], Awaitable[datetime | None]]] = {
    "job/": _job,
    "begun/": _begun,
    "Build/": builds.run,
    "Repository/": _repository,
    "Deployment/": _deployment,
    deployments.PREFIX: deployments.run,
    deployments.RELEASES: _release,
    "Pipeline/": pipelines.run,
    pipelines.EXECUTION: pipelines.of_execution,
    pipeline_calls.PREFIX: pipeline_calls.run,
    requests.PREFIX: requests.run,
    notifications.PREFIX: notifications.run,
}
