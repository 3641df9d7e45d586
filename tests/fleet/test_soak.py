"""A short soak: every kind of process is killed and stopped, and nothing is lost or done twice."""

from __future__ import annotations

import sys

from tests.fleet.soak import POSTGRESQL, Blow, soak

PLAN = (
    Blow("one", "kill", 0),
    Blow("north", "stop", 11),
    Blow("two", "stop", 17),
    Blow(POSTGRESQL, "restart", 1),
    Blow("south", "kill", 1),
    Blow("three", "kill", 17),
    Blow(POSTGRESQL, "restart", 3),
)


def test_jobs_survive_what_happens_to_their_daemons_and_workers(tmp_path, capsys):
    """As `make soak`, in a minute."""
    report = soak(tmp_path / "soak", jobs=60, seconds=60, plan=PLAN, fresh=False)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")
    assert report.faults == []
    assert report.blows == {
        "kills of workers": 2,
        "stops of workers": 1,
        "kills of daemons": 1,
        "stops of daemons": 1,
        "restarts of PostgreSQL": 2,
    }
    assert report.leads >= 1
