"""Counts for monitoring."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reconciler.access import Caller, require_level
from reconciler.installation import Installation
from reconciler.model.rights import Level
from reconciler.passes.workers import state_of
from reconciler.store import jobs, ownership


@dataclass(frozen=True, slots=True)
class Figures:
    """`resources` by (kind, sync, health), unfinished `jobs` by state, on PostgreSQL the processes that can run trials
    by (kind, state), and single figures by name.
    """

    resources: dict[tuple[str, str, str], int]
    jobs: dict[str, int]
    workers: dict[tuple[str, str], int]
    single: dict[str, int]


async def figures(installation: Installation, caller: Caller) -> Figures:
    """What there is now."""
    require_level(caller, Level.READ, "reading metrics")
    view = installation.snapshot.current
    source = view.source
    kinds = Counter((r.kind, r.sync.value, r.health.value) for r in view.resources.values())
    return Figures(
        resources=dict(kinds),
        jobs=await installation.database.read(jobs.counts),
        workers=dict(Counter((worker.kind, state_of(worker)) for worker in installation.crew)),
        single={
            "trials_running": installation.runs.active,
            "store_version": view.version,
            "source_errors": len(source.errors) if source else 0,
            "source_up": int(source is not None and source.trouble is None),
            "removals_held": len(source.held) if source else 0,
            "passes_failing": len(installation.troubles),
            "leads": int(installation.standing.leads and installation.database.leads),
            "take_overs": await installation.database.read(ownership.take_overs),
        },
    )
