"""Carries out what `controllers.dispatch` decides: claims in one transaction, then the trials begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.controllers.turns import Assignment
from reconciler.execution.command import Place
from reconciler.installation import Installation
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import LiveTrial


async def start(
    installation: Installation, assignments: Sequence[Assignment], places: Mapping[str, Place]
) -> list[int]:
    """Claim the chosen trials and begin them; gives the jobs of those that were no longer to be had."""
    worker = installation.runs.worker

    def claim(write: Write) -> tuple[list[LiveTrial], list[int]]:
        claimed: list[LiveTrial] = []
        missed = []
        for chosen in assignments:
            if rows.claim(write.connection, chosen.trial, chosen.executor, worker) is None:
                missed.append(chosen.job)
            else:
                rows.touch(write.connection, chosen.job, write.version)
                claimed += rows.live_trials(write.connection, chosen.trial)
        return claimed, missed

    claimed, missed = await installation.database.write(claim)
    for trial in claimed:
        installation.runs.begin(trial, trial.epoch, places[trial.executor or ""])
    return missed
