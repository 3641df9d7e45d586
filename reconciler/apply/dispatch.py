"""Carries out what `controllers.dispatch` decides: claims in one transaction, then the trials begin."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.controllers.dispatch import DispatchDecision
from reconciler.execution.run import Place
from reconciler.installation import Installation
from reconciler.store import jobs as rows
from reconciler.store.database import Write
from reconciler.store.jobs import LiveTrial


async def start(
    installation: Installation,
    decision: DispatchDecision,
    queue: Mapping[str, LiveTrial],
    places: Mapping[str, Place],
) -> int:
    """Claim the chosen trials and begin them; gives how many."""

    def claim(write: Write) -> list[tuple[LiveTrial, int, str]]:
        claimed = []
        for chosen in decision.assignments:
            trial = queue[chosen.trial]
            epoch = rows.claim(write.connection, trial.id, chosen.executor, installation.runs.worker)
            if epoch is not None:
                rows.touch(write.connection, trial.job, write.version)
                claimed.append((trial, epoch, chosen.executor))
        return claimed

    if not decision.assignments:
        return 0
    claimed = await installation.database.write(claim)
    for trial, epoch, executor in claimed:
        installation.runs.begin(trial, epoch, places[executor])
    return len(claimed)
