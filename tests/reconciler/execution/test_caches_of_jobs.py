"""What jobs find in their caches, and what they leave there: real scripts of a daemon, one job after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.access import ROOT
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import State
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import SpecRepository

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
FILLING = r"""
tasks:
  - name: work
    cache: [{key: k, paths: [deps]}]
    run: |
      echo found: $(ls deps 2>/dev/null)
      mkdir -p deps
      head -c 300000 /dev/urandom >deps/a
      head -c 300000 /dev/urandom >deps/b
"""


async def ran(running: Daemon, number: int) -> str:
    """What job NUMBER, triggered now, found and was told; it has kept what it keeps."""
    await commands.trigger(running.installation, ROOT, "Build/shop/_/work", {}, None, None)
    assert (await finished(running, number)).state is State.PASSED
    await running.installation.runs.idle()
    return await text_of(running, number)


def test_who_was_told_of_half_a_cache_keeps_nothing_under_its_key(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """The next one finds none, and keeps what it makes; the one after finds that."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        archives = tmp_path / "data" / "caches"
        assert await ran(running, 1) == "found:\n"
        (archive,) = archives.iterdir()
        archive.write_bytes(archive.read_bytes()[:400_000])
        told = await ran(running, 2)
        assert told.startswith("found:\n")
        assert "the cache k could not be put back" in told
        assert list(archives.iterdir()) == []
        assert await ran(running, 3) == "found:\n"
        assert await ran(running, 4) == "found: a b\n"

    live(tmp_path, new_database, build(FILLING), work)
