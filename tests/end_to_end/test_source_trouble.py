"""What happens around a spec repository and a daemon: things vanish, are locked, are taken, and come back."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import databases, forked
from tests.api.conftest import steersman as command_line
from tests.support import PROJECT, Process, SpecRepository, process, start, stop

BARE = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_POLL_SECONDS": "1"}


def build(name: str, command: str = "echo hello", spec: str = "") -> str:
    """A Build of one task."""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n{spec}  tasks:\n    - {{name: main, run: '{command}'}}\n"
    )


def resources(running: Process) -> list[str]:
    """KEYs there are."""
    with running.client() as client:
        return [item["key"] for item in client.get("/reconciler/resources").json()["items"]]


def applied(running: Process, revision: str) -> dict[str, Any]:
    """The status once a revision is applied and the source is well."""

    def check(client: httpx.Client) -> Any:
        body = client.get("/reconciler/status").json()
        source = body["source"]
        return source["last_applied_revision"] == revision and not source["trouble"] and body

    found: dict[str, Any] = running.wait_for(check)
    return found


def trouble(running: Process, reason: str) -> str:
    """The sentence of the source's trouble, once it has this reason; `/health` says degraded meanwhile."""

    def check(client: httpx.Client) -> Any:
        found = client.get("/reconciler/status").json()["source"]["trouble"]
        return found and found["reason"] == reason and found["message"]

    message: str = running.wait_for(check)
    with running.client() as client:
        health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert reason in health.json()["checks"]["source"]
    return message


@pytest.fixture
def repo(tmp_path: Path) -> SpecRepository:
    """A spec repository with a project and a build."""
    made = SpecRepository(tmp_path / "specs")
    made.commit({"project.yaml": PROJECT, "one.yaml": build("one")})
    return made


@pytest.fixture
def running(repo: SpecRepository, tmp_path: Path) -> Iterator[Process]:
    """A daemon that has applied it."""
    with process(repo.path, tmp_path / "data", **BARE) as made:
        applied(made, repo.head())
        yield made


def test_a_spec_repository_that_vanishes_leaves_everything_in_force(
    running: Process, repo: SpecRepository
) -> None:
    """Moved away: trouble, nothing pruned, jobs still run. Back with another commit: it is applied."""
    before = resources(running)
    away = repo.path.with_name("away")
    repo.path.rename(away)
    with running.client() as client:
        answer = client.post("/reconciler/sync", json={})
        assert answer.status_code in (409, 503)
        assert str(repo.path) in answer.json()["detail"]
        assert client.get("/health").json()["status"] == "degraded"
        assert client.get("/reconciler/status").json()["source"]["trouble"]["message"]
        assert resources(running) == before
        made = client.post("/reconciler/trigger", json={"key": "Build/shop/_/one"})
        assert made.status_code == 202
        assert running.job(made.json()["number"], "passed")
    away.rename(repo.path)
    applied(running, repo.commit({"two.yaml": build("two")}))
    assert resources(running) == ["Build/shop/_/one", "Build/shop/_/two", "Project/shop"]
    running.wait_for(lambda c: c.get("/health").json()["status"] == "ok")


def test_a_branch_that_is_deleted_prunes_nothing(running: Process, repo: SpecRepository) -> None:
    """`BranchMissing`, also across a restart; made again without a resource, that one is removed."""
    before = resources(running)
    repo.git("checkout", "-q", "-b", "elsewhere")
    repo.git("branch", "-q", "-D", "main")
    assert "no branch main" in trouble(running, "BranchMissing")
    assert resources(running) == before
    stop(running)
    again = start(repo.path, running.data, **BARE)
    try:
        trouble(again, "BranchMissing")
        assert resources(again) == before
        repo.commit({"one.yaml": None, "two.yaml": build("two")})
        repo.git("branch", "main")
        applied(again, repo.head())
        assert resources(again) == ["Build/shop/_/two", "Project/shop"]
    finally:
        stop(again)


