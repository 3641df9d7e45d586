"""A daemon that ran scripts itself and is away: they go on and wait for it, and nobody begins them a second time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fleet.fleet import Fleet, fleet
from tests.support import Process, eventually_now


def _specs(out) -> str:
    head = {"apiVersion": "steersman/v1"}
    spec = {"max_load": 2, "writable": [str(out)]}
    executor = head | {"kind": "Executor", "metadata": {"name": "local"}, "spec": spec}
    task = {"name": "main", "run": f"echo begin >> {out}/marks; sleep 20; echo end >> {out}/marks"}
    build = head | {
        "kind": "Build",
        "metadata": {"name": "work", "project": "shop"},
        "spec": {"tasks": [task], "concurrency": "allow"},
    }
    return f"---\n{json.dumps(executor)}\n---\n{json.dumps(build)}\n"


@contextmanager
def _taken_over(folder: Path) -> Iterator[tuple[Fleet, int, Process, Process]]:
    """A job at work on a daemon that is killed while another one takes the lead: the job's number, and both daemons."""
    out = folder / "out"
    out.mkdir()
    with fleet(folder, _specs(out)) as crew:
        first = crew.daemon("first", STEERSMAN_EXECUTORS='["*"]')
        number = crew.trigger("Build/shop/_/work")
        eventually_now(lambda: (out / "marks").exists())
        second = crew.daemon("second")
        first.kill()
        second.wait_for(lambda c: c.get("/health").json()["leads"])
        yield crew, number, first, second


def test_its_scripts_outlive_it_and_are_taken_up_when_it_is_back(tmp_path):
    """Killed while another one takes the lead; back as a follower it stores the end of what it had begun."""
    with _taken_over(tmp_path) as (crew, number, first, second):
        assert crew.until(number, lambda _: True, daemon=second)["state"] == "executing"
        crew.daemons.remove(first)
        crew.daemon("first", STEERSMAN_EXECUTORS='["*"]')
        job = crew.ended(number, daemon=second)
        assert job["state"] == "passed"
        assert len(job["tasks"][0]["trials"]) == 1
        assert (tmp_path / "out" / "marks").read_text() == "begin\nend\n"


def test_who_does_not_want_to_wait_for_it_cancels(tmp_path):
    """The job ends without the daemon, which is not told to have ended it."""
    with _taken_over(tmp_path) as (crew, number, _, second):
        eventually_now(lambda: _is_away(crew, "first"), 60)
        with crew.client(second) as client:
            assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
        job = crew.ended(number, daemon=second)
        assert (job["state"], job["reason"]) == ("aborted", "cancelled")


def test_a_cancel_before_anybody_knows_that_it_is_away_ends_the_job_once_they_do(tmp_path):
    """Nobody needs to ask a second time."""
    with _taken_over(tmp_path) as (crew, number, _, second):
        with crew.client(second) as client:
            assert client.post(f"/reconciler/jobs/{number}/cancel").status_code == 202
        assert not _is_away(crew, "first")
        job = crew.ended(number, daemon=second)
        assert (job["state"], job["reason"]) == ("aborted", "cancelled")


def _is_away(crew, name: str) -> bool:
    query = "SELECT 1 FROM workers WHERE name = :name AND seen_at / 1e6 < extract(epoch FROM now()) - 17"
    return bool(crew.ask(query, name=name))
