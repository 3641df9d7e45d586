"""What lies in a data directory and nobody needs there any more: copies of contents, old run folders, loose logs.

Called by every process with a data directory of its own: by the pass of retention of the one that leads, and by those
that follow or only run trials. What is kept for others as well can be fetched again; nothing is dropped there.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from reconciler.execution import leftovers
from reconciler.execution.attachments import SHELVES, AttachmentStore
from reconciler.store import contents, logs, retention
from reconciler.store.database import Database

log = structlog.get_logger(__name__)


async def drop_copies(store: AttachmentStore, database: Database) -> None:
    """Files go that were not used for an hour and are kept for others as well: they are fetched when wanted."""
    for shelf in SHELVES:
        found = await asyncio.to_thread(store.aged, shelf)
        if found:
            known = await database.read(partial(contents.known, digests=found))
            await asyncio.to_thread(store.delete, sorted(known))


async def tidy(data: Path, store: AttachmentStore, database: Database, before: datetime) -> None:
    """Files that no row refers to go, and run folders of jobs that finished before a moment; large logs of trials that
    have ended are compressed.
    """
    for shelf in SHELVES:
        found = await asyncio.to_thread(store.aged, shelf)
        if found:
            needed = await database.read(partial(retention.referred, digests=found))
            # the store of the files keeps what came back meanwhile
            await asyncio.to_thread(store.delete, [digest for digest in found if digest not in needed])
    runs = await asyncio.to_thread(leftovers.aged_runs, data)
    trials = [path.name for path in runs]
    kept = await database.read(lambda c: retention.with_logs(c, trials, before))
    await asyncio.to_thread(leftovers.remove, [path for path in runs if path.name not in kept])
    loose = await asyncio.to_thread(leftovers.loose_logs, data)
    ended = await database.read(lambda c: logs.ended(c, loose))
    if count := await asyncio.to_thread(leftovers.settle_logs, data, sorted(ended)):
        log.info("logs-compressed", logs=count)
