"""Carries out what `controllers.dispatch` decides: claims in one transaction, then the trials begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.controllers.turns import Assignment
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.model.job import Job, State
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
            if rows.claim(write.connection, chosen.trial, chosen.executor, worker) is not None:
                rows.touch(write.connection, chosen.job, write.version)
                claimed += _claimed(write, chosen.trial)
        return claimed, changes(installation, write)

    claimed, seen = await installation.database.write(claim)
    if seen is not None:
        installation.queue.take(seen)
    for trial, job in claimed:
        installation.runs.begin(trial, job, places[trial.executor or ""])
    return len(claimed) == len(assignments)


def changes(installation: Installation, write: Write) -> Changes | None:
    """What the queue has not been told yet, at the end of a transaction: it spares dispatch one of its own."""
    since = installation.queue.version
    return None if since is None else queue_rows.changed(write.connection, since, write.version)


def _claimed(write: Write, chosen: str) -> Iterator[tuple[LiveTrial, Job]]:
    connection, now, version = write.connection, write.now, write.version
    for trial in rows.live_trials(connection, chosen):
        whole = bool(trial.policy.get("needs"))  # only then is more than the job itself looked at
        job = rows.load(connection, trial.job, tasks=whole)
        if job is None:
            continue
        ready = job.checkout.commit is None
        if ready and rows.begin(connection, trial.id, trial.epoch, trial.run, now, version):
            trial = replace(trial, state=State.EXECUTING)
        yield trial, job
