"""The pass of the name `retention`: finished jobs, logs and attachments older than declared are forgotten.

Rows go first, in transactions of a few jobs each; then files are compared with the rows that are left. So what a
kill leaves between the two is found by the next pass, and so are logs that a kill left uncompressed.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial

import structlog

from reconciler.execution import leftovers
from reconciler.execution.attachments import SHELVES
from reconciler.installation import Installation
from reconciler.passes import workers
from reconciler.source.desired import is_spec
from reconciler.store import answers, logs, pipelines, resources, retention, tokens
from reconciler.store.database import Write
from specs.loader import LOADER_VERSION

log = structlog.get_logger(__name__)
_EVERY = timedelta(hours=6)
_JOBS_AT_ONCE = 100


async def run(installation: Installation) -> datetime:
    """Forget what has expired; gives the time of the next look."""
    now = installation.now()
    before = now - timedelta(days=installation.settings.retention_days)
    await _forget_jobs(installation, before)
    await _drop_attachments(installation, now, before)
    await installation.database.write(lambda w: answers.forget(w.connection, now))
    await installation.database.write(lambda w: tokens.forget(w.connection, before))
    while await installation.database.write(lambda w: pipelines.forget(w.connection, before, _JOBS_AT_ONCE)):
        pass
    await _remove_runs(installation, before)
    await asyncio.to_thread(installation.runs.caches.clear, before.timestamp())
    await _settle_logs(installation)
    await workers.clear(installation)
    if installation.desired is not None:
        blobs = frozenset(e.blob for path, e in installation.desired.paths.items() if is_spec(path))
        await installation.database.write(lambda w: resources.keep_blobs(w.connection, blobs, LOADER_VERSION))
    return now + _EVERY


async def _forget_jobs(installation: Installation, before: datetime) -> None:
    database = installation.database
    numbers = await database.read(lambda c: retention.outdated(c, before))
    for start in range(0, len(numbers), _JOBS_AT_ONCE):
        some = numbers[start : start + _JOBS_AT_ONCE]
        await database.write(partial(_forget, some))
    if numbers:
        log.info("jobs-forgotten", jobs=len(numbers))


def _forget(numbers: list[int], write: Write) -> None:
    retention.forget(write.connection, numbers)


async def _drop_attachments(installation: Installation, now: datetime, before: datetime) -> None:
    while await installation.database.write(lambda w: retention.drop_attachments(w.connection, now, before)):
        pass
    for shelf in SHELVES:
        await _clear(installation, shelf)


async def _clear(installation: Installation, shelf: str) -> None:
    """Bytes that no row refers to go; the store of the files keeps what came back meanwhile."""
    store = installation.attachments
    found = await asyncio.to_thread(store.aged, shelf)
    if found:
        needed = await installation.database.read(lambda c: retention.referred(c, found))
        await asyncio.to_thread(store.delete, [digest for digest in found if digest not in needed])


async def _remove_runs(installation: Installation, before: datetime) -> None:
    found = await asyncio.to_thread(leftovers.aged_runs, installation.settings.data)
    trials = [path.name for path in found]
    needed = await installation.database.read(lambda c: retention.with_logs(c, trials, before))
    rest = [path for path in found if path.name not in needed]
    await asyncio.to_thread(leftovers.remove, rest)


async def _settle_logs(installation: Installation) -> None:
    data = installation.settings.data
    found = await asyncio.to_thread(leftovers.loose_logs, data)
    ended = await installation.database.read(lambda c: logs.ended(c, found))
    if count := await asyncio.to_thread(leftovers.settle_logs, data, sorted(ended)):
        log.info("logs-compressed", logs=count)
