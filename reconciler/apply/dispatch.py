"""Carries out what `controllers.dispatch` decides: claims in one transaction, then the trials begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.controllers.turns import Assignment
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.model.job import Job, State
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import LiveTrial


async def start(
    installation: Installation, assignments: Sequence[Assignment], places: Mapping[str, Place]
) -> list[int]:
    """Claim the chosen trials and begin them; gives the jobs of those that were no longer to be had.

    Where nothing has to be fetched first, a claim is a beginning: one transaction instead of two.
    """
    worker = installation.runs.worker

    def claim(write: Write) -> tuple[list[tuple[LiveTrial, Job]], list[int]]:
        claimed: list[tuple[LiveTrial, Job]] = []
        missed = []
        for chosen in assignments:
            if rows.claim(write.connection, chosen.trial, chosen.executor, worker) is None:
                missed.append(chosen.job)
            else:
                rows.touch(write.connection, chosen.job, write.version)
                claimed += _claimed(write, chosen.trial)
        return claimed, missed

    claimed, missed = await installation.database.write(claim)
    for trial, job in claimed:
        installation.runs.begin(trial, job, places[trial.executor or ""])
    return missed


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
