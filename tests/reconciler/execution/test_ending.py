"""How ends are judged, where a script had a hand in what they are judged by."""

from __future__ import annotations

import os
from pathlib import Path

from reconciler.execution.ending import Stop, Verdict, judge
from reconciler.execution.supervisor import Exit
from reconciler.model.job import Reason, State
from reconciler.store.jobs import Ending


def _judged(run: Path, status: int = 1, forced: Stop | None = None) -> Ending:
    return judge(Verdict(Exit(status), forced), run, {"run": 0, "db": 3}, {}, out_of_memory=False)


def test_a_service_that_was_not_ready_is_told(tmp_path: Path) -> None:
    """By the launcher, before the script runs."""
    (tmp_path / "status").write_text("started\nended db\nservice db\n")
    ending = _judged(tmp_path)
    assert (ending.state, ending.reason, ending.failed) == (State.DEFECTIVE, Reason.SERVICE, "db")


def test_what_a_script_writes_into_the_status_counts_for_nothing(tmp_path: Path) -> None:
    """After it runs, or about a service that there is not."""
    for text in ("started\nrunning\nservice db\n", "started\nservice \x1b[31mevil\n"):
        (tmp_path / "status").write_text(text)
        ending = _judged(tmp_path)
        assert (ending.state, ending.reason, ending.failed) == (State.FAILED, Reason.EXIT_STATUS, None)


def test_a_pipe_in_place_of_the_status_holds_nobody_up(tmp_path: Path) -> None:
    """Nor does a link to something else."""
    os.mkfifo(tmp_path / "status")
    assert _judged(tmp_path).reason == Reason.EXIT_STATUS
    (tmp_path / "status").unlink()
    (tmp_path / "status").symlink_to("/etc/passwd")
    assert _judged(tmp_path).reason == Reason.EXIT_STATUS


def test_why_a_script_is_ended_outlives_the_daemon(tmp_path: Path) -> None:
    """A daemon that finds it ended knows that it was its time, not its own doing."""
    assert Stop.kept(tmp_path) is None
    stop = Stop()
    stop.ask(Reason.TIMEOUT, None)
    stop.keep(tmp_path)
    ending = _judged(tmp_path, 143, Stop.kept(tmp_path))
    assert (ending.state, ending.reason) == (State.DEFECTIVE, Reason.TIMEOUT)
