"""Kill -9 before and after commits, spawns and renames of the daemon: nothing is lost, doubled or missing.

A sample of what `make sweep` does at all points.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reconciler.execution.sandbox import bubblewrap, why_not
from tests.crash.points import AFTER, BEFORE
from tests.crash.sweep import again, dry_run, sample, sweep

POINTS_AT_LEAST = 200
ONCE = 4
TWICE = 1


@pytest.mark.slow
def test_a_kill_at_any_point_changes_nothing_that_a_user_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start lines, logs, states, attachments, events and the plan are those of a run that nobody disturbed."""
    if bubblewrap() is None:
        pytest.skip(why_not())
    dry = dry_run(tmp_path / "dry")
    plans = [(kill,) for kill in sample(dry, ONCE)] + [again(kill) for kill in sample(dry, TWICE)]
    report = sweep(dry, plans, lambda _run: None)
    with capsys.disabled():
        sys.stdout.write(f"\n{dry}; a sample of {ONCE} killed once and {TWICE} twice\n{report.total}\n")
    assert dry.count >= POINTS_AT_LEAST
    assert {BEFORE, AFTER} == {run.kills[0].when for run in report.runs if run.died is not None}
    assert report.faulty == [], "\n".join(report.lines())
