"""What lies in the data directory of a daemon or a worker and is needed no more goes, by what the store says.

Called by the pass of retention, and by every worker for itself.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from reconciler.execution import leftovers
from reconciler.execution.attachments import SHELVES, AttachmentStore
from reconciler.store import logs, retention
from reconciler.store.database import Database

log = structlog.get_logger(__name__)


async def tidy(data: Path, store: AttachmentStore, database: Database, before: datetime) -> None:
    """What lies in a data directory and no row refers to goes; large logs of what has ended are compressed.

    Of every process that has such a directory, not only of the one that leads.
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
