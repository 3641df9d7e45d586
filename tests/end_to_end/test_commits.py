"""Plain Git is the interface: what is committed or pushed becomes true without a call to the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import PROJECT, Process, SpecRepository, process

SOON = 5.0
BARE = {"STEERSMAN_ALLOW_UNSANDBOXED": "1"}
FINISHED = ("passed", "failed", "defective", "aborted")


def build(name: str, command: str = "echo hello", spec: str = "") -> str:
    """A Build of one task; `spec` holds further lines of its specification."""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n{spec}  tasks:\n    - {{name: main, run: '{command}'}}\n"
    )


def applied(running: Process, revision: str, seconds: float = SOON) -> None:
    """Poll the status only, until the revision is applied; within `seconds`."""

    def check(client: httpx.Client) -> Any:
        return client.get("/reconciler/status").json()["source"]["last_applied_revision"] == revision

    running.wait_for(check, seconds)


def keys(running: Process, kind: str = "Build") -> list[str]:
    """Names of the resources of a kind."""
    with running.client() as client:
        items = client.get("/reconciler/resources", params={"kind": kind}).json()["items"]
    return [item["name"] for item in items]


def jobs(running: Process, key: str) -> list[dict[str, Any]]:
    """The jobs of a Build, oldest first."""
    with running.client() as client:
        found: list[dict[str, Any]] = client.get("/reconciler/jobs", params={"key": key}).json()["items"]
    return found[::-1]


def wait_jobs(running: Process, key: str, count: int, *states: str) -> list[dict[str, Any]]:
    """The jobs of a Build once there are `count`, all in one of the states (or finished)."""
    wanted = states or FINISHED

    def check(_: httpx.Client) -> Any:
        found = jobs(running, key)
        return len(found) >= count and all(job["state"] in wanted for job in found) and found

    found: list[dict[str, Any]] = running.wait_for(check)
    assert len(found) == count, found
    return found


def quiet(running: Process, repo: SpecRepository, mark: str) -> None:
    """Make sure that a whole round has gone by: a commit that comes later has been applied and its job run."""
    key = f"Build/shop/_/{mark}"
    applied(running, repo.commit({f"{mark}.yaml": build(mark, spec="  triggers: [{type: change}]\n")}))
    wait_jobs(running, key, 1)


@pytest.fixture
def repo(tmp_path: Path) -> SpecRepository:
    """A spec repository with a work tree."""
    made = SpecRepository(tmp_path / "specs")
    made.commit({"project.yaml": PROJECT})
    return made


@pytest.fixture
def code(tmp_path: Path) -> SpecRepository:
    """A code repository."""
    made = SpecRepository(tmp_path / "code")
    made.commit({"a.txt": "1", "docs/b.txt": "1"})
    return made


@pytest.fixture
def running(repo: SpecRepository, tmp_path: Path) -> Iterator[Process]:
    """A daemon that has applied the first commit."""
    with process(repo.path, tmp_path / "data", **BARE) as made:
        applied(made, repo.head(), 30)
        yield made


def test_a_plain_commit_is_applied_by_itself(running: Process, repo: SpecRepository) -> None:
    """Add, change, amend, revert, merge and remove; each within seconds, gc and packed refs between them."""
    applied(running, repo.commit({"a.yaml": build("a")}))
    assert keys(running) == ["a"]
    repo.write({"b.yaml": build("b")})
    repo.git("add", "-A")
    repo.git("commit", "-q", "--amend", "--no-edit")
    applied(running, repo.head())
    assert keys(running) == ["a", "b"]
    repo.git("gc", "-q", "--prune=now")
    repo.git("pack-refs", "--all")
    applied(running, repo.commit({"a.yaml": None}))
    assert keys(running) == ["b"]
    repo.git("revert", "--no-edit", "HEAD")
    applied(running, repo.head())
    assert keys(running) == ["a", "b"]
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"c.yaml": build("c")})
    repo.git("checkout", "-q", "main")
    assert keys(running) == ["a", "b"]
    repo.git("merge", "-q", "--no-ff", "--no-edit", "side")
    applied(running, repo.head())
    assert keys(running) == ["a", "b", "c"]
    repo.git("reset", "-q", "--hard", "HEAD~1")
    applied(running, repo.head())
    assert keys(running) == ["a", "b"]


def test_what_is_not_committed_does_nothing(running: Process, repo: SpecRepository) -> None:
    """Specs are read from commits of the branch: neither the work tree, the index, nor other branches count."""
    repo.git("checkout", "-q", "-b", "other")
    repo.commit({"other.yaml": build("other")})
    repo.git("checkout", "-q", "main")
    repo.write({"staged.yaml": build("staged")})
    repo.git("add", "-A")
    repo.git("stash", "-q")
    applied(running, repo.commit({"a.yaml": build("a")}))
    repo.write({"loose.yaml": build("loose"), "a.yaml": "kind: ["})
    applied(running, repo.head())
    assert keys(running) == ["a"]
    with running.client() as client:
        assert client.get("/health").json()["status"] == "ok"


def test_a_push_into_a_bare_repository_is_applied_by_itself(tmp_path: Path) -> None:
    """Push, force-push, push after gc, and a push of two commits: the newest is in force within seconds."""
    bare = tmp_path / "specs.git"
    work = SpecRepository(tmp_path / "work")
    work.commit({"project.yaml": PROJECT})
    work.git("clone", "-q", "--bare", str(work.path), str(bare))
    work.git("remote", "add", "origin", str(bare))
    with process(bare, tmp_path / "data", **BARE) as running:
        applied(running, work.head(), 30)
        work.commit({"a.yaml": build("a")})
        work.git("push", "-q", "origin", "main")
        applied(running, work.head())
        assert keys(running) == ["a"]
        work.git("reset", "-q", "--hard", "HEAD~1")
        work.commit({"b.yaml": build("b")})
        work.git("push", "-q", "--force", "origin", "main")
        applied(running, work.head())
        assert keys(running) == ["b"]
        for command in (("reflog", "expire", "--expire=now", "--all"), ("gc", "-q", "--prune=now")):
            work.git("--git-dir", str(bare), *command)
        work.commit({"c.yaml": build("c")})
        work.commit({"d.yaml": build("d")})
        work.git("push", "-q", "origin", "main")
        applied(running, work.head())
        assert keys(running) == ["b", "c", "d"]
        with running.client() as client:
            events = client.get("/reconciler/events", params={"limit": 1000}).json()["items"]
        assert {event["actor"] for event in events} <= {"System", "system", "System/steersman"}, events


def test_a_linked_work_tree_is_followed(tmp_path: Path) -> None:
    """`git worktree add`: the daemon is given the work tree, whose `.git` is a file."""
    main = SpecRepository(tmp_path / "main-tree", "trunk")
    main.commit({"project.yaml": PROJECT})
    main.git("worktree", "add", "-q", "-b", "main", str(tmp_path / "linked"))
    linked = SpecRepository.__new__(SpecRepository)
    linked.path = tmp_path / "linked"
    with process(linked.path, tmp_path / "data", **BARE) as running:
        applied(running, linked.head(), 30)
        applied(running, linked.commit({"a.yaml": build("a")}))
        assert keys(running) == ["a"]


def test_a_remote_repository_is_polled(tmp_path: Path) -> None:
    """A `file://` URL is not watched but fetched: a commit arrives with the poll."""
    work = SpecRepository(tmp_path / "work")
    work.commit({"project.yaml": PROJECT})
    with process(f"file://{work.path}", tmp_path / "data", STEERSMAN_POLL_SECONDS="0.5", **BARE) as running:
        applied(running, work.head(), 30)
        applied(running, work.commit({"a.yaml": build("a")}))
        assert keys(running) == ["a"]


def test_forty_commits_in_a_row_end_at_the_last(running: Process, repo: SpecRepository) -> None:
    """Each `change` trigger fires for the version that it came to see, the newest one among them, never twice."""
    for i in range(40):
        spec = "  concurrency: allow\n  triggers: [{type: change}]\n"
        repo.commit({"a.yaml": build("a", f"echo version-{i}", spec)})
    applied(running, repo.head())
    key = "Build/shop/_/a"

    def check(client: httpx.Client) -> Any:
        found = jobs(running, key)
        return all(job["state"] == "passed" for job in found) and found

    newest = running.wait_for(check)[-1]["number"]
    with running.client() as client:
        assert client.get(f"/reconciler/jobs/{newest}/log").text == "version-39\n"
        logs = [client.get(f"/reconciler/jobs/{job['number']}/log").text for job in jobs(running, key)]
    assert len(set(logs)) == len(logs)


def test_change_owes_one_job_for_each_version_of_the_work(running: Process, repo: SpecRepository) -> None:
    """Created: one. Another command: one more. Another trigger, a label, a move, a revert, a restart: none."""
    key, spec = "Build/shop/_/a", "  triggers: [{type: change}]\n"
    applied(running, repo.commit({"a.yaml": build("a", "echo one", spec)}))
    wait_jobs(running, key, 1)
    applied(running, repo.commit({"a.yaml": build("a", "echo two", spec)}))
    assert [job["trigger"]["type"] for job in wait_jobs(running, key, 2)] == ["change"] * 2
    more = "  triggers: [{type: change}, {type: schedule, cron: '@yearly'}]\n"
    applied(running, repo.commit({"a.yaml": build("a", "echo two", more)}))
    labelled = build("a", "echo two", spec).replace("project: shop", "project: shop, labels: {x: 'y'}")
    applied(running, repo.commit({"a.yaml": labelled}))
    applied(running, repo.commit({"a.yaml": None, "moved.yaml": build("a", "echo two", spec)}))
    applied(running, repo.commit({"moved.yaml": build("a", "echo one", spec)}))
    quiet(running, repo, "marker")
    assert len(jobs(running, key)) == 2


def test_a_second_start_on_the_same_revision_does_nothing(repo: SpecRepository, tmp_path: Path) -> None:
    """Run twice: the same resources, jobs and events, and an empty plan."""
    applied_files = {"a.yaml": build("a", spec="  triggers: [{type: change}]\n")}
    head = repo.commit(applied_files)
    with process(repo.path, tmp_path / "data", **BARE) as running:
        applied(running, head, 30)
        wait_jobs(running, "Build/shop/_/a", 1)
        shown = "/reconciler/resources/Build/shop/_/a"
        running.wait_for(lambda client: client.get(shown).json()["health"] == "Healthy")
        first = _whole(running)
    with process(repo.path, tmp_path / "data", **BARE) as running:
        with running.client() as client:
            assert client.post("/reconciler/sync", json={}).status_code == 200
            assert client.get("/reconciler/plan").json()["actions"] == []
        assert _whole(running) == first


def _whole(running: Process) -> tuple[Any, ...]:
    paths = ("resources", "jobs", "events?limit=1000")
    with running.client() as client:
        return tuple(client.get(f"/reconciler/{path}").json() for path in paths)


def _poll(code: SpecRepository, more: str = "") -> str:
    return f"  repo: '{code.path}'\n  triggers: [{{type: poll, interval_seconds: 1}}]\n{more}"


def test_a_new_head_is_built_once(running: Process, repo: SpecRepository, code: SpecRepository) -> None:
    """Poll: the first head, then each new one; an empty commit and a revert have a tree that was built."""
    key = "Build/shop/_/a"
    applied(running, repo.commit({"a.yaml": build("a", "cat a.txt", _poll(code))}))
    assert wait_jobs(running, key, 1)[0]["commit"] == code.head()
    code.commit({"a.txt": "2"})
    found = wait_jobs(running, key, 2)
    assert (found[1]["commit"], found[1]["branch"]) == (code.head(), "main")
    assert [job["trigger"]["type"] for job in found] == ["poll", "poll"]
    with running.client() as client:
        assert client.get(f"/reconciler/jobs/{found[1]['number']}/log").text == "2"
    code.git("commit", "-q", "--allow-empty", "-m", "nothing")
    code.git("revert", "--no-edit", "HEAD~1")
    code.commit({"a.txt": "3"})
    assert wait_jobs(running, key, 3)[2]["commit"] == code.head()


def test_only_changes_of_named_files_count(
    running: Process, repo: SpecRepository, code: SpecRepository
) -> None:
    """`build_on_file_changes` and `ignore_file_changes` look at what changed since the last job."""
    on = _poll(code, "  build_on_file_changes: ['docs/**']\n")
    off = _poll(code, "  ignore_file_changes: ['docs/**']\n")
    applied(running, repo.commit({"on.yaml": build("on", spec=on), "off.yaml": build("off", spec=off)}))
    wait_jobs(running, "Build/shop/_/on", 1)
    wait_jobs(running, "Build/shop/_/off", 1)
    inside = code.commit({"docs/b.txt": "2"})
    assert wait_jobs(running, "Build/shop/_/on", 2)[1]["commit"] == inside
    outside = code.commit({"a.txt": "2"})
    assert wait_jobs(running, "Build/shop/_/off", 2)[1]["commit"] == outside
    assert len(jobs(running, "Build/shop/_/on")) == 2


def test_a_commit_runs_as_no_branch_that_it_is_not_on(
    running: Process, repo: SpecRepository, code: SpecRepository
) -> None:
    """By hand: a task kept to a branch never runs what has not come to it, but does at once when it has."""
    old = code.head()
    code.git("checkout", "-q", "-b", "feature/x")
    unmerged = code.commit({"a.txt": "unmerged"})
    code.git("checkout", "-q", "main")
    head = code.commit({"b.txt": "main"})
    text = build("a", "cat a.txt", f"  repo: '{code.path}'\n").replace("run:", "branches: [main], run:")
    applied(running, repo.commit({"a.yaml": text}))
    key = "Build/shop/_/a"

    def start(**given: str) -> httpx.Response:
        with running.client() as client:
            return client.post("/reconciler/trigger", json={"key": key, **given}, timeout=60)

    for commit in (unmerged, unmerged[:10]):
        refused = start(commit=commit, branch="main")
        assert (refused.status_code, refused.json()["title"]) == (422, "NotOnBranch")
        assert f"commit {unmerged[:10]} is not on main; leave the branch out" in refused.json()["detail"]
    assert start(commit=unmerged, branch="nowhere").json()["title"] == "BranchMissing"
    assert jobs(running, key) == []
    starts = [
        {"commit": old, "branch": "main"},
        {"commit": head, "branch": "main"},
        {"commit": unmerged},
        {"commit": unmerged, "branch": "feature/x"},
    ]
    assert [start(**given).status_code for given in starts] == [202] * 4
    code.git("merge", "-q", "--no-edit", "feature/x")
    assert start(commit=unmerged, branch="main").status_code == 202
    found = wait_jobs(running, key, 5)
    assert [(job["commit"], job["branch"]) for job in found] == [
        (old, "main"),
        (head, "main"),
        (unmerged, None),
        (unmerged, "feature/x"),
        (unmerged, "main"),
    ]
    for job, state in zip(found, ["passed", "passed", "skipped", "skipped", "passed"], strict=True):
        assert running.job(job["number"], *FINISHED)["tasks"][0]["state"] == state


def _standing(running: Process, key: str) -> tuple[str, list[tuple[str, str]]]:
    """Health, and the causes that `why` gives with the jobs that they name."""
    with running.client() as client:
        told = client.get(f"/reconciler/why/{key}").json()
    return told["health"], [(cause["reason"], cause["message"]) for cause in told["causes"]]


def _stands(running: Process, key: str, health: str, *causes: tuple[str, str]) -> None:
    """It does so soon, and stays so while nothing is under way."""

    def check(_: httpx.Client) -> bool:
        found, told = _standing(running, key)
        return found == health and [reason for reason, _ in told] == [reason for reason, _ in causes]

    try:
        running.wait_for(check)
    except AssertionError:
        pytest.fail(f"{_standing(running, key)} is not {health} with {causes}")
    for (_, message), (_, words) in zip(_standing(running, key)[1], causes, strict=True):
        assert words in message


def test_a_build_is_as_well_as_its_main_branch(
    running: Process, repo: SpecRepository, code: SpecRepository
) -> None:
    """Other branches are told of while they fail and are there; a tree that was built on another counts for main."""
    code.git("checkout", "-q", "-b", "feature/x")
    code.commit({"broken": "1"})
    code.git("checkout", "-q", "main")
    spec = _poll(code, "  branches: [main, 'feature/*']\n")
    key = "Build/shop/_/a"
    applied(running, repo.commit({"a.yaml": build("a", "test ! -e broken", spec)}))
    found = wait_jobs(running, key, 2)
    assert [(job["branch"], job["state"]) for job in found] == [("main", "passed"), ("feature/x", "failed")]
    _stands(running, key, "Healthy", ("OtherRefFailed", "job 2 of feature/x failed (exit-status)"))
    code.commit({"broken": "2"})
    assert wait_jobs(running, key, 3)[2]["branch"] == "main"
    both = [("LastJobFailed", "job 3 failed"), ("OtherRefFailed", "job 2 of feature/x")]
    _stands(running, key, "Degraded", *both)
    code.git("checkout", "-q", "feature/x")
    code.commit({"broken": None, "more.txt": "1"})
    assert wait_jobs(running, key, 4)[3]["state"] == "passed"
    _stands(running, key, "Degraded", ("LastJobFailed", "job 3 failed"))
    code.git("branch", "-f", "main", "feature/x")
    _stands(running, key, "Healthy")
    code.git("checkout", "-q", "-b", "feature/y")
    code.commit({"broken": "3"})
    assert wait_jobs(running, key, 5)[4]["state"] == "failed"
    _stands(running, key, "Healthy", ("OtherRefFailed", "job 5 of feature/y"))
    code.git("checkout", "-q", "main")
    code.git("branch", "-q", "-D", "feature/y")
    _stands(running, key, "Healthy")


def test_of_what_starts_by_hand_the_default_branch_counts(
    running: Process, repo: SpecRepository, code: SpecRepository
) -> None:
    """Also where no branch is named anywhere; a branch that is kept to has jobs of its own for the same tree."""
    code.git("checkout", "-q", "-b", "x")
    code.commit({"broken": "1"})
    code.git("checkout", "-q", "main")
    text = build("a", "test ! -e broken", f"  repo: '{code.path}'\n")
    kept = build("b", "test ! -e broken", f"  repo: '{code.path}'\n").replace(
        "run:", "branches: [main], run:"
    )
    applied(running, repo.commit({"a.yaml": text, "b.yaml": kept}))
    with running.client() as client:
        for given in ({}, {"branch": "x"}):
            started = client.post("/reconciler/trigger", json={"key": "Build/shop/_/a", **given}, timeout=60)
            running.job(started.json()["number"], *FINISHED)
        by_hand = ("NoTriggers", "by hand only")
        _stands(running, "Build/shop/_/a", "Healthy", by_hand, ("OtherRefFailed", "job 2 of x failed"))
        code.git("merge", "-q", "x")
        for given in ({"branch": "main"}, {"branch": "x"}):
            started = client.post("/reconciler/trigger", json={"key": "Build/shop/_/b", **given}, timeout=60)
            running.job(started.json()["number"], *FINISHED)
    _stands(running, "Build/shop/_/b", "Degraded", ("LastJobFailed", "job 3 failed"))


def test_branches_and_tags_are_matched(running: Process, repo: SpecRepository, code: SpecRepository) -> None:
    """Every branch that fits is owed a job; tags that come later too; what does not fit is left alone."""
    for name in ("feature/x", "wip"):
        code.git("checkout", "-q", "-b", name, "main")
        code.commit({"a.txt": name})
    code.git("checkout", "-q", "main")
    code.git("tag", "v0.1")
    spec = _poll(code, "  branches: [main, 'feature/*']\n  tags: ['v*']\n  concurrency: allow\n")
    key = "Build/shop/_/a"
    applied(running, repo.commit({"a.yaml": build("a", spec=spec)}))
    assert {job["branch"] for job in wait_jobs(running, key, 2)} == {"main", "feature/x"}
    code.git("checkout", "-q", "--detach")
    code.commit({"a.txt": "release"})
    code.git("tag", "-a", "-m", "one", "v1.0")
    code.git("tag", "other-1")
    newest = wait_jobs(running, key, 3)[-1]
    assert (newest["tag"], newest["branch"], newest["commit"]) == ("v1.0", None, code.head())
    code.git("checkout", "-q", "-b", "feature/y", "main")
    code.commit({"a.txt": "y"})
    assert wait_jobs(running, key, 4)[-1]["branch"] == "feature/y"


@pytest.mark.parametrize("rule", ["queue", "replace", "allow"])
def test_concurrency_says_what_becomes_of_jobs_behind_another(
    running: Process, repo: SpecRepository, tmp_path: Path, rule: str
) -> None:
    """One runs, two are asked for behind it: they wait, the newer replaces the older, or all run beside."""
    gate, key = tmp_path / "gate" / "open", "Build/shop/_/a"
    gate.parent.mkdir()
    executor = (
        "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\n"
        f"spec: {{max_load: 20, readable: ['{gate.parent}']}}\n"
    )
    command = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    files = {"a.yaml": build("a", command, f"  concurrency: {rule}\n"), "executor.yaml": executor}
    applied(running, repo.commit(files))
    with running.client() as client:
        client.post("/reconciler/trigger", json={"key": key})
        running.job(1, "executing")
        for _ in range(2):
            assert client.post("/reconciler/trigger", json={"key": key}).status_code == 202
    if rule == "allow":
        wait_jobs(running, key, 3, "executing")
        gate.touch()
        expected = [("passed", None)] * 3
    elif rule == "queue":
        assert [job["state"] for job in jobs(running, key)] == ["executing", "pending", "pending"]
        with running.client() as client:
            why = client.get(f"/reconciler/why/{key}").json()["causes"]
        assert why, "a queue has its reason"
        gate.touch()
        expected = [("passed", None)] * 3
    else:
        assert [job["state"] for job in jobs(running, key)] == ["executing", "aborted", "pending"]
        gate.touch()
        expected = [("passed", None), ("aborted", "superseded"), ("passed", None)]
    assert [(job["state"], job["reason"]) for job in wait_jobs(running, key, 3)] == expected
    if rule == "queue":
        found = jobs(running, key)
        assert found[0]["finished_at"] <= found[1]["started_at"]
        assert found[1]["finished_at"] <= found[2]["started_at"]
