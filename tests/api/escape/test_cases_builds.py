"""The numbered edge cases of the contract about builds and Git (escape-state, 17)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.escape.conftest import DEV, FILES, SHOP, WEB, WEB_YAML, World, document, refused
from tests.support import SpecRepository, process

API = {"name": "api", "repo": "https://git.example.org/api.git", "steps": [{}]}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnotakeybutsecretenough\n-----END OPENSSH PRIVATE KEY-----\n"
FLAGS = {
    "plan_location": "escape.yml", "run_build": True, "run_tests": True, "run_deploy": True, "run_smoke": True,
    "run_destroy": True, "run_destroy_build": True, "run_destroy_deploy": True, "skip_if_exists": False,
    "force_overwrite": False, "fat_package": False, "cache_release": True, "push_release": True, "tag_git": False,
    "override_namespace": "", "build_on_file_changes": [], "ignore_file_changes": [], "providers": {},
    "variables": {}, "scripts": None,
}  # fmt: skip


def nowhere(world: World, text: str) -> bool:
    """Is a text in no object of the repository, and in no file of the daemon?"""
    objects = world.git("rev-list", "--objects", "--all").splitlines()
    contents = [world.git("cat-file", "-p", line.split()[0]) for line in objects]
    logs = [path.read_text(errors="replace") for path in world.running.data.parent.glob("*.err")]
    return not any(text in content for content in (*contents, *logs))


def test_case_20_a_new_build(world: World) -> None:
    """One commit by the caller, in a file of its own; all flags at their defaults. No steps at all: 400."""
    before = world.commits()
    answer = world["alice"].post(f"{DEV}/builds/", json=API)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["name"], body["project"], body["environment"]) == (
        "new",
        "api",
        "shop",
        "dev",
    )
    assert body["steps"] == [FLAGS]
    assert answer.json() == world["alice"].get(f"{DEV}/builds/by-name/api").json()
    assert answer.headers["etag"] == world["alice"].get(f"{DEV}/builds/by-name/api").headers["etag"]
    assert answer.headers["x-steersman-commit"] == world.git("rev-parse", "main").strip()
    assert answer.headers["x-steersman-reconciled"] == "true"
    assert world.commits() == before + 1
    assert world.git("log", "-1", "--format=%an <%ae>").strip() == "Alice Example <alice@example.org>"
    assert "Steersman-Endpoint: POST build\n" in world.git("log", "-1", "--format=%b")
    assert world.text("projects/shop/environments/dev/builds/api.yaml") == (
        "apiVersion: steersman/v1\nkind: Build\nmetadata:\n  name: api\n  project: shop\n  environment: dev\n"
        "spec:\n  repo: https://git.example.org/api.git\n  steps:\n    - {}\n"
    )
    without = {**API, "name": "empty", "steps": []}
    body = refused(world["alice"].post(f"{DEV}/builds/", json=without), 400, "invalid-field")
    assert "steps" in body["fields"]
    assert world.commits() == before + 1
    from_yml = {"name": "yml", "repo": "web", "steps_from_yml": True, "steps": [{"run_build": False}]}
    made = world["wendy"].post(f"{DEV}/builds/", json=from_yml).raise_for_status().json()
    assert (made["steps"], made["steps_from_yml"]) == ([], True)


def test_case_21_the_same_again(world: World) -> None:
    """409, no commit; also for one whose file cannot be read just now."""
    world["alice"].post(f"{DEV}/builds/", json=API).raise_for_status()
    before = world.commits()
    refused(world["alice"].post(f"{DEV}/builds/", json=API), 409, "already-exists")
    assert world.commits() == before
    world.commit({"web.yaml": "kind: ["})
    refused(world["alice"].post(f"{DEV}/builds/", json={**API, "name": "web"}), 409, "already-exists")


def test_case_22_what_get_gave_put_back(world: World) -> None:
    """200, no commit, for builds of both forms."""
    before = world.commits()
    nightly = f"{SHOP}/environments/staging/builds/by-name/nightly/"
    for path in (WEB, nightly):
        body = world["wendy"].get(path).json()
        answer = world["wendy"].put(path, json=body)
        assert answer.status_code == 200, answer.text
        assert "x-steersman-commit" not in answer.headers
        assert answer.json() == body
    assert world.commits() == before


def test_case_23_one_flag_is_one_line(world: World) -> None:
    """Comments and blank lines stay."""
    body = world["wendy"].get(WEB).json()
    body["steps"][0]["run_tests"] = False
    answer = world["wendy"].put(WEB, json=body)
    assert answer.status_code == 200, answer.text
    assert world.diff() == ["-      run_tests:   true     # always", "+      run_tests:   false     # always"]
    assert world.text("web.yaml") == WEB_YAML.replace("run_tests:   true ", "run_tests:   false ")
    assert world["rita"].get(WEB).json()["steps"][0]["run_tests"] is False
    subject = world.git("log", "-1", "--format=%s").strip()
    assert subject == "build shop/dev/web: set steps[0].run_tests"


def test_case_24_another_name(world: World) -> None:
    """400, no commit; without a name it is the one of the path."""
    before, body = world.commits(), world["wendy"].get(WEB).json()
    refused(world["wendy"].put(WEB, json={**body, "name": "other"}), 400, "name-mismatch")
    del body["name"]
    assert world["wendy"].put(WEB, json=body).status_code == 200
    assert world.commits() == before


def test_case_25_a_key_without_update_private_key(world: World) -> None:
    """200, the key is what it was, no commit."""
    body = world["wendy"].get(WEB).json()
    world["wendy"].put(WEB, json={**body, "private_key": KEY, "update_private_key": True}).raise_for_status()
    before = world.commits()
    answer = world["wendy"].put(WEB, json={**body, "private_key": "another"})
    assert (answer.status_code, answer.json()["private_key_set"]) == (200, True)
    assert "x-steersman-commit" not in answer.headers
    assert world.commits() == before
    refused(world["wendy"].put(WEB, json={**body, "update_private_key": "true"}), 400, "invalid-field")


def test_case_26_a_key_is_sealed(world: World) -> None:
    """One commit with the sealed value; another one changes that only; its text is nowhere; the same key: no commit."""
    before, body = world.commits(), world["wendy"].get(WEB).json()
    update = {**body, "update_private_key": True}
    answer = world["wendy"].put(WEB, json={**update, "private_key": KEY})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["private_key"], answer.json()["private_key_set"]) == ("", True)
    assert world.commits() == before + 1
    place = "projects/shop/secrets/build--shop--dev--web--private-key.yaml"
    assert "  private_key_ref: build--shop--dev--web--private-key\n" in world.text("web.yaml")
    assert "type: ssh_key" in world.text(place)
    assert "environment: dev" in world.text(place)
    assert world["wendy"].put(WEB, json={**update, "private_key": KEY}).status_code == 200
    assert world.commits() == before + 1
    assert (
        world["wendy"].put(WEB, json={**update, "private_key": KEY.replace("enough", "again")}).status_code
        == 200
    )
    assert world.commits() == before + 2
    assert [line.split(":")[0] for line in world.diff()] == ["-  sealed", "+  sealed"]
    assert world.git("show", "--format=", "--name-only", "main").split() == [place]
    assert nowhere(world, "notakeybutsecret")


def test_case_27_a_key_is_removed(world: World) -> None:
    """The reference and the document go, in one commit."""
    body = world["wendy"].get(WEB).json()
    update = {**body, "update_private_key": True}
    world["wendy"].put(WEB, json={**update, "private_key": KEY}).raise_for_status()
    before = world.commits()
    answer = world["wendy"].put(WEB, json={**update, "private_key": ""})
    assert (answer.status_code, answer.json()["private_key_set"]) == (200, False)
    assert world.commits() == before + 1
    assert not any("private-key" in path for path in world.files())
    assert world.text("web.yaml") == WEB_YAML


def test_the_token_of_a_build(world: World) -> None:
    """Set when it is made, kept by "" and by silence, removed by null; it goes with the build."""
    token = "escape-token-in-clear"
    made = world["wendy"].post(f"{DEV}/builds/", json={**API, "escape_auth_token": token, "private_key": KEY})
    assert made.status_code == 200, made.text
    assert (made.json()["escape_auth_token"], made.json()["escape_auth_token_set"]) == ("", True)
    assert made.json()["private_key_set"] is True
    place, before = f"{DEV}/builds/by-name/api/", world.commits()
    for body in (made.json(), {k: v for k, v in made.json().items() if k != "escape_auth_token"}):
        assert world["wendy"].put(place, json=body).json()["escape_auth_token_set"] is True
    assert world.commits() == before
    cleared = world["wendy"].put(place, json={**made.json(), "escape_auth_token": None})
    assert (cleared.json()["escape_auth_token_set"], cleared.json()["private_key_set"]) == (False, True)
    assert world["wendy"].delete(place).status_code == 200
    assert not any("api" in path for path in world.files())
    assert nowhere(world, token)


def test_case_28_a_key_in_clear_in_git(world: World) -> None:
    """That build is invalid, its last good version stays; the place is named; others are unaffected."""
    leaked = WEB_YAML.replace("  timeout_seconds: 1800\n", "  timeout_seconds: 60\n  private_key: abc\n")
    world.commit({"web.yaml": leaked})
    assert world["rita"].get(WEB).json()["timeout_seconds"] == 1800
    errors = world.admin.get("/reconciler/status", headers=world.native).json()["source"]["errors"]
    assert [error["location"] for error in errors] == ["web.yaml:14:3"]
    assert "considered leaked" in errors[0]["message"]
    assert world["wendy"].post(f"{DEV}/builds/", json=API).status_code == 200
    refused(world["wendy"].put(WEB, json={"repo": "web", "steps": [{}]}), 409, "spec-invalid")


def test_case_29_a_stale_tag(world: World) -> None:
    """412, no commit; the tag of the GET is good, once."""
    read = world["wendy"].get(WEB)
    headers = {"If-Match": read.headers["etag"]}
    first = world["wendy"].put(WEB, json={**read.json(), "timeout_seconds": 100}, headers=headers)
    assert first.status_code == 200, first.text
    assert first.headers["etag"] == world["rita"].get(WEB).headers["etag"] != read.headers["etag"]
    before = world.commits()
    second = world["wendy"].put(WEB, json={**read.json(), "timeout_seconds": 200}, headers=headers)
    refused(second, 412, "stale")
    assert world.commits() == before
    assert world["rita"].get(WEB).json()["timeout_seconds"] == 100


def test_case_30_two_at_once(world: World) -> None:
    """Two commits, both changes."""
    world["alice"].post(f"{DEV}/builds/", json=API).raise_for_status()
    other, before = f"{DEV}/builds/by-name/api/", world.commits()
    bodies = {path: {**world["alice"].get(path).json(), "timeout_seconds": 77} for path in (WEB, other)}
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda item: world["alice"].put(item[0], json=item[1]), bodies.items()))
    assert [answer.status_code for answer in found] == [200, 200]
    assert world.commits() == before + 2
    assert [world["rita"].get(path).json()["timeout_seconds"] for path in bodies] == [77, 77]


class Team(World):
    """As a World, whose specs are in a bare repository that people push to."""

    bare: Path

    def push(self) -> None:
        """As a person does it."""
        self.repo.git("push", "-q", "origin", "main")

    def head(self) -> str:
        """Of the bare repository."""
        command = ["git", "-C", str(self.bare), "rev-parse", "main"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def pushed(folder: Path, **settings: str) -> Iterator[Team]:
    """A daemon that follows a bare repository."""
    bare, repo = folder / "bare.git", SpecRepository(folder / "clone")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    repo.git("remote", "add", "origin", str(bare))
    repo.commit(FILES)
    repo.git("push", "-q", "origin", "main")
    settings |= {"STEERSMAN_ALLOW_UNSANDBOXED": "1"}
    with process(bare, folder / "data", **settings) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        team = Team(running, repo)
        team.bare = bare
        try:
            yield team
        finally:
            for client in (team.admin, *team.clients.values()):
                client.close()


def test_case_31_a_person_pushes_meanwhile(tmp_path: Path) -> None:
    """Both are there, the history is one line."""
    with pushed(tmp_path) as team:
        body = team["wendy"].get(WEB).json()
        with ThreadPoolExecutor(2) as pool:
            team.repo.commit({"other.yaml": document("Project", "name: tools", "{description: by hand}")})
            asked = pool.submit(team["wendy"].put, WEB, json={**body, "timeout_seconds": 99})
            by_hand = pool.submit(_until_pushed, team)
            assert asked.result().status_code == 200
            by_hand.result()
        team.repo.git("pull", "-q", "--rebase", "origin", "main")
        assert (team.repo.path / "web.yaml").read_text() == WEB_YAML.replace("1800", "99")
        assert "by hand" in (team.repo.path / "other.yaml").read_text()
        parents = team.repo.git("log", "--format=%p", "origin/main").splitlines()
        assert max(len(line.split()) for line in parents) == 1
        assert team.repo.git("rev-list", "--count", "origin/main") == "3"


def _until_pushed(team: Team) -> None:
    for _ in range(20):
        try:
            return team.push()
        except subprocess.CalledProcessError:
            team.repo.git("pull", "-q", "--rebase", "origin", "main")
    raise AssertionError("never pushed")


def test_case_32_git_is_out_of_reach(tmp_path: Path) -> None:
    """503 with Retry-After; the old value stays, nothing is left behind, and later it works."""
    with pushed(tmp_path) as team:
        body, head = team["wendy"].get(WEB).json(), team.head()
        away = tmp_path / "away.git"
        team.bare.rename(away)
        answer = team["wendy"].put(WEB, json={**body, "timeout_seconds": 99})
        refused(answer, 503, "git-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert team["rita"].get(WEB).json()["timeout_seconds"] == 1800
        away.rename(team.bare)
        assert team.head() == head
        assert team["wendy"].put(WEB, json={**body, "timeout_seconds": 98}).status_code == 200
        assert team["rita"].get(WEB).json()["timeout_seconds"] == 98


def test_case_33_a_hook_rejects(tmp_path: Path) -> None:
    """502 with what it said; the old value stays."""
    with pushed(tmp_path) as team:
        body, head = team["wendy"].get(WEB).json(), team.head()
        hook = team.bare / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'ask the release manager' >&2\nexit 1\n")
        os.chmod(hook, 0o755)
        found = refused(team["wendy"].put(WEB, json={**body, "timeout_seconds": 99}), 502, "git-rejected")
        assert "ask the release manager" in found["error"]
        assert team["rita"].get(WEB).json()["timeout_seconds"] == 1800
        assert team.head() == head


def test_case_34_read_only(tmp_path: Path) -> None:
    """Every declared write is 409 and names the file; reading works."""
    with pushed(tmp_path, STEERSMAN_WRITE_MODE="read-only") as team:
        head, alice = team.head(), team["alice"]
        body = alice.get(WEB).json()
        found = refused(alice.put(WEB, json={**body, "timeout_seconds": 99}), 409, "git-read-only")
        assert "web.yaml:2" in found["error"]
        refused(alice.post(f"{DEV}/builds/", json=API), 409, "git-read-only")
        refused(alice.delete(WEB), 409, "git-read-only")
        refused(alice.put(f"{SHOP}/", json={"description": "x"}), 409, "git-read-only")
        refused(alice.delete(f"{DEV}/"), 409, "git-read-only")
        assert team.head() == head


def test_a_branch_that_waits(tmp_path: Path) -> None:
    """In write mode `branch`: 202, nothing changes until somebody merges."""
    with pushed(tmp_path, STEERSMAN_WRITE_MODE="branch") as team:
        head, body = team.head(), team["wendy"].get(WEB).json()
        answer = team["wendy"].put(WEB, json={**body, "timeout_seconds": 99})
        assert answer.status_code == 202, team.running.log()
        assert answer.json().keys() == {"branch", "commit"}
        assert answer.json()["branch"].startswith("steersman/")
        assert team.head() == head
        assert team["rita"].get(WEB).json()["timeout_seconds"] == 1800
        assert team["alice"].delete(WEB).status_code == 202
        assert team["rita"].get(WEB).status_code == 200
        team.repo.git("pull", "-q", "origin", answer.json()["branch"])
        team.push()
        team.admin.post("/reconciler/sync", json={}, headers=team.native).raise_for_status()
        assert team["rita"].get(WEB).json()["timeout_seconds"] == 99


def check_refused(world: World, change: dict[str, Any], field: str) -> None:
    """400 naming the field, no commit, for PUT and POST."""
    before, body = world.commits(), world["alice"].get(WEB).json()
    found = refused(world["alice"].put(WEB, json={**body, **change}), 400, "invalid-field")
    assert field in found["fields"], found
    found = refused(world["alice"].post(f"{DEV}/builds/", json={**API, **change}), 400, "invalid-field")
    assert field in found["fields"], found
    assert world.commits() == before


def test_case_35_a_flag_that_is_a_text(world: World) -> None:
    """400 naming the very flag of the very step."""
    check_refused(world, {"steps": [{"skip_if_exists": "true"}]}, "steps[0].skip_if_exists")


@pytest.mark.parametrize("branch", ["--upload-pack=x", "a..b", "a b"])
def test_case_38_a_branch_that_is_none(world: World, branch: str) -> None:
    """400, however Git would understand it."""
    check_refused(world, {"branch": branch}, "branch")


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_case_39_a_plan_outside_of_the_repository(world: World, path: str) -> None:
    """400 when it is declared; what a link leads to is found out when it runs."""
    check_refused(world, {"steps": [{"plan_location": path}]}, "steps[0].plan_location")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": [{}, {"run_build": 1}]}, "steps[1].run_build"),
        ({"steps": "all"}, "steps"),
        ({"steps": ["all"]}, "steps[0]"),
        ({"disabled": "no"}, "disabled"),
        ({"timeout_seconds": 9}, "timeout_seconds"),
        ({"release": {"namespace": "shop", "version": 1.10}}, "release.version"),
        ({"repo": "https://user:secret@git.example.org/x"}, "repo"),
        ({"repo": "ext::sh -c x"}, "repo"),
        ({"remote_escape_worker_url": "ftp://x"}, "remote_escape_worker_url"),
        ({"private_key": 7}, "private_key"),
        ({"webhook_rotation": -1}, "webhook_rotation"),
    ],
)
def test_values_that_are_refused(world: World, change: dict[str, Any], field: str) -> None:
    """Of every field that can be set."""
    check_refused(world, change, field)


def test_a_reference_to_nothing_is_refused(world: World) -> None:
    """400, no commit."""
    before, body = world.commits(), world["alice"].get(WEB).json()
    for change in ({"repo": "absent"}, {"service_account_name": "x", "service_account_team": "platform"}):
        found = refused(world["alice"].put(WEB, json={**body, **change}), 400, "invalid-reference")
        assert "not declared" in found["error"]
    assert world.commits() == before


def errors_of(world: World, field: str, spec: str) -> list[dict[str, Any]]:
    """What is told of the build with this in its document; it must be shown as it was before."""
    before = world["rita"].get(WEB).json()
    world.commit({"web.yaml": WEB_YAML + spec})
    assert world["rita"].get(WEB).json()[field] == before[field]
    found = world.admin.get("/reconciler/status", headers=world.native).json()["source"]["errors"]
    assert [error["key"] for error in found] == ["Build/shop/dev/web"]
    return list(found)


def test_case_36_a_version_without_quotes(world: World) -> None:
    """The build is invalid, with a sentence that says to quote it; it is never read as 1.1."""
    (error,) = errors_of(world, "release", "  release: {namespace: shop, version: 1.10}\n")
    assert "quote" in error["message"]
    assert world["rita"].get(WEB).json()["release"] is None


def test_case_37_a_no_that_is_a_text(world: World) -> None:
    """The build is invalid, with a sentence that names what it may be; it is not disabled."""
    (error,) = errors_of(world, "disabled", "  disabled: no\n")
    assert "true or false" in error["message"]
    assert world["rita"].get(WEB).json()["disabled"] is False


def test_case_40_a_build_that_a_pipeline_names(world: World) -> None:
    """409, also by force."""
    step = "{type: build, environment: dev, build: web}"
    world.commit(
        {
            "pipe.yaml": document(
                "Pipeline", "name: release, project: shop", f"{{phases: [{{name: a, steps: [{step}]}}]}}"
            )
        }
    )
    before = world.commits()
    for query in ("", "?force=true"):
        found = refused(world["wendy"].delete(WEB + query), 409, "in-use")
        assert "Pipeline/shop/release" in found["error"]
    assert world.commits() == before


def test_case_41_deleted_while_it_runs(world: World) -> None:
    """Deleted in Git: 404, and the run goes on. By the API: 409, and by force it is cancelled."""
    staging = f"{SHOP}/environments/staging/builds/by-name/nightly/"
    key = {"key": "Build/shop/staging/nightly"}

    def state(number: int) -> str:
        found = world.admin.get(f"/reconciler/jobs/{number}", headers=world.native).json()
        return str(found["state"])

    def trigger() -> int:
        made = (
            world.admin.post("/reconciler/trigger", json=key, headers=world.native).raise_for_status().json()
        )
        world.running.job(made["number"], "executing")
        return int(made["number"])

    first = trigger()
    assert world["rita"].get(staging).json()["status"] == "running"
    world.commit({"tasks.yaml": None})
    refused(world["rita"].get(staging), 404, "not-found")
    assert state(first) == "executing"
    world.admin.post(f"/reconciler/jobs/{first}/cancel", headers=world.native).raise_for_status()
    world.running.job(first, "aborted")
    world.reset()
    assert world["rita"].get(staging).json()["status"] == "failed"
    second, before = trigger(), world.commits()
    refused(world["wendy"].delete(staging), 409, "in-use")
    assert (world.commits(), state(second)) == (before, "executing")
    answer = world["wendy"].delete(f"{staging}?force=true")
    assert (answer.status_code, answer.content) == (200, b"")
    assert world.commits() == before + 1
    world.running.job(second, "aborted")
    refused(world["rita"].get(staging), 404, "not-found")


def test_case_42_only_published_fields(world: World) -> None:
    """What is ours is kept where a body is silent, of steps too; null clears it."""
    scripts = "  scripts: {build: {inline: make}, test: ci/test.sh}\n"
    world.commit(
        {
            "web.yaml": WEB_YAML.replace("      tag_git: true\n", "      tag_git: true\n    " + scripts)
            + scripts
        }
    )
    body = world["wendy"].get(WEB).json()
    ours = (
        "scripts",
        "release",
        "triggers",
        "timeout_seconds",
        "webhook_rotation",
        "permission",
        "private_key_set",
    )
    published = {name: value for name, value in body.items() if name not in (*ours, "escape_auth_token_set")}
    published["steps"] = [{k: v for k, v in step.items() if k != "scripts"} for step in body["steps"]]
    before = world.commits()
    answer = world["wendy"].put(WEB, json=published)
    assert answer.status_code == 200, answer.text
    assert answer.json() == body
    assert (
        body["scripts"]
        == body["steps"][0]["scripts"]
        == {"build": {"inline": "make"}, "test": {"script": "ci/test.sh"}}
    )
    assert world.commits() == before
    cleared = world["wendy"].put(WEB, json={**published, "scripts": None, "timeout_seconds": None}).json()
    assert (cleared["scripts"], cleared["timeout_seconds"]) == (None, 3600)
    assert cleared["steps"][0]["scripts"] == body["scripts"]


def test_published_fields_are_replaced_as_a_whole(world: World) -> None:
    """What a PUT leaves out is the default again."""
    found = world["wendy"].put(WEB, json={"repo": "web", "steps": [{}]}).raise_for_status().json()
    assert found["steps"] == [FLAGS]
    assert found["timeout_seconds"] == 1800
    found = world["wendy"].put(WEB, json={**found, "disabled": True, "branch": "next"}).json()
    assert (found["disabled"], found["branch"]) == (True, "next")
    found = world["wendy"].put(WEB, json={"repo": "web", "steps": [{}]}).json()
    assert (found["disabled"], found["branch"]) == (False, "main")


def test_case_43_a_stronger_identity(world: World) -> None:
    """A writer who is not of the account's team: 403; an owner may, and then the writer may leave it so."""
    before, body = world.commits(), world["wendy"].get(WEB).json()
    named = {**body, "service_account_name": "deployer", "service_account_team": "platform"}
    refused(world["wendy"].put(WEB, json=named), 403, "forbidden")
    refused(
        world["wendy"].post(f"{DEV}/builds/", json={**API, **{k: named[k] for k in named if "account" in k}}),
        403,
        "forbidden",
    )
    assert world.commits() == before
    assert world["alice"].put(WEB, json=named).status_code == 200
    assert world["wendy"].put(WEB, json={**named, "disabled": True}).status_code == 200
    half = {**body, "service_account_name": "deployer"}
    refused(world["alice"].put(WEB, json=half), 400, "invalid-field")


