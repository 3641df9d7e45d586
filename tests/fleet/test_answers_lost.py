"""Commits whose answer did not come, as when PostgreSQL is restarted: what they stored is gone on with, and once."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import jobs as commands
from reconciler.errors import Transient
from reconciler.execution import taking
from reconciler.store import jobs as rows
from tests import databases
from tests.fleet.fleet import build
from tests.running import finished, live


def _lose(database: Any, which: str) -> list[str]:
    """The answer of the first write of this function is lost after its commit; what was lost is told there."""
    lost: list[str] = []
    write = database.write

    async def losing(work: Any, *given: Any, **named: Any) -> Any:
        found = await write(work, *given, **named)
        if not lost and getattr(work, "__qualname__", "") == which:
            lost.append(which)
            raise Transient("DatabaseUnavailable", "the connection was closed")
        return found

    database.write = losing
    return lost


@pytest.mark.parametrize("which", ["Runs._begin.<locals>.begin", "start.<locals>.claim"])
def test_a_trial_whose_start_was_stored_unheard_runs_once(tmp_path, monkeypatch, which):
    """It is neither taken for cancelled nor left to nobody."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(taking, "_LOOK", 1.0)
    if "begin" in which:  # as if something had to be fetched first
        start = rows.start
        monkeypatch.setattr(rows, "start", lambda *given, ready: start(*given, ready=False))
    executor = (
        "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\n"
        f"spec: {{max_load: 1, writable: [{out}]}}\n"
    )

    async def work(running, _repo):
        installation = running.installation
        lost = _lose(installation.database, which)
        await commands.trigger(installation, ROOT, "Build/shop/_/once", {}, None, None)
        job = await finished(running)
        assert lost == [which]
        assert (job.state, job.reason) == ("passed", None)
        assert len((out / "starts").read_text().splitlines()) == 1

    live(
        tmp_path,
        databases.new_postgresql,
        executor + build("once", f"echo $STEERSMAN_TRIAL >> {out}/starts"),
        work,
    )