def test_a_path_that_is_emptied_prunes_nothing(tmp_path: Path) -> None:
    """`--path` names a folder that a commit removes: trouble; the folder comes back: applied."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"live/project.yaml": PROJECT, "live/one.yaml": build("one"), "other/x.txt": "x"})
    with process(repo.path, tmp_path / "data", STEERSMAN_PATH="live", **BARE) as running:
        applied(running, repo.head())
        before = resources(running)
        repo.commit({"live/project.yaml": None, "live/one.yaml": None})
        assert "no folder live" in trouble(running, "PathMissing")
        assert resources(running) == before
        applied(running, repo.commit({"live/project.yaml": PROJECT, "live/one.yaml": build("one")}))
        assert resources(running) == before


def test_a_repository_without_a_commit_is_waited_for(tmp_path: Path) -> None:
    """An empty repository is trouble with a sentence; its first commit is applied."""
    repo = SpecRepository(tmp_path / "specs")
    with process(repo.path, tmp_path / "data", **BARE) as running:
        trouble(running, "BranchMissing")
        applied(running, repo.commit({"project.yaml": PROJECT}))
        assert resources(running) == ["Project/shop"]


def test_a_history_that_was_rewritten_and_collected_is_read_anew(
    running: Process, repo: SpecRepository
) -> None:
    """Force-push, `reflog expire` and `gc --prune=now`: the applied commit is gone, the new one is applied."""
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.commit({"one.yaml": None, "two.yaml": build("two")}, "rewritten")
    repo.git("branch", "-q", "-M", "fresh", "main")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    applied(running, repo.head())
    assert resources(running) == ["Build/shop/_/two", "Project/shop"]
    applied(running, repo.commit({"three.yaml": build("three")}))
    assert resources(running) == ["Build/shop/_/three", "Build/shop/_/two", "Project/shop"]


def test_a_code_repository_that_vanishes_is_a_condition_of_its_build(
    running: Process, repo: SpecRepository, tmp_path: Path
) -> None:
    """The Build says why, everything else goes on; once the repository is back its new head is built."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"a.txt": "1"})
    spec = f"  repo: '{code.path}'\n  triggers: [{{type: poll, interval_seconds: 1}}]\n"
    applied(running, repo.commit({"code.yaml": build("code", "cat a.txt", spec)}))
    assert running.job(1, "passed")
    away = code.path.with_name("code-away")
    code.path.rename(away)

    def troubled(client: httpx.Client) -> Any:
        body = client.get("/reconciler/resources/Build/shop/_/code").json()
        return [c["message"] for c in body["conditions"] if c["status"]]

    assert str(code.path) in running.wait_for(troubled)[0]
    with running.client() as client:
        why = client.get("/reconciler/why/Build/shop/_/code").json()
        assert str(code.path) in str(why["causes"])
        assert client.get("/reconciler/resources/Build/shop/_/one").json()["conditions"] == []
    applied(running, repo.commit({"two.yaml": build("two")}))
    away.rename(code.path)
    code.commit({"a.txt": "2"})
    assert running.job(2, "passed", seconds=60)["commit"] == code.head()
    running.wait_for(lambda client: not troubled(client))


def test_a_locked_database_holds_things_up_and_loses_nothing(
    running: Process, repo: SpecRepository, tmp_path: Path
) -> None:
    """Another process holds it for seven seconds: reads go on, a write is 503, then all of it happens."""
    applied(running, repo.commit({"slow.yaml": build("slow", "sleep 4; echo done")}))
    with running.client() as client:
        first = client.post("/reconciler/trigger", json={"key": "Build/shop/_/slow"}).json()["number"]
    running.job(first, "executing")
    with databases.locked(running.data):
        head = repo.commit({"two.yaml": build("two")})
        with running.client() as client:
            refused = client.post("/reconciler/trigger", json={"key": "Build/shop/_/one"})
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "2"
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["title"] == "DatabaseLocked"
            assert client.get("/reconciler/resources").status_code == 200
            assert client.get("/reconciler/jobs").json()["items"][0]["state"] == "executing"
        running.wait_for(
            lambda c: (
                "DatabaseLocked" in str(c.get("/reconciler/status").json()["troubles"])
                and c.get("/health").json()["status"] == "degraded"
            )
        )
    applied(running, head)
    assert running.job(first, "passed", "failed", "defective", seconds=60)["state"] == "passed"
    with running.client() as client:
        assert client.get(f"/reconciler/jobs/{first}/log").text == "done\n"
        second = client.post("/reconciler/trigger", json={"key": "Build/shop/_/two"}).json()["number"]
    assert (second, running.job(second, "passed")["state"]) == (first + 1, "passed")
    running.wait_for(lambda c: c.get("/health").json()["status"] == "ok")