def test_a_tasks_form_keeps_its_tasks(world: World) -> None:
    """It shows no steps; a PUT with `steps: []` changes what it says and leaves the tasks alone (design 13.10)."""
    path = f"{SHOP}/environments/staging/builds/by-name/nightly/"
    body = world["wendy"].get(path).json()
    assert (body["steps"], body["tasks"][0]["run"]) == ([], "sleep 600")
    answer = world["wendy"].put(path, json={"name": "nightly", "repo": "web", "steps": [], "disabled": True})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["tasks"], answer.json()["disabled"], answer.json()["repo"]) == (
        body["tasks"],
        True,
        "web",
    )
    assert "tasks: [{name: main, run: 'sleep 600'}]" in world.text("tasks.yaml")


def test_a_new_code_by_rotation(world: World) -> None:
    """Raising `webhook_rotation` makes another one; a build that is made anew has another identifier."""
    body = world["wendy"].get(WEB).json()
    turned = world["wendy"].put(WEB, json={**body, "webhook_rotation": 1}).json()
    assert turned["webhook_token"] not in ("", body["webhook_token"])
    assert turned["id"] == body["id"]
    assert world["wendy"].delete(WEB).status_code == 200
    again = world["wendy"].post(f"{DEV}/builds/", json={**body, "name": "web"}).json()
    assert again["id"] != body["id"]


