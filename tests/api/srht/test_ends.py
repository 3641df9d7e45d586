"""Edge cases that want a daemon of their own: time limits, restarts, and nothing open (builds-srht, 10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.escape.conftest import document
from tests.api.srht.conftest import FILES, IMAGES, SETTINGS, World, refused, states, tasks
from tests.support import Process, SpecRepository, start, stop


@pytest.fixture
def repo(tmp_path: Path) -> SpecRepository:
    """An executor that does one thing at a time."""
    made = SpecRepository(tmp_path / "specs")
    one = document("Executor", "name: exec-1", f"{{max_load: 1, images: {IMAGES}}}")
    made.commit(FILES | {"executor.yaml": one})
    return made


@contextlib.contextmanager
def started(repo: SpecRepository, data: Path, **more: str) -> Iterator[World]:
    """A daemon on this data; it is killed at the end."""
    running: Process = start(repo.path, data, **SETTINGS | more)
    try:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo)) as world:
            yield world
    finally:
        running.kill()


def test_case_24_a_time_limit(repo: SpecRepository, tmp_path: Path) -> None:
    """It ends as `timeout`; the task that ran has failed, the one after it is `pending`."""
    data = tmp_path / "data"
    with started(repo, data, STEERSMAN_MANIFEST_TIMEOUT_SECONDS="2") as world:
        found = world.run(tasks("true", "sleep 60", "true"))
        assert (found["status"], states(found)) == ("timeout", ["success", "failed", "pending"])
        stop(world.running)


def test_case_36_restarts(repo: SpecRepository, tmp_path: Path) -> None:
    """What was running goes on, what was queued runs after it, what waited for its start still does."""
    data = tmp_path / "data"
    go = tmp_path / "told" / "go"
    go.parent.mkdir()
    seeing = f"{{max_load: 1, readable: ['{go.parent}'], images: {IMAGES}}}"
    repo.commit({"executor.yaml": document("Executor", "name: exec-1", seeing)})
    with started(repo, data) as world:
        runs = world.submit(tasks(f"echo before; until test -e {go}; do sleep 0.1; done; echo after"))["id"]
        world.once(runs, lambda job: states(job) == ["running"])
        queued = world.submit(tasks("true"))["id"]
        held = world.submit(tasks("true"), execute=False)["id"]
        cancelled = world.submit(tasks("true"))["id"]
        assert world["jo"].post(f"/api/jobs/{cancelled}/cancel").json() == {}
        gone = world.job(cancelled)
        assert (gone["status"], gone["setup_log"], states(gone)) == ("cancelled", None, ["pending"])
        assert world.job(queued)["status"] == "queued"
    with started(repo, data) as world:
        assert world.job(runs)["status"] in ("running", "queued")
        go.touch()
        found = world.ended(runs)
        assert (found["status"], states(found)) == ("success", ["success"])
        text = world.log(found["tasks"][0]["log"])
        assert "\nbefore\n" in text
        assert "\nafter\n" in text
        assert world.ended(queued)["status"] == "success"
        assert world.job(held)["status"] == "pending"
        assert world.job(cancelled)["status"] == "cancelled"
        stop(world.running)


def test_case_20_nothing_is_open_by_itself(repo: SpecRepository, tmp_path: Path) -> None:
    """Without the setting `anonymous_read` also what everybody may read takes a token."""
    with started(repo, tmp_path / "data", STEERSMAN_ANONYMOUS_READ="[]") as world:
        found = world.run(tasks("true"))
        for path in (f"/api/jobs/{found['id']}/manifest", found["setup_log"], found["tasks"][0]["log"]):
            refused(world.nobody.get(path), 401)
            assert world["bob"].get(path).status_code == 200
        stop(world.running)
