"""Carries out what `controllers.dispatch` decides: claims in one transaction, then the trials begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.controllers.turns import Assignment
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.model.job import Job
from reconciler.model.queue import Changes
from reconciler.store import jobs as rows
from reconciler.store import queue as queue_rows
from reconciler.store.database import Write
from reconciler.store.jobs import LiveTrial


async def start(
    installation: Installation, assignments: Sequence[Assignment], places: Mapping[str, Place]
) -> bool:
    """Claim the chosen trials and begin them. False: some were no longer to be had.

    Where nothing has to be fetched first, a claim is a beginning: one transaction instead of two.
    """
    worker = installation.runs.worker

    def claim(write: Write) -> tuple[list[tuple[LiveTrial, Job]], Changes | None]:
        claimed: list[tuple[LiveTrial, Job]] = []
        for chosen in assignments:
            found = rows.start(write, chosen.trial, chosen.executor, worker, ready=chosen.ready)
            if found is not None:
                trial, job = found
                if trial.policy.get("needs"):  # only then is more than the job itself looked at
                    job = rows.load(write.connection, job.number) or job
                claimed.append((trial, job))
        return claimed, changes(installation, write)

    claimed, seen = await installation.database.write(claim, prompt=True)
    if seen is not None:
        installation.queue.take(seen)
    for trial, job in claimed:
        installation.runs.begin(trial, job, places[trial.executor or ""])
    return len(claimed) == len(assignments)


def changes(installation: Installation, write: Write) -> Changes | None:
    """What the queue has not been told yet, at the end of a transaction: it spares dispatch one of its own."""
    since = installation.queue.version
    return None if since is None else queue_rows.changed(write.connection, since, write.version)
