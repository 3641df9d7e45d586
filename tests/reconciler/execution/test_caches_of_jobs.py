"""What jobs find in their caches, and what they leave there: real scripts of a daemon, one job after the other."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.execution.caches import CacheError
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Reason, State
from reconciler.store import jobs
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import PROJECT, Process, SpecRepository, eventually, eventually_now, process

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


TAGGED = r"""
repo: @CODE@
branches: [main]
tags: ["**"]
triggers: [{type: poll, interval_seconds: 1}]
concurrency: @CONCURRENCY@
tasks:
  - name: work
    cache: [{key: k, paths: [deps]}]
    run: |
      echo found: $(cat deps/who 2>/dev/null)
      mkdir -p deps
      cp mark deps/who
      while [ -e wait ]; do sleep 0.05; done
"""


def tagged(code: SpecRepository, name: str, mark: str) -> None:
    """A tag on a commit that is on no branch."""
    code.git("checkout", "-q", "--detach")
    code.commit({"mark": mark})
    code.git("tag", name)
    code.git("checkout", "-q", "-f", "refs/heads/main")
    code.git("symbolic-ref", "HEAD", "refs/heads/main")


def test_a_tag_that_is_named_like_a_branch_fills_no_cache_of_it(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """Who may push tags only could change what the branch runs; the tag itself reads what the branch has kept."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"mark": "first\n"})
    specs = TAGGED.replace("@CODE@", str(code.path)).replace("@CONCURRENCY@", "queue")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        async def found(number: int) -> str:
            async def there() -> bool:
                return await running.installation.database.read(lambda c: jobs.load(c, number)) is not None

            await eventually(there)
            assert (await finished(running, number)).state is State.PASSED
            await running.installation.runs.idle()
            return await text_of(running, number)

        assert await found(1) == "found:\n"
        (kept,) = (tmp_path / "data" / "caches").iterdir()
        kept.unlink()  # as if the branch had a new key
        tagged(code, "main", "evil\n")
        assert await found(2) == "found:\n"
        code.commit({"mark": "second\n"})
        assert await found(3) == "found:\n"
        tagged(code, "v1", "tagged\n")
        assert await found(4) == "found: second\n"

    live(tmp_path, new_database, build(specs), work)


def test_a_tag_that_is_named_like_a_branch_ends_no_job_of_it(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """They run side by side, although a newer job of a branch replaces an older one."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"mark": "first\n", "wait": ""})
    specs = TAGGED.replace("@CODE@", str(code.path)).replace("@CONCURRENCY@", "replace\ncancel_running: true")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        async def executing(*numbers: int) -> bool:
            loaded = [
                await running.installation.database.read(lambda c, n=n: jobs.load(c, n)) for n in numbers
            ]
            return all(job is not None and job.state is State.EXECUTING for job in loaded)

        await eventually(lambda: executing(1))
        tagged(code, "main", "tagged\n")
        await eventually(lambda: executing(1, 2))
        code.commit({"mark": "second\n", "wait": ""})
        assert (await finished(running, 1)).reason == Reason.SUPERSEDED
        await eventually(lambda: executing(2, 3))

    live(tmp_path, new_database, build(specs), work)


WAITING = """
tasks:
  - name: work
    cache: [{key: "k-{files:lock}", paths: [deps]}]
    run: |
      echo found: $(ls deps 2>/dev/null)
      mkdir -p deps
      touch deps/a lock
      while [ ! -e go ]; do sleep 0.05; done
"""


def test_a_cache_is_kept_also_by_the_next_daemon(tmp_path: Path) -> None:
    """Under the key that it had when its script began, which has changed what that was made of."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": build(WAITING)})

    def begin(running: Process, number: int) -> None:
        triggered = {"key": "Build/shop/_/work"}
        running.wait_for(lambda c: c.post("/reconciler/trigger", json=triggered).status_code == 202)
        running.job(number, "executing")
        eventually_now(lambda: list((tmp_path / "data" / "workspaces").glob("*/workspace/lock")))

    def let_go(running: Process, number: int) -> str:
        (workspace,) = (tmp_path / "data" / "workspaces").glob("*/workspace")
        (workspace / "go").touch()
        running.job(number, "passed")
        eventually_now(lambda: not workspace.exists())
        with running.client() as client:
            return client.get(f"/reconciler/jobs/{number}/log").text

    with process(repo.path, tmp_path / "data") as first:
        begin(first, 1)
        first.kill()
        with process(repo.path, tmp_path / "data") as second:
            assert let_go(second, 1) == "found:\n"
            begin(second, 2)
            assert let_go(second, 2) == "found: a\n"


CHAIN = r"""
tasks:
  - {name: install, cache: [{key: k, paths: [lib]}], run: "mkdir lib; echo whole >lib/it"}
  - {name: test, needs: [install], cache: [{key: k, paths: [lib]}], run: "ls $STEERSMAN_NEEDS; cat lib/it"}
"""


def test_what_starts_because_a_task_has_passed_finds_its_cache(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """However long it takes to keep it."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        caches = running.installation.runs.caches
        keep = caches.keep

        def slowly(*arguments: Any) -> bool:
            time.sleep(0.7)
            return keep(*arguments)

        caches.keep = slowly  # type: ignore[method-assign]
        await commands.trigger(running.installation, ROOT, "Build/shop/_/work", {}, None, None)
        assert (await finished(running)).state is State.PASSED
        assert await text_of(running, task="test") == "whole\n"

    live(tmp_path, new_database, build(CHAIN), work)


MANY = r"""
tasks:
  - name: work
    cache: [{key: k, paths: [deps]}]
    run: |
      echo begun
      mkdir -p deps
      seq 200 | while read -r n; do echo "$n" >"deps/$n"; done
"""


def test_a_job_that_is_cancelled_while_its_cache_is_put_back_does_not_begin(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """What is put back is given up, and its script never starts."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        assert await ran(running, 1) == "begun\n"
        caches, reached, go_on = running.installation.runs.caches, threading.Event(), threading.Event()
        restore, results = caches.restore, []

        def held(*arguments: Any) -> bool:
            reached.set()
            go_on.wait(30)
            try:
                results.append(restore(*arguments))
            except CacheError as error:
                results.append(str(error))
                raise
            return True

        caches.restore = held  # type: ignore[method-assign]
        await commands.trigger(running.installation, ROOT, "Build/shop/_/work", {}, None, None)
        await eventually(reached.is_set)
        await commands.cancel(running.installation, ROOT, 2)
        await eventually(lambda: [s for s in running.installation.runs._stops.values() if s.asked])
        go_on.set()
        job = await finished(running, 2)
        assert (job.state, job.reason) == (State.ABORTED, Reason.CANCELLED)
        assert [trial.state for trial in job.tasks[0].trials] == [State.ABORTED]
        assert results == ["the cache k could not be put back: it was stopped"]
        assert await text_of(running, 2) == "(cancelled)\n"
        assert len(list((tmp_path / "data/caches").iterdir())) == 1

    live(tmp_path, new_database, build(MANY), work)
