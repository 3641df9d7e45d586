"""`steersman backup` while the daemon works, and the documented restore from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support import PROJECT, SpecRepository, database_for, process

BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: b, project: shop}
spec:
  concurrency: allow
  tasks: [{name: t, run: "echo $INPUT_say; echo $INPUT_say >out.txt", attachments: [out.txt]}]
  inputs: [{id: say, default: nothing}]
"""


def run(verb: str, target: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """The verb, as a user runs it."""
    command = [
        sys.executable,
        "-c",
        "from api.cli import main; main()",
        verb,
        str(target),
        "--data",
        str(data),
    ]
    own = os.environ | database_for(data)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=own)


def test_what_was_there_at_the_backup_is_there_after_the_restore(tmp_path: Path) -> None:
    """Jobs, logs, attachments, tokens and a sound event log; taken while other jobs run."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT, "b.yaml": BUILD})
    target = tmp_path / "b.tar.gz"
    key = {"key": "Build/shop/_/b"}
    allowed = {"STEERSMAN_ALLOW_UNSANDBOXED": "1"}
    with process(repo.path, tmp_path / "data", **allowed) as running, running.client() as client:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
        first = client.post("/reconciler/trigger", json=key | {"inputs": {"say": "first"}}).json()["number"]
        running.job(first, "passed")
        for _ in range(5):
            client.post("/reconciler/trigger", json=key).raise_for_status()
        done = run("backup", target, tmp_path / "data")
        assert done.returncode == 0, done.stderr
        token = running.token
    assert target.stat().st_mode & 0o777 == 0o600
    again = run("backup", target, tmp_path / "data")
    assert (again.returncode, "name a new file" in again.stderr) == (1, True)
    other = tmp_path / "other"
    with tarfile.open(target) as archive:
        assert not any(name.startswith(("workspaces", "mirrors", "caches")) for name in archive.getnames())
    restored = run("restore", target, other)
    assert restored.returncode == 0, restored.stderr
    assert other.stat().st_mode & 0o777 == 0o700
    with process(repo.path, other, **allowed) as running, running.client() as client:
        assert running.token == token
        assert running.job(first, "passed")["inputs"] == {"say": "first"}
        assert client.get(f"/reconciler/jobs/{first}/log").text == "first\n"
        assert client.get(f"/reconciler/jobs/{first}/attachments/out.txt").text == "first\n"
        assert client.get("/reconciler/audit").json()["sound"]
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["jobs"] == {"pending": 0, "executing": 0}
        )


def test_a_backup_without_a_data_directory_leaves_no_file(tmp_path: Path) -> None:
    """It says so."""
    assert "no data directory" in run("backup", tmp_path / "a.tar.gz", tmp_path / "absent").stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.sqlite("its file is missing; a PostgreSQL without tables is in test_move")
def test_a_backup_without_a_database_leaves_no_file(tmp_path: Path) -> None:
    """It says so."""
    (tmp_path / "empty").mkdir()
    assert "was not made" in run("backup", tmp_path / "a.tar.gz", tmp_path / "empty").stderr
    assert os.listdir(tmp_path) == ["empty"]