def serve(repo: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`steersman serve`, which is expected to end by itself."""
    words = ["serve", "--repo", str(repo), "--data", str(data), *more]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
    errors = repo.parent / f"errors-{time.monotonic_ns()}"
    code = forked.daemon(words, environment, errors).wait(60)
    return subprocess.CompletedProcess(words, code, "", errors.read_text(encoding="utf-8"))


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed start says: exit 1, one line, no traceback."""
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("steersman: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_port_that_is_taken_is_a_sentence(repo: SpecRepository, tmp_path: Path) -> None:
    """Exit 1, naming the port and `--port`; the data directory is not touched."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = sentence(serve(repo.path, tmp_path / "data", "--port", port))
    assert f"127.0.0.1:{port}" in text
    assert "--port" in text
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_another_daemon_holds_is_a_sentence(
    running: Process, repo: SpecRepository
) -> None:
    """Exit 1, naming the directory and the process; the first daemon goes on."""
    text = sentence(serve(repo.path, running.data, "--port", "0"))
    assert str(running.data) in text
    assert f"process {running.popen.pid}" in text
    assert "--data" in text
    applied(running, repo.commit({"two.yaml": build("two")}))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--repo", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--repo", "ext::sh -c true"), "repo"),
        (("--branch", "-x"), "branch"),
        (("--host", "256.1.1.1"), "256.1.1.1"),
        (("--config", "/nowhere.toml"), "/nowhere.toml"),
        (("--database", "oracle://x"), "must begin with postgresql://"),
        (("--data", "/proc/steersman"), "/proc/steersman"),
    ],
)
def test_a_setting_that_cannot_be_is_a_sentence(
    repo: SpecRepository, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    """Exit 1 with one line that names it, no traceback."""
    text = sentence(serve(repo.path, tmp_path / "data", "--port", "0", *flags))
    assert words in text


def test_a_job_for_a_commit_that_is_gone_is_defective(tmp_path: Path) -> None:
    """Force-push, gc, and a mirror that was lost: a retry of the old commit says so; a new job runs."""
    repo, code = SpecRepository(tmp_path / "specs"), SpecRepository(tmp_path / "code")
    old = code.commit({"a.txt": "1"})
    spec = f"  repo: '{code.path}'\n  branch: main\n"
    repo.commit({"all.yaml": f"{PROJECT}---\n{build('code', 'cat a.txt', spec)}"})
    running = start(repo.path, tmp_path / "data", **BARE)
    try:
        applied(running, repo.head())
        with running.client() as client:
            assert client.post("/reconciler/trigger", json={"key": "Build/shop/_/code"}).status_code == 202
        assert running.job(1, "passed")["commit"] == old
        (code.path / "a.txt").write_text("2")
        code.git("commit", "-q", "-a", "--amend", "-m", "rewritten")
        code.git("reflog", "expire", "--expire=now", "--all")
        code.git("gc", "-q", "--prune=now")
        stop(running)
        shutil.rmtree(tmp_path / "data" / "mirrors")
        running = start(repo.path, tmp_path / "data", **BARE)
        with running.client() as client:
            refused = client.post(
                "/reconciler/trigger", json={"key": "Build/shop/_/code", "commit": old}, timeout=60
            )
            assert (refused.status_code, refused.json()["title"]) == (422, "CommitGone")
            assert old in refused.json()["detail"]
            assert client.post("/reconciler/jobs/1/retry").json()["number"] == 2
        job = running.job(2, "passed", "failed", "defective", "aborted", seconds=60)
        assert (job["state"], job["reason"]) == ("defective", "commit-gone")
        assert old[:7] in str(job["tasks"][0]["trials"][0]["error"])
        with running.client() as client:
            client.post("/reconciler/trigger", json={"key": "Build/shop/_/code"})
        assert running.job(3, "passed")["commit"] == code.head()
    finally:
        stop(running)


def _six(repo: SpecRepository) -> str:
    return repo.commit({f"b{i}.yaml": build(f"b{i}") for i in range(6)})


def test_a_mass_removal_waits_for_its_digest(running: Process, repo: SpecRepository) -> None:
    """Six of eight vanish: held, all else is applied; another digest is 409, the right one removes them."""
    applied(running, _six(repo))
    head = repo.commit({f"b{i}.yaml": None for i in range(6)} | {"one.yaml": build("one", "echo new")})
    status = applied(running, head)
    (held,) = status["held"]
    assert (held["reason"], held["project"], len(held["keys"])) == ("RemovalBrake", "shop", 6)
    assert f"steersman sync --confirm {held['digest']}" in held["message"]
    with running.client() as client:
        assert client.get("/reconciler/plan").json()["held"][0]["digest"] == held["digest"]
        one = client.get("/reconciler/resources/Build/shop/_/one").json()
        assert one["spec"]["tasks"][0]["run"] == "echo new"
        kept = client.get("/reconciler/resources/Build/shop/_/b0").json()
        assert [c["type"] for c in kept["conditions"]] == ["RemovalBrake"]
        assert client.post("/reconciler/trigger", json={"key": "Build/shop/_/b0"}).status_code == 202
        wrong = client.post("/reconciler/sync", json={"confirm": "0123456789abcdef"})
        assert (wrong.status_code, wrong.json()["title"]) == (409, "DigestMismatch")
        assert held["digest"] in wrong.json()["detail"]
        assert len(resources(running)) == 8
        done = client.post("/reconciler/sync", json={"confirm": held["digest"]})
        assert done.status_code == 200
        assert [(a["action"], a["key"]) for a in done.json()["actions"]] == [
            ("delete", f"Build/shop/_/b{i}") for i in range(5, -1, -1)
        ]
        assert done.json()["held"] == []
        assert resources(running) == ["Build/shop/_/one", "Project/shop"]
        again = client.post("/reconciler/sync", json={"confirm": held["digest"]})
        assert again.status_code == 409


def test_a_held_removal_is_confirmed_on_the_command_line(running: Process, repo: SpecRepository) -> None:
    """`plan` exits 2 and names the digest, `sync --confirm` of another exits 1, of the right one 0."""
    applied(running, _six(repo))
    applied(running, repo.commit({f"b{i}.yaml": None for i in range(6)}))

    def steersman(*words: str) -> subprocess.CompletedProcess[str]:
        return command_line(*words, STEERSMAN_SERVER=running.url, STEERSMAN_TOKEN=running.token)

    planned = steersman("plan")
    assert planned.returncode == 2
    digest = planned.stdout.partition("--confirm ")[2][:16]
    assert len(digest) == 16, planned.stdout
    wrong = steersman("sync", "--confirm", "nonsense")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert digest in wrong.stderr
    done = steersman("sync", "--confirm", digest)
    assert done.returncode == 0, done.stderr
    assert "6 to delete" in done.stdout
    assert resources(running) == ["Build/shop/_/one", "Project/shop"]
    assert steersman("plan").returncode == 0


def test_a_confirmation_does_not_reach_another_set_of_removals(
    running: Process, repo: SpecRepository
) -> None:
    """What was confirmed once does not remove what is declared and dropped later."""
    applied(running, _six(repo))
    nothing: dict[str, str | bytes | None] = {f"b{i}.yaml": None for i in range(6)}
    digest = applied(running, repo.commit(nothing))["held"][0]["digest"]
    with running.client() as client:
        assert client.post("/reconciler/sync", json={"confirm": digest}).status_code == 200
    applied(running, _six(repo))
    held = applied(running, repo.commit(nothing | {"one.yaml": None}))["held"]
    assert [h["reason"] for h in held] == ["RemovalBrake"]
    assert held[0]["digest"] != digest
    assert len(resources(running)) == 8
