"""What the rows say of log folders. Called by `reconciler.passes.retention`; it knows no file."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from reconciler.store.tables import scripts, trials

_CHUNK = 500
_ENDED = (
    select(scripts.c.run)
    .select_from(scripts.join(trials))
    .where(
        trials.c.id.in_(bindparam("trials", expanding=True)),
        scripts.c.run.in_(bindparam("runs", expanding=True)),
        trials.c.finished_at.is_not(None),
    )
)


def ended(connection: Connection, runs: Sequence[str]) -> set[str]:
    """Those of the run folders, below DATA/runs, whose trial has ended: no log there grows, nothing else is read."""
    found: set[str] = set()
    for start in range(0, len(runs), _CHUNK):
        some = runs[start : start + _CHUNK]
        # by trial first, which has an index: every run begins with its trial
        asked = {"runs": some, "trials": sorted({run.partition("/")[0] for run in some})}
        found.update(connection.execute(_ENDED, asked).scalars())
    return found
