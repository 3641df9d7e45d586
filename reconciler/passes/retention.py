"""The pass of the name `retention`: finished jobs, logs and attachments older than declared are forgotten.

Rows go first, in transactions of a few jobs each; then files are compared with the rows that are left. So what a
kill leaves between the two is found by the next pass, and so are logs that a kill left uncompressed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import structlog

from reconciler.execution import leftovers, tidying
from reconciler.execution.attachments import SHELVES, AttachmentStore
from reconciler.execution.shipping import SMALL
from reconciler.installation import Installation
from reconciler.passes import workers
from reconciler.source.desired import is_spec
from reconciler.store import answers, contents, logs, pipelines, resources, retention, shipped_logs, tokens
from reconciler.store.database import Connection, Database, Write
from specs.loader import LOADER_VERSION

log = structlog.get_logger(__name__)
_EVERY = timedelta(hours=6)
_JOBS_AT_ONCE = 100
_SETTLED = timedelta(hours=1)  # so long after its end a log is left to who ran its script


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
    await tidying.tidy(installation.settings.data, installation.attachments, installation.database, before)
    await asyncio.to_thread(installation.runs.caches.clear, before.timestamp())
    if installation.attachments.contents is not None:
        await _share(installation, now, before)
        await installation.attachments.contents.collect()
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


async def _share(installation: Installation, now: datetime, before: datetime) -> None:
    """What others cannot find yet: files and logs kept before there were others, and what a kill held up."""
    database, store = installation.database, installation.attachments
    while await database.aside(lambda c: shipped_logs.forget(c, before)):
        pass
    for shelf in SHELVES:
        await _share_files(store, database, shelf)
    data, shipping = installation.settings.data, installation.runs.shipping
    here = await asyncio.to_thread(leftovers.logs_kept, data)
    for run in await database.read(partial(_lacking, here, before)):
        await shipping.complete(run)
    last, loose = "", partial(shipped_logs.unpacked, larger=SMALL, before=now - _SETTLED)
    while some := await database.read(partial(loose, behind=last, most=_JOBS_AT_ONCE)):
        last = some[-1]
        for run in some:
            if await installation.runs.remote_logs.whole(run):
                await asyncio.to_thread(leftovers.settle_logs, data, [run])
                await shipping.pack([run])


def _lacking(here: Sequence[str], before: datetime, connection: Connection) -> list[str]:
    """Those of the logs that have ended, are kept, and are not known."""
    found = logs.ended(connection, sorted(shipped_logs.unknown(connection, here)))
    kept = retention.with_logs(connection, sorted({run.partition("/")[0] for run in found}), before)
    return sorted(run for run in found if run.partition("/")[0] in kept)


async def _share_files(store: AttachmentStore, database: Database, shelf: str) -> None:
    found = await asyncio.to_thread(store.aged, shelf)
    lacking = (
        await database.read(lambda c: retention.referred(c, found) - contents.known(c, found))
        if found
        else ()
    )
    for digest in lacking:
        await asyncio.to_thread(store.share, digest)
