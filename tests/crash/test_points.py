"""The counter of kill points sees commits, spawns and renames, and kills where it is told; faults are told apart."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import points
from tests.crash.outcome import Outcome, compare
from tests.crash.points import AFTER, BEFORE, Kill

_PROGRAM = """
import sqlite3, subprocess, sys
from pathlib import Path
from sqlalchemy import create_engine, text
from tests.crash import points
from tests.crash.points import Kill

folder, number, when = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
engine = create_engine(f"sqlite:///{folder}/store.db")
points.install(folder / "points", Kill(number, when))
with engine.begin() as connection:
    connection.execute(text("CREATE TABLE made (id INTEGER)"))
    connection.execute(text("INSERT INTO made VALUES (1)"))
subprocess.run(["/bin/sh", "-c", f"exec 3>'{folder}/spawned'"])
(folder / "new").write_text("x")
(folder / "new").replace(folder / "renamed")
(folder / "renamed").rename(folder / "again")
(folder / "linked").hardlink_to(folder / "again")
"""
SHAPE = {"state": ["passed", None]}
OUTCOME = Outcome(
    jobs={("work", 1): SHAPE},
    logs={("work", 1, "test", 1, "run"): b"one\ntwo\n"},
    starts={("work", 1, "test", "1"): 1},
    trials={"id": 1},
    events={("job-created", "Build/shop/_/work"): 1},
    resources={"Build/shop/_/work": ["Synced", "Healthy", 1]},
    plan={"actions": [], "held": [], "errors": [], "audit": {"sound": True}},
    rows={("commits", "one"): 1},
)


def _run(folder: Path, kill: Kill) -> int:
    argv = [sys.executable, "-c", _PROGRAM, str(folder), str(kill.number), kill.when]
    return subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True).returncode


def test_commits_spawns_renames_and_links_are_points(tmp_path: Path) -> None:
    """In their order, each once."""
    assert _run(tmp_path, Kill(99, BEFORE)) == 0
    found = points.read(tmp_path / "points")
    assert [point.kind for point in found] == ["commit", "spawn", "rename", "rename", "rename"]
    assert points.by_kind(found) == {"commit": 1, "rename": 3, "spawn": 1}


@pytest.mark.parametrize(("number", "name"), [(3, "renamed"), (4, "again"), (5, "linked")])
def test_a_kill_before_a_rename_leaves_it_undone_and_one_after_done(
    tmp_path: Path, number: int, name: str
) -> None:
    """KILL, at exactly that point."""
    for when, there in ((BEFORE, False), (AFTER, True)):
        folder = tmp_path / when
        folder.mkdir()
        assert _run(folder, Kill(number, when)) == -signal.SIGKILL
        assert there == (folder / name).exists()
        assert number == len(points.read(folder / "points"))


def test_a_kill_after_a_commit_finds_it_stored(tmp_path: Path) -> None:
    """And one before it does not; nothing comes after either."""
    for when, expected in ((BEFORE, 0), (AFTER, 1)):
        folder = tmp_path / when
        folder.mkdir()
        assert _run(folder, Kill(1, when)) == -signal.SIGKILL
        with closing(sqlite3.connect(folder / "store.db")) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            assert (
                connection.execute("SELECT count(*) FROM made").fetchone()[0] if tables else 0
            ) == expected
        assert not (folder / "spawned").exists()


def test_equal_outcomes_have_no_faults() -> None:
    """Nothing is told where nothing is wrong."""
    assert not compare(OUTCOME, OUTCOME)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"jobs": {}}, "lost"),
        ({"jobs": {("work", 1): {"state": ["defective", "lost"]}}}, "lost"),
        ({"starts": {}}, "lost"),
        ({"rows": {}}, "lost"),
        ({"rows": {("commits", "one"): 2}}, "doubled"),
        ({"events": {}}, "lost"),
        ({"jobs": {("work", 1): SHAPE, ("work", 2): SHAPE}}, "doubled"),
        ({"starts": {("work", 1, "test", "1"): 2}}, "doubled"),
        ({"trials": {"id": 2}}, "doubled"),
        ({"events": {("job-created", "Build/shop/_/work"): 2}}, "doubled"),
        ({"logs": {}}, "logs"),
        ({"resources": {}}, "other"),
        ({"plan": {**OUTCOME.plan, "actions": ["create"]}}, "other"),
        ({"plan": {**OUTCOME.plan, "audit": {"sound": False}}}, "other"),
    ],
)
def test_what_differs_is_told_by_its_kind(change: dict[str, object], kind: str) -> None:
    """Lost, doubled, in a log, or elsewhere."""
    faults = list(compare(OUTCOME, replace(OUTCOME, **change)))  # type: ignore[arg-type]
    assert [kind] == sorted({fault.partition(":")[0] for fault in faults})


@pytest.mark.parametrize(
    ("text", "missing"), [(b"one\n", 4), (b"", 8), (b"one\ntwo\ntwo\n", 4), (b"one\nTwo\n", 4)]
)
def test_bytes_of_a_log_that_are_missing_doubled_or_different_are_counted(text: bytes, missing: int) -> None:
    """From the first one on that is not as it should be."""
    changed = replace(OUTCOME, logs={("work", 1, "test", 1, "run"): text})
    assert missing == compare(OUTCOME, changed).missing_bytes
