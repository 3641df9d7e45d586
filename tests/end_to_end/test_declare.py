"""Writes of declared things through the native API: each is one commit, as a person would have written it."""

from __future__ import annotations

import difflib
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import PROJECT, Process, SpecRepository, process

BUILDS = """\
# Two builds of the shop, by hand.
apiVersion: steersman/v1
kind: Build
metadata:   {name: one, project: shop}   # oddly spaced
spec:
    # what it does
    tasks:
      - name:   test          # the tests
        run: "echo test"
        ignore_failure:  false   # must pass

      - {name: pack, run: 'echo pack', needs: [test]}
---
apiVersion: steersman/v1
kind: Build
metadata: {name: two, project: shop}
spec: {concurrency: allow, tasks: [{name: t, run: echo two}]}
"""
PEOPLE = """\
apiVersion: steersman/v1
kind: User
metadata: {name: wendy}
spec: {display_name: Wendy Writer, email: wendy@example.org}
---
apiVersion: steersman/v1
kind: User
metadata: {name: rita}
spec: {}
---
apiVersion: steersman/v1
kind: RoleBinding
metadata: {name: writers, project: shop}
spec: {role: write, subjects: [{kind: User, name: wendy}]}
---
apiVersion: steersman/v1
kind: RoleBinding
metadata: {name: readers, project: shop}
spec: {role: read, subjects: [{kind: User, name: rita}]}
"""
ONE = "/reconciler/resources/Build/shop/_/one"


class Specs:
    """A daemon and its spec repository."""

    def __init__(self, running: Process, repo: SpecRepository, client: httpx.Client) -> None:
        self.running, self.repo, self.client = running, repo, client

    def git(self, *arguments: str) -> str:
        """Standard output of Git in the spec repository."""
        command = ["git", "-C", str(self.repo.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def commits(self) -> int:
        """How many there are."""
        return int(self.git("rev-list", "--count", "main"))

    def text(self, path: str) -> str:
        """A file at the head."""
        return self.git("show", f"main:{path}")

    def spec(self, path: str = ONE) -> dict[str, Any]:
        """What is in effect."""
        found: dict[str, Any] = self.client.get(path).raise_for_status().json()["spec"]
        return found

    def asks(self, name: str, level: str = "owner") -> httpx.Client:
        """A client of somebody else."""
        body = {"name": "t", "level": level, "subject": f"User/{name}"}
        secret = self.client.post("/reconciler/tokens", json=body).raise_for_status().json()["token"]
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.running.url, headers=headers, timeout=60)


FILES: dict[str, str | bytes | None] = {"project.yaml": PROJECT, "builds.yaml": BUILDS, "people.yaml": PEOPLE}


@pytest.fixture(scope="module")
def running_specs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Specs]:
    """A daemon, started once for all tests."""
    folder = tmp_path_factory.mktemp("declare")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    with process(repo.path, folder / "data") as running, running.client() as client:
        client.timeout = httpx.Timeout(60)
        yield Specs(running, repo, client)


@pytest.fixture
def specs(running_specs: Specs) -> Specs:
    """It has applied the files above, and nothing else is there."""
    repo = running_specs.repo
    repo.git("reset", "-q", "--hard")
    repo.git("clean", "-qfd")
    others = [name for name in repo.git("ls-files").split() if name not in FILES]
    repo.commit({**dict.fromkeys(others), **FILES})
    synced = running_specs.client.post("/reconciler/sync", json={})
    assert synced.raise_for_status().json()["revision"] == repo.head()
    return running_specs