def test_defaults_of_the_project_are_inherited(world: World) -> None:
    """What a body leaves out is what the project gives; nothing of it is written down."""
    given = "defaults: {Build: {timeout_seconds: 900, environment_variables: {CC: gcc}}},"
    project = FILES["project.yaml"].replace("description: Web shop,", given)
    world.commit({"project.yaml": project})
    found = world["wendy"].post(f"{DEV}/builds/", json=API).raise_for_status().json()
    assert found["timeout_seconds"] == 900
    text = world.text("projects/shop/environments/dev/builds/api.yaml")
    assert not any(word in text for word in ("timeout", "environment_variables", "null"))
    own = world["wendy"].put(f"{DEV}/builds/by-name/api/", json={**found, "timeout_seconds": 60}).json()
    assert own["timeout_seconds"] == 60
    back = world["wendy"].put(f"{DEV}/builds/by-name/api/", json={**own, "timeout_seconds": None}).json()
    assert back["timeout_seconds"] == 900


def test_texts_beside_the_specs_stay_there(world: World) -> None:
    """An echo of a script or a logo that stands in a file makes no commit."""
    script = "  scripts: {build: {inline_file: build.sh}}\n"
    project = FILES["project.yaml"].replace("description: Web shop,", "logo_file: logo.png,")
    world.commit(
        {
            "web.yaml": WEB_YAML + script,
            "build.sh": "make\n",
            "logo.png": b"\x89PNG\xff",
            "project.yaml": project,
        }
    )
    before = world.commits()
    body = world["alice"].get(WEB).json()
    assert body["scripts"]["build"]["inline"] == "make\n"
    shop = world["alice"].get(f"{SHOP}/").json()
    assert shop["logo"]
    for path, content in ((WEB, body), (f"{SHOP}/", shop)):
        answer = world["alice"].put(path, json=content)
        assert answer.status_code == 200, answer.text
        assert answer.json() == content
    assert world.commits() == before
    assert world["alice"].put(f"{SHOP}/", json={"logo": ""}).json()["logo"] == ""


def test_a_client_without_accept_writes_too(world: World) -> None:
    """As the Go client does."""
    with httpx.Client(base_url=world.url) as client:
        request = client.build_request("DELETE", WEB, headers={"X-Escape-Token": world.secrets["wendy"]})
        del request.headers["accept"]
        answer = client.send(request)
    assert (answer.status_code, answer.content) == (200, b"")
