"""A daemon that is stopped while somebody watches it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx

from tests.support import PROJECT, Process, SpecRepository, start

WAITS = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: waits, project: shop}
spec: {triggers: [{type: change}], tasks: [{name: t, traits: [gpu], run: "true"}]}
"""


def watch(running: Process, path: str, begun: threading.Barrier, ends: list[str]) -> None:
    """Reads a stream to its end."""
    with running.client() as client, client.stream("GET", path) as answer:
        begun.wait(20)
        try:
            for _ in answer.iter_raw():
                pass
            ends.append(path)
        except httpx.TransportError as error:
            ends.append(f"{path}: {error}")


def test_streams_end_with_the_daemon_and_nothing_is_told_as_a_fault(tmp_path: Path) -> None:
    """Events, the live number of pages, and the log of a job that waits; every line of its log is JSON."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT, "b.yaml": WAITS})
    running = start(repo.path, tmp_path / "data", fresh=True)
    running.wait_for(lambda client: client.get("/reconciler/jobs").json()["items"])
    paths = ["/reconciler/events/stream", "/ui/live", "/reconciler/jobs/1/log/stream"]
    begun, ends = threading.Barrier(len(paths) + 1), list[str]()
    watching = [threading.Thread(target=watch, args=(running, path, begun, ends)) for path in paths]
    for thread in watching:
        thread.start()
    begun.wait(20)
    running.popen.terminate()
    assert running.popen.wait(20) == 0
    for thread in watching:
        thread.join()
    assert sorted(ends) == sorted(paths)
    lines = [json.loads(line) for line in running.log().splitlines() if line.startswith("{")]
    assert "Traceback" not in running.log()
    assert [line for line in lines if line["level"] not in ("info", "warning")] == []


def test_a_branch_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT})
    running = start(repo.path, tmp_path / "data", fresh=True, STEERSMAN_BRANCH="master")
    try:
        running.wait_for(lambda _client: "source-trouble" in running.log())
        told = next(json.loads(line) for line in running.log().splitlines() if "source-trouble" in line)
        assert (
            "has no branch master; what was applied stays in force; it has main: name one" in told["message"]
        )
    finally:
        running.popen.terminate()
        running.popen.wait(20)