def test_one_flag_is_one_line(specs: Specs) -> None:
    """The commit changes exactly that line; its author is the caller, its message has no value."""
    spec = specs.spec()
    spec["tasks"][0]["ignore_failure"] = True
    with specs.asks("wendy") as wendy:
        answer = wendy.put(ONE, json={"spec": spec})
    assert answer.status_code == 200, answer.text
    assert answer.json()["spec"]["tasks"][0]["ignore_failure"] is True
    assert answer.headers["x-steersman-commit"] == specs.git("rev-parse", "main").strip()
    changed = [
        line
        for line in difflib.unified_diff(BUILDS.splitlines(), specs.text("builds.yaml").splitlines(), n=0)
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert changed == [
        "-        ignore_failure:  false   # must pass",
        "+        ignore_failure:  true   # must pass",
    ]
    author, subject, body = specs.git("log", "-1", "--format=%an <%ae>%n%s%n%b").split("\n", 2)
    assert author == "Wendy Writer <wendy@example.org>"
    assert subject == "build shop/_/one: set tasks[0].ignore_failure"
    assert "Steersman-Actor: user:wendy\n" in body
    assert "Steersman-Endpoint: PUT resource\n" in body


def test_an_echo_changes_nothing(specs: Specs) -> None:
    """What GET gave, put back: 200, no commit."""
    before = specs.commits()
    answer = specs.client.put(ONE, json={"spec": specs.spec()})
    assert answer.status_code == 200, answer.text
    assert "x-steersman-commit" not in answer.headers
    assert specs.commits() == before


def test_a_new_resource_gets_a_file_of_its_own_and_goes_with_it(specs: Specs) -> None:
    """Only what differs from the defaults is written; deleting takes the file away."""
    path = "/reconciler/resources/Build/shop/_/three"
    spec = specs.spec("/reconciler/resources/Build/shop/_/two") | {"timeout_seconds": 60}
    assert specs.client.put(path, json={"spec": spec}).status_code == 200
    assert specs.text("projects/shop/builds/three.yaml") == (
        "apiVersion: steersman/v1\nkind: Build\nmetadata:\n  name: three\n  project: shop\n"
        "spec:\n  concurrency: allow\n  timeout_seconds: 60\n  tasks:\n    - name: t\n      run: echo two\n"
    )
    assert specs.client.delete(path).status_code == 200
    assert specs.client.get(path).status_code == 404
    assert "three.yaml" not in specs.git("ls-tree", "-r", "--name-only", "main")
    assert specs.client.delete(path).status_code == 404


def test_two_with_the_same_tag_one_wins(specs: Specs) -> None:
    """Both read the same; one commit, the other gets 412."""
    read = specs.client.get(ONE)
    bodies = [{"spec": read.json()["spec"] | {"timeout_seconds": seconds}} for seconds in (100, 200)]
    headers = {"If-Match": read.headers["etag"]}
    before = specs.commits()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda body: specs.client.put(ONE, json=body, headers=headers), bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    assert specs.commits() == before + 1
    won = next(answer for answer in answers if answer.status_code == 200)
    assert specs.spec()["timeout_seconds"] == won.json()["spec"]["timeout_seconds"]


@pytest.mark.parametrize(
    ("change", "where", "told"),
    [
        ({"timeout_seconds": 1}, "timeout_seconds", "10"),
        ({"concurrency": "maybe"}, "concurrency", "queue"),
        ({"repo": "absent"}, "builds.yaml:", "Repository/shop/absent is not declared"),
        ({"tasks": [{"name": "a", "run": "x", "needs": ["b"]}]}, "builds.yaml:", "b"),
    ],
)
def test_what_would_be_invalid_is_refused(
    specs: Specs, change: dict[str, Any], where: str, told: str
) -> None:
    """By the model, or by a reference: 422 with the place, no commit."""
    before = specs.commits()
    answer = specs.client.put(ONE, json={"spec": specs.spec() | change})
    assert answer.status_code == 422, answer.text
    errors = answer.json()["errors"]
    assert errors[0]["key"] == "Build/shop/_/one"
    assert errors[0]["where"].startswith(where)
    assert told in errors[0]["message"]
    assert specs.commits() == before


def test_what_others_need_stays(specs: Specs) -> None:
    """Taking a project away would leave its builds without one."""
    before = specs.commits()
    answer = specs.client.delete("/reconciler/resources/Project/shop")
    assert (answer.status_code, "Project/shop is not declared" in answer.text) == (422, True)
    assert specs.commits() == before


def test_rights(specs: Specs) -> None:
    """A reader is told 403, a writer cannot give roles away."""
    spec, before = specs.spec(), specs.commits()
    binding = "/reconciler/resources/RoleBinding/shop/_/writers"
    body = {"spec": {"role": "owner", "subjects": [{"kind": "User", "name": "wendy"}]}}
    with specs.asks("rita") as rita, specs.asks("wendy") as wendy, specs.asks("wendy", "read") as weak:
        for client in (rita, weak):
            assert client.put(ONE, json={"spec": spec}).status_code == 403
        assert wendy.put(binding, json=body).status_code == 403
        assert wendy.put("/reconciler/resources/Team/x", json={"spec": {"members": []}}).status_code == 403
        assert wendy.get("/reconciler/can/edit/Build/shop/_/one").json()["allowed"]
        refused = wendy.get("/reconciler/can/edit/RoleBinding/shop/_/writers").json()
        assert (refused["allowed"], refused["needs"]["role"], refused["has"]) == (False, "owner", "write")
        assert "takes the role owner on project shop" in refused["why"]
    assert specs.commits() == before


def test_who_is_disabled_or_gone_is_out(specs: Specs) -> None:
    """The token is good, but it is nobody's any more: 401 as for any other wrong one, and back when it is."""
    user = "/reconciler/resources/User/rita"
    with specs.asks("rita") as rita:
        assert rita.get(ONE).status_code == 200
        assert specs.client.put(user, json={"spec": {"disabled": True}}).status_code == 200
        assert rita.get(ONE).status_code == 401
        assert specs.client.put(user, json={"spec": {}}).status_code == 200
        assert rita.get(ONE).status_code == 200
        assert specs.client.delete(user).status_code == 200
        assert rita.get(ONE).status_code == 401


def test_a_work_tree_follows_when_it_is_clean(specs: Specs) -> None:
    """The followed branch is checked out: nothing of anybody's is written over."""
    spec, file = specs.spec(), specs.repo.path / "builds.yaml"
    assert specs.client.put(ONE, json={"spec": spec | {"timeout_seconds": 120}}).status_code == 200
    assert "timeout_seconds: 120" in file.read_text()
    file.write_text("mine\n")
    before = specs.commits()
    answer = specs.client.put(ONE, json={"spec": spec | {"timeout_seconds": 130}})
    assert answer.status_code == 409, answer.text
    assert specs.commits() == before
    assert file.read_text() == "mine\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Specs]:
    """A daemon on a bare repository that others push to; it has a secret in its environment."""
    folder = tmp_path_factory.mktemp("bare")
    clone = SpecRepository(folder / "clone")
    clone.commit(FILES)
    clone.git("clone", "-q", "--bare", ".", str(folder / "specs.git"))
    secret = {"STEERSMAN_WEBHOOK_SECRET": "the-hook-secret"}
    with process(folder / "specs.git", folder / "data", **secret) as running, running.client() as client:
        client.timeout = httpx.Timeout(60)
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 7)
        clone.path = folder / "specs.git"
        yield Specs(running, clone, client)


