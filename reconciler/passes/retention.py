"""The pass of the name `retention`: finished jobs, logs and attachments older than declared are forgotten."""

from __future__ import annotations

import asyncio
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from reconciler.installation import Installation
from reconciler.source.desired import is_spec
from reconciler.store import resources, retention
from specs.loader import LOADER_VERSION

_EVERY = timedelta(hours=6)


async def run(installation: Installation) -> datetime:
    """Forget what has expired; gives the time of the next look."""
    settings = installation.settings
    now = installation.now()
    expired = await installation.database.write(
        lambda w: retention.expire(w.connection, w.now - timedelta(days=settings.retention_days))
    )
    for digest in expired.digests:
        await asyncio.to_thread(installation.attachments.delete, digest)
    for trial in expired.trials:
        await asyncio.to_thread(_remove, settings.data / "runs" / trial)
    if installation.desired is not None:
        blobs = frozenset(e.blob for path, e in installation.desired.paths.items() if is_spec(path))
        await installation.database.write(lambda w: resources.keep_blobs(w.connection, blobs, LOADER_VERSION))
    return now + _EVERY


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