def test_a_hook_that_refuses_is_502(bare: Specs) -> None:
    """Its sentence is told; nothing is there, nothing has changed. It finds none of the daemon's settings."""
    hook = bare.repo.path / "hooks" / "pre-receive"
    told = bare.repo.path / "told"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nenv >{told}\necho 'not on a Sunday' >&2\nexit 1\n")
    hook.chmod(0o755)
    before, spec = bare.commits(), bare.spec()
    answer = bare.client.put(ONE, json={"spec": spec | {"timeout_seconds": 120}})
    assert (answer.status_code, "not on a Sunday" in answer.json()["detail"]) == (502, True)
    assert (bare.commits(), bare.spec()) == (before, spec)
    assert "PATH=" in told.read_text()
    assert "the-hook-secret" not in told.read_text()
    hook.unlink()
    assert bare.client.put(ONE, json={"spec": spec | {"timeout_seconds": 120}}).status_code == 200


def test_a_repository_that_is_gone_is_503(bare: Specs) -> None:
    """What was applied stays in force, and writing goes on when it is back."""
    spec, away = bare.spec(), bare.repo.path.with_name("away.git")
    bare.repo.path.rename(away)
    answer = bare.client.put(ONE, json={"spec": spec | {"timeout_seconds": 130}})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert bare.spec() == spec
    away.rename(bare.repo.path)
    assert bare.client.put(ONE, json={"spec": spec | {"timeout_seconds": 130}}).status_code == 200


@pytest.mark.parametrize("mode", ["branch", "read-only"])
def test_the_modes_of_writing(tmp_path: Path, mode: str) -> None:
    """A branch to be merged, or none at all; what is in force stays until somebody merges."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "builds.yaml": BUILDS})
    modes = {"STEERSMAN_WRITE_MODES": json.dumps({"shop": mode})}
    with process(repo.path, tmp_path / "data", **modes) as running, running.client() as client:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 3)
        specs = Specs(running, repo, client)
        spec, before = specs.spec(), specs.commits()
        answer = client.put(ONE, json={"spec": spec | {"timeout_seconds": 120}})
        assert (specs.commits(), specs.spec()) == (before, spec)
        if mode == "read-only":
            assert (answer.status_code, "change builds.yaml:2 there" in answer.text) == (409, True)
            return
        assert answer.status_code == 202
        branch, commit = answer.json()["branch"], answer.json()["commit"]
        assert branch.startswith("steersman/")
        assert specs.git("rev-parse", branch).strip() == commit
        repo.git("merge", "-q", "--ff-only", branch)
        running.wait_for(lambda c: c.get(ONE).json()["spec"]["timeout_seconds"] == 120)
