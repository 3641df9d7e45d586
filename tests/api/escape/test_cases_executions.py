"""The numbered edge cases of the contract about executions of builds (escape-state, 17)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import steersman
from tests.api.escape.conftest import DEV, SHOP, refused
from tests.api.escape.releasing import SETTINGS, Build, Works, works
from tests.support import end_scripts, eventually_now, start

SLOW = "echo begun; sleep 3; echo over"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """One daemon for all cases that need none of their own."""
    with works(tmp_path_factory.mktemp("executions")) as found:
        yield found


def code_of(build: Build) -> str:
    """The code of its webhook."""
    found: str = build.works["wendy"].get(build.path + "/").json()["webhook_token"]
    return found


def hook(build: Build, code: str, **more: Any) -> Any:
    """The answer to a call of a webhook, without any credential."""
    with build.works.client("") as client:
        del client.headers["x-escape-token"]
        return client.post(f"{build.path.partition('/builds/')[0]}/builds/webhook/{code}", **more)


def push_event(build: Build, commit: str, branch: str = "main", **more: Any) -> dict[str, Any]:
    """What GitHub posts for a push."""
    body = {
        "ref": f"refs/heads/{branch}",
        "after": commit,
        "repository": {"clone_url": "https://e.org/x.git"},
    }
    return {"json": body | more, "headers": {"X-GitHub-Event": "push"}}


def stage(execution: dict[str, Any], name: str, step: int = 0) -> dict[str, Any]:
    """One stage of one step."""
    found = [each for each in execution["steps"][step]["stages"] if each["name"] == name]
    assert len(found) == 1, execution["steps"]
    return dict(found[0])


def releases(shop: Works, application: str) -> list[str]:
    """Labels of the registered releases of an application, newest first."""
    headers = {"Authorization": f"Bearer {shop.secrets['rita']}"}
    query = {"application": f"shop/{application}"}
    answer = shop["rita"].get("/reconciler/releases", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return [item["label"] for item in answer.json()["items"]]


def test_case_44_an_empty_trigger_starts_it(shop: Works) -> None:
    """200 and an id; GET by that id at once: pending or running."""
    build = shop.declare("c44", **shop.released("c44", build=SLOW))
    answer = shop["wendy"].post(f"{build.path}/trigger-build")
    assert (answer.status_code, set(answer.json())) == (200, {"id"})
    execution = answer.json()["id"]
    assert len(execution) == 26
    found = build.get(execution)
    assert found["status"] in ("pending", "running")
    assert found["id"] == execution
    whole = build.when(execution, "ok")
    assert whole["build"]["name"] == "c44"
    assert (whole["build"]["project"], whole["build"]["environment"]) == ("shop", "dev")
    assert whole["build"]["id"] == shop["rita"].get(build.path + "/").json()["id"]
    assert whole["trigger"] == {
        "type": "manual",
        "user": "wendy",
        "pipeline_execution_id": "",
        "retry_of": "",
        "payload_digest": "",
    }
    assert whole["commit"]["git_revision"] == shop.code.head()
    assert (whole["branch"], whole["releases"], whole["worker"]) == ("main", ["shop/c44-v1.0.0"], "local")
    assert (whole["status_reason"], whole["cancel_requested"]) == ("", False)
    assert whole["log_seq"] == len(build.messages(execution)) > 2
    assert whole["created_at"] <= whole["started_at"] <= whole["finished_at"]
    (step,) = whole["steps"]
    assert (step["index"], step["plan_location"], step["status"], step["release"], step["version"]) == (
        0,
        "escape.yml",
        "ok",
        "shop/c44",
        "1.0.0",
    )
    assert stage(whole, "build")["exit_code"] == 0
    assert stage(whole, "test") | {"reason": "no-script"} == stage(whole, "test")
    assert shop["rita"].get(build.path + "/").json()["status"] == "ok"


def test_case_45_a_disabled_build_starts_nothing(shop: Works) -> None:
    build = shop.declare("c45", disabled=True, **shop.released("c45"))
    refused(shop["wendy"].post(f"{build.path}/trigger-build"), 409, "disabled")
    refused(hook(build, code_of(build)), 409, "disabled")
    assert shop["rita"].get(f"{build.path}/executions/").json() == []


def test_case_46_the_second_of_two_waits_for_the_first(shop: Works) -> None:
    build = shop.declare("c46", **shop.released("c46", build=SLOW))
    first, second = build.trigger(), build.trigger()
    assert first != second
    build.when(first, "running")
    while build.get(first)["status"] == "running":
        waiting = build.get(second)
        assert waiting["status"] == "pending" or build.get(first)["status"] != "running"
        time.sleep(0.2)
    assert build.when(second, "ok")["started_at"] >= build.get(first)["finished_at"]


def test_case_47_the_same_commit_pushed_twice_is_one_execution(shop: Works) -> None:
    """While it is pending; a later commit takes its place, what was started by hand is left alone."""
    build = shop.declare("c47", **shop.released("c47", build=SLOW))
    code, commit = code_of(build), shop.code.head()
    running = build.trigger()
    build.when(running, "running")
    by_hand = build.trigger()
    answers = [hook(build, code, **push_event(build, commit)) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {200}
    first, again = (answer.json()["id"] for answer in answers)
    assert first == again
    assert first not in (running, by_hand)
    found = build.get(first)
    assert (found["status"], found["trigger"]["type"], found["trigger"]["user"]) == ("pending", "webhook", "")
    assert len(found["trigger"]["payload_digest"]) == 64
    later = shop.code.commit({"main.c": "int c47;\n"})
    newer = hook(build, code, **push_event(build, later)).json()["id"]
    assert newer != first
    superseded = build.get(first)
    assert (superseded["status"], superseded["status_reason"]) == ("failed", "superseded")
    for execution in (by_hand, running):
        build.post(execution, "cancel")
    assert build.when(newer, "ok")["commit"]["git_revision"] == later


def test_case_48_a_push_to_another_branch_is_skipped(shop: Works) -> None:
    """200 without an id; so is a deleted branch, and a ping."""
    build = shop.declare("c48", **shop.released("c48"))
    code, head = code_of(build), shop.code.head()
    for event, skipped in (
        (push_event(build, head, "feature"), "other-branch"),
        (
            {"json": {"ref": "refs/tags/v1", "after": head}, "headers": {"X-Gitlab-Event": "Tag Push Hook"}},
            "other-branch",
        ),
        (push_event(build, "0" * 40, deleted=True), "branch-deleted"),
        (
            {
                "json": {"ref": "refs/heads/main", "after": "0" * 40},
                "headers": {"X-Gitlab-Event": "Push Hook"},
            },
            "branch-deleted",
        ),
        ({"json": {"zen": "x"}, "headers": {"X-GitHub-Event": "ping"}}, "ping"),
    ):
        answer = hook(build, code, **event)
        assert (answer.status_code, answer.json()) == (200, {"id": "", "skipped": skipped})
    assert shop["rita"].get(f"{build.path}/executions/").json() == []
    refused(hook(build, code, content=b"{"), 400, "invalid-json")
    for body in (
        {},
        {"json": {"anything": 1}},
        push_event(build, head) | {"headers": {"X-Gitea-Event": "push"}},
    ):
        answer = hook(build, code, **body)
        assert answer.status_code == 200, answer.text
        assert build.when(answer.json()["id"], "ok", "failed")["commit"]["git_revision"] == head


def test_case_49_a_code_is_good_for_its_own_environment_only(shop: Works) -> None:
    """404, as for a code that nobody has; a changed rotation makes the old one worth nothing."""
    other = shop.declare("c49", "staging", **shop.released("c49"))
    code = code_of(other)
    build = shop.declare("c49", **shop.released("c49"))
    for wrong in (code, "nonsense", code_of(build)[:-1]):
        refused(hook(build, wrong), 404, "not-found")
    assert hook(build, code_of(build)).status_code == 200
    old = code_of(build)
    build = shop.declare("c49", webhook_rotation=1, **shop.released("c49"))
    refused(hook(build, old), 404, "not-found")
    assert hook(build, code_of(build)).status_code == 200


def test_a_signature_beside_the_code_must_be_good(tmp_path: Path) -> None:
    """Where a secret is set (6.13)."""
    with works(tmp_path, STEERSMAN_WEBHOOK_SECRET="hush-hush") as shop:
        build = shop.declare("signed", **shop.released("signed"))
        code, body = code_of(build), json.dumps({"ref": "refs/heads/main"}).encode()

        def signed(secret: bytes) -> dict[str, str]:
            mark = hmac.new(secret, body, hashlib.sha256).hexdigest()
            return {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={mark}"}

        refused(hook(build, code, content=body, headers=signed(b"wrong")), 404, "not-found")
        assert hook(build, code, content=body, headers=signed(b"hush-hush")).status_code == 200
        assert hook(build, code, content=body, headers={"X-GitHub-Event": "push"}).status_code == 200


def test_case_50_cancel_while_pending_and_while_running(shop: Works) -> None:
    """At once; and after the grace, with all children, where a script ignores TERM."""
    stubborn = "trap '' TERM; (trap '' TERM; sleep 654.321) & echo begun; sleep 654.321; wait"
    build = shop.declare("c50", **shop.released("c50", build=stubborn))
    running, pending = build.trigger(), build.trigger()
    build.when(running, "running")
    eventually_now(lambda: "begun" in build.messages(running))
    assert build.get(pending)["status"] == "pending"
    answer = build.post(pending, "cancel")
    assert (answer.status_code, answer.content) == (200, b"")
    found = build.get(pending)
    assert (found["status"], found["status_reason"], found["cancel_requested"]) == (
        "failed",
        "cancelled",
        True,
    )
    assert "started_at" not in found
    began = time.monotonic()
    assert build.post(running, "cancel", json={"reason": "no longer wanted"}).status_code == 200
    found = build.when(running, "failed", seconds=40)
    assert (found["status_reason"], time.monotonic() - began > 0.4) == ("cancelled", True)
    assert _processes("654.321") == 0
    refused(build.post(running, "cancel", json={"reason": 3}), 400, "invalid-field")


def _processes(text: str) -> int:
    """How many have this in their command line."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += text.encode() in path.read_bytes()
        except OSError:
            continue
    return found


def test_case_51_cancel_after_the_end_and_twice(shop: Works) -> None:
    build = shop.declare("c51", **shop.released("c51", build="echo 1"))
    refused(build.post(build.run()["id"], "cancel"), 409, "already-finished")
    slow = shop.declare(
        "c51-slow", **shop.released("c51", build="trap '' TERM; echo begun; sleep 60; sleep 60")
    )
    execution = slow.trigger()
    eventually_now(lambda: "begun" in slow.messages(execution))
    assert [slow.post(execution, "cancel").status_code for _ in range(2)] == [200, 200]
    slow.when(execution, "failed")
    refused(slow.post(execution, "cancel"), 409, "already-finished")


def test_case_52_retry_of_a_running_and_of_a_failed_one(shop: Works) -> None:
    """409; a new id with `retry_of`, of the same commit though the branch has moved; with `head`, of the newest."""
    build = shop.declare("c52", **shop.released("c52", build="sleep 1; exit 3"))
    commit = shop.code.head()
    execution = build.trigger()
    refused(build.post(execution, "retry"), 409, "not-finished")
    failed = build.when(execution, "failed")
    assert (failed["status_reason"], stage(failed, "build")["exit_code"]) == ("script-failed", 3)
    moved = shop.code.commit({"main.c": "int c52;\n"})
    answer = build.post(execution, "retry")
    assert answer.status_code == 200, answer.text
    again = build.when(answer.json()["id"], "failed")
    assert again["id"] != execution
    assert again["trigger"]["type"] == "retry"
    assert (again["trigger"]["retry_of"], again["trigger"]["user"]) == (execution, "wendy")
    assert again["commit"]["git_revision"] == commit != moved
    newest = build.post(execution, "retry", json={"head": True}).json()["id"]
    assert build.when(newest, "failed")["commit"]["git_revision"] == moved
    assert build.get(execution) == failed
    build = shop.declare("c52", disabled=True, **shop.released("c52"))
    refused(build.post(execution, "retry"), 409, "disabled")


def test_case_53_pages_follow_each_other(shop: Works) -> None:
    """2, 2 and 1 of 5, without overlap; sizes that are none are refused."""
    build = shop.declare("c53", **shop.released("c53", build="sleep 30"))
    made = [build.trigger() for _ in range(5)]
    path = f"{build.path}/executions/"
    pages = []
    query: dict[str, Any] = {"page_size": 2}
    for _ in range(3):
        answer = shop["rita"].get(path, params=query)
        pages.append([item["id"] for item in answer.json()])
        assert answer.headers.get("x-next-page-from") == (pages[-1][-1] if len(pages) < 3 else None)
        query = {"page_size": 2, "page_from": pages[-1][-1]}
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [found for page in pages for found in page] == sorted(made, reverse=True)
    for size in ("0", "x", "-1", "1.5", ""):
        refused(shop["rita"].get(path, params={"page_size": size}), 400, "invalid-page")
    refused(shop["rita"].get(path, params={"page_from": "x"}), 400, "invalid-page")
    assert len(shop["rita"].get(path, params={"page_size": "1000000"}).json()) == 5
    for listing in ("/api/v1/builds/executions/", f"{SHOP}/builds/executions/"):
        found = shop["rita"].get(listing, params={"name": "c53", "page_size": 3, "environment": "dev"})
        assert [item["id"] for item in found.json()] == sorted(made, reverse=True)[:3]
        assert found.headers["x-next-page-from"] == sorted(made)[2]
    pending = shop["rita"].get(path, params={"status": "pending"}).json()
    assert {item["status"] for item in pending} == {"pending"}
    assert shop["rita"].get(path, params={"status": "ok"}).json() == []
    assert shop["rita"].get(path, params={"status": "new"}).json() == []
    assert shop["pia"].get(path).status_code == 404
    assert shop["pia"].get("/api/v1/builds/executions/").json() == []
    for execution in made:
        build.post(execution, "cancel")


def test_case_54_only_changes_that_count_start_a_build(shop: Works) -> None:
    """By webhook: nothing to do, no release. By hand: a real build."""
    build = shop.declare(
        "c54", steps=[{"ignore_file_changes": ["**/*.md"]}], **shop.released("c54", build="echo real")
    )
    code = code_of(build)
    assert build.run()["status"] == "ok"
    commit = shop.code.commit({"README.md": "# Changed for c54\n"})
    execution = hook(build, code, **push_event(build, commit)).json()["id"]
    found = build.when(execution, "ok", "failed")
    assert (found["status"], found["status_reason"], found["releases"]) == ("ok", "no-matching-changes", [])
    assert found["steps"][0]["status_reason"] == "no-matching-changes"
    assert "real" not in build.messages(execution)
    assert releases(shop, "c54") == ["shop/c54-v1.0.0"]
    found = build.run()
    assert (found["releases"], found["status_reason"]) == (["shop/c54-v1.0.1"], "")
    assert "real" in build.messages(found["id"])


def test_case_55_a_release_that_exists_is_not_built_again(shop: Works) -> None:
    build = shop.declare(
        "c55", steps=[{"skip_if_exists": True}], **shop.released("c55", "1.4.0", build="echo built")
    )
    assert build.run()["releases"] == ["shop/c55-v1.4.0"]
    found = build.run()
    assert (found["status"], found["steps"][0]["status"], found["steps"][0]["status_reason"]) == (
        "ok",
        "ok",
        "exists",
    )
    assert "built" not in build.messages(found["id"])
    assert found["releases"] == []


def test_case_56_a_fixed_version_is_published_once(shop: Works) -> None:
    """`version-exists` at push; with `force_overwrite` it is replaced."""
    fields = shop.released("c56", "1.4.0", build="echo built; date +%N > stamp", destroy="rm -f stamp")
    build = shop.declare("c56", **fields)
    assert build.run()["status"] == "ok"
    found = build.run()
    assert (found["status"], found["status_reason"]) == ("failed", "version-exists")
    assert stage(found, "build")["status"] == "ok"
    assert (stage(found, "push")["status"], stage(found, "push")["reason"]) == ("failed", "version-exists")
    assert found["releases"] == []
    build = shop.declare("c56", steps=[{"force_overwrite": True}], **fields)
    assert build.run()["releases"] == ["shop/c56-v1.4.0"]
    assert releases(shop, "c56") == ["shop/c56-v1.4.0"]


def test_case_57_the_next_number_is_the_highest_and_one(shop: Works) -> None:
    for version in ("0.3.9", "0.3.10"):
        shop.declare("c57", **shop.released("c57", version, build="echo built")).run()
    found = shop.declare("c57", **shop.released("c57", "0.3.@", build="echo built")).run()
    assert found["releases"] == ["shop/c57-v0.3.11"]


def test_case_58_two_builds_at_once_get_different_versions(shop: Works) -> None:
    builds = [shop.declare(f"c58-{n}", **shop.released("c58", build="sleep 1")) for n in range(2)]
    made = [build.trigger() for build in builds]
    found = [build.when(each, "ok", "failed") for build, each in zip(builds, made, strict=True)]
    assert sorted(each["releases"][0] for each in found) == ["shop/c58-v1.0.0", "shop/c58-v1.0.1"]


ALL = {name: f"echo ran-{name}-$STEERSMAN_STAGE" for name in ("build", "test", "deploy", "smoke", "destroy")}


def ran(build: Build, execution: str) -> list[str]:
    """What the scripts of stages have said."""
    return [said.removeprefix("ran-") for said in build.messages(execution) if said.startswith("ran-")]


def test_case_59_without_tests_neither_test_nor_smoke_runs(shop: Works) -> None:
    """Deploy does."""
    build = shop.declare(
        "c59", steps=[{"run_tests": False, "run_destroy": False}], **shop.released("c59", **ALL)
    )
    found = build.run()
    assert [each.partition("-")[0] for each in ran(build, found["id"])] == ["build", "deploy"]
    for name in ("test", "smoke"):
        assert (stage(found, name)["status"], stage(found, name)["reason"]) == ("skipped", "flag")


def test_case_60_a_deployment_is_left_standing_or_not(shop: Works) -> None:
    """`ok` in dev afterwards; destroyed it is `empty`, and its version is still told."""
    for destroy, expected in ((False, "ok"), (True, "empty")):
        name = f"c60-{expected}"
        step = {"run_deploy": True, "run_destroy_deploy": destroy}
        build = shop.declare(name, steps=[step], **shop.released(name, **ALL))
        assert build.run()["status"] == "ok"
        state = shop["wendy"].get(f"{DEV}/deployments/", params={"deployment": f"shop/{name}"}).json()
        deploy = state["stages"]["deploy"]
        assert (deploy["status"]["status"], deploy["version"]) == (expected, "1.0.0")


def test_case_61_nothing_is_destroyed_by_the_master_switch(shop: Works) -> None:
    step = {"run_destroy": False, "run_destroy_build": True, "run_destroy_deploy": True}
    build = shop.declare("c61", steps=[step], **shop.released("c61", **ALL))
    found = build.run()
    assert [each.partition("-")[0] for each in ran(build, found["id"])] == [
        "build",
        "test",
        "deploy",
        "smoke",
    ]
    assert {stage(found, name)["status"] for name in ("destroy_build", "destroy_deploy")} == {"skipped"}


def test_case_62_a_tag_that_is_refused_fails_the_step(shop: Works) -> None:
    """The release stays. A tag that is taken marks the commit."""
    build = shop.declare("c62", steps=[{"tag_git": True}], **shop.released("c62", build="echo built"))
    found = build.run()
    assert (found["status"], found["steps"][0]["git_tag"]) == ("ok", "shop/c62-v1.0.0")
    assert shop.code.git("cat-file", "-t", "shop/c62-v1.0.0") == "tag"
    assert shop.code.git("rev-parse", "shop/c62-v1.0.0^{commit}") == found["commit"]["git_revision"]
    guard = shop.code.path / ".git/hooks/pre-receive"
    guard.parent.mkdir(exist_ok=True)
    guard.write_text("#!/bin/sh\necho 'this key may only read' >&2\nexit 1\n")
    guard.chmod(0o755)
    try:
        found = build.run()
    finally:
        guard.unlink()
    assert (found["status"], found["status_reason"]) == ("failed", "tag-push-failed")
    assert stage(found, "tag_git")["reason"] == "tag-push-failed"
    assert any("this key may only read" in said for said in build.messages(found["id"]))
    assert found["releases"] == ["shop/c62-v1.0.1"]
    assert releases(shop, "c62") == ["shop/c62-v1.0.1", "shop/c62-v1.0.0"]
    assert "shop/c62-v1.0.1" not in shop.code.git("tag").split()


def test_case_63_a_namespace_of_another_project_is_not_written_to(shop: Works) -> None:
    build = shop.declare(
        "c63", steps=[{"override_namespace": "tools"}], **shop.released("c63", build="echo built")
    )
    found = build.run()
    assert (found["status"], found["status_reason"]) == ("failed", "permission-denied")
    assert found["releases"] == []
    assert "built" not in build.messages(found["id"])


def test_case_64_outputs_are_texts(shop: Works) -> None:
    script = "mkdir -p .escape; echo '{\"port\": 80}' > .escape/outputs.json"
    found = shop.declare("c64", **shop.released("c64", build=script)).run()
    assert (found["status"], stage(found, "build")["status"]) == ("failed", "failed")
    assert found["releases"] == []


def test_case_65_a_sensitive_value_is_not_in_the_log(shop: Works) -> None:
    fields = shop.released("c65", build='echo "it is $INPUT_password"; echo "$INPUT_level"')
    fields["release"]["inputs"] = [{"id": "password", "sensitive": True}, {"id": "level", "default": "info"}]
    build = shop.declare("c65", steps=[{"variables": {"password": "hush-hush-hush"}}], **fields)
    execution = build.run()["id"]
    said = build.messages(execution)
    assert "it is ***" in said
    assert "info" in said
    assert not any("hush" in each for each in said)


def test_case_66_steps_of_the_repository_must_be_good(shop: Works) -> None:
    """No file, and a mistyped boolean: both are told; a good file is followed."""
    build = shop.declare("c66", steps=[], steps_from_yml=True, **shop.released("c66", build="echo built"))
    for text in (None, 'escapekit_version: 1\nbuild:\n  steps:\n    - force_overwrite: "true,"\n'):
        if text is not None:
            shop.code.commit({"escapekit.yml": text})
        found = build.run()
        assert (found["status"], found["status_reason"]) == ("failed", "escapekit-invalid")
        assert any("escapekit.yml" in said for said in build.messages(found["id"]))
    assert any("escapekit.yml:4:24" in said for said in build.messages(found["id"]))
    shop.code.commit({"escapekit.yml": "escapekit_version: 1\nbuild:\n  steps:\n    - skip_deploy: true\n"})
    found = build.run()
    assert (found["status"], stage(found, "deploy")["reason"]) == ("ok", "flag")
    shop.code.commit({"escapekit.yml": None})


def test_case_67_a_build_whose_machine_is_lost_has_failed(tmp_path: Path) -> None:
    """The script dies with the daemon: `worker-lost`, and the one behind it starts. One that lives on is taken up."""
    with works(tmp_path) as shop:
        build = shop.declare("c67", **shop.released("c67", build="echo begun; sleep 4; echo over"))
        survives = build.trigger()
        eventually_now(lambda: "begun" in build.messages(survives))
        shop.running.kill()
        again = start(shop.repo.path, shop.running.data, **SETTINGS)
        shop.running.popen = again.popen
        for client in (shop.admin, *shop.clients.values()):
            client.base_url = again.url
        assert build.when(survives, "ok", "failed")["status"] == "ok"
        assert build.messages(survives).count("over") == 1
        lost, behind = build.trigger(), build.trigger()
        eventually_now(lambda: "begun" in build.messages(lost))
        again.kill()
        end_scripts(shop.running.data)
        third = start(shop.repo.path, shop.running.data, **SETTINGS)
        shop.running.popen = third.popen
        for client in (shop.admin, *shop.clients.values()):
            client.base_url = third.url
        found = build.when(lost, "ok", "failed")
        assert (found["status"], found["status_reason"]) == ("failed", "worker-lost")
        assert build.when(behind, "ok", "failed")["status"] == "ok"


def test_releases_are_listed_for_those_who_see_their_project(shop: Works) -> None:
    """Newest first, in pages, with their tags' names; by HTTP and on the command line."""
    for version in ("1.0", "1.1", "1.2"):
        shop.declare("listed", **shop.released("listed", version, build="echo built")).run()

    def ask(who: str, **query: Any) -> Any:
        headers = {"Authorization": f"Bearer {shop.secrets[who]}"}
        return shop[who].get("/reconciler/releases", params=query, headers=headers)

    page = ask("rita", application="shop/listed", limit=2).json()
    assert [item["version"] for item in page["items"]] == ["1.2", "1.1"]
    newest = page["items"][0]
    assert newest["label"] == "shop/listed-v1.2"
    assert (newest["project"], newest["tags"], newest["fat"]) == ("shop", [], False)
    assert newest["digest"].startswith("sha256:")
    assert newest["commit"] == shop.code.head()
    rest = ask("rita", application="listed", after=page["next"]).json()
    assert ([item["version"] for item in rest["items"]], rest["next"]) == (["1.0"], None)
    assert ask("nobody").json() == {"items": [], "next": None}
    assert len(ask("rita").json()["items"]) >= 3
    wrong = ask("rita", application="Shop/x")
    assert (wrong.status_code, "the namespace must have" in wrong.json()["detail"]) == (422, True)
    assert ask("rita", limit=0).status_code == 400
    place = {"STEERSMAN_SERVER": shop.url, "STEERSMAN_TOKEN": shop.secrets["rita"]}
    table = steersman("releases", "--application", "shop/listed", **place)
    assert table.returncode == 0, table.stderr
    lines = [line.split() for line in table.stdout.splitlines()]
    assert lines[0] == ["RELEASE", "TAGS", "PROJECT", "JOB", "BRANCH", "COMMIT", "BYTES", "CREATED"]
    assert [line[0] for line in lines[1:]] == [f"shop/listed-v1.{n}" for n in (2, 1, 0)]
    told = json.loads(
        steersman("releases", "-a", "listed", "--limit", "1", "--output", "json", **place).stdout
    )
    assert told == ask("rita", application="listed", limit=1).json()
    assert "no releases" in steersman("releases", "-a", "shop/none", **place).stdout


def test_case_4_a_reader_starts_nothing(shop: Works) -> None:
    """403, no execution; nor does it cancel or retry one."""
    build = shop.declare("c4", **shop.released("c4", build="echo 1"))
    refused(shop["rita"].post(f"{build.path}/trigger-build"), 403, "forbidden")
    refused(shop["nobody"].post(f"{build.path}/trigger-build"), 404, "not-found")
    refused(shop["wendy"].post(f"{build.path}-none/trigger-build"), 404, "not-found")
    assert shop["rita"].get(f"{build.path}/executions/").json() == []
    execution = build.run()["id"]
    for verb in ("cancel", "retry", "logs"):
        refused(build.post(execution, verb, "rita", json={}), 403, "forbidden")
    assert len(shop["rita"].get(f"{build.path}/executions/").json()) == 1


def test_case_13_a_get_of_a_webhook_starts_nothing(shop: Works) -> None:
    """405 with `Allow`, and no execution."""
    build = shop.declare("c13", **shop.released("c13", build="echo 1"))
    answer = shop["wendy"].get(f"{DEV}/builds/webhook/{code_of(build)}")
    refused(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]
    assert shop["rita"].get(f"{build.path}/executions/").json() == []


def test_a_start_is_what_it_says_or_is_refused(shop: Works) -> None:
    """Branch, commit, variables, steps, only what changed, why (BD8)."""
    steps = [{"variables": {"level": "declared"}}, {"run_build": False, "run_deploy": False}]
    fields = shop.released("start", build='echo "level $INPUT_level"')
    fields["release"]["inputs"] = [{"id": "level", "default": "none"}]
    build = shop.declare("start", steps=steps, **fields)
    main = shop.code.head()
    shop.code.git("checkout", "-q", "-b", "other")
    other = shop.code.commit({"other.c": "int other;\n"})
    shop.code.git("checkout", "-q", "main")
    found = build.run(branch="other", variables={"level": "asked"}, steps=[0], reason="to see")
    assert (found["branch"], found["commit"]["git_revision"]) == ("other", other)
    assert found["trigger"]["reason"] == "to see"
    assert found["releases"] == ["shop/start-v1.0.0"]
    assert found["commit"]["revision_author"] == "Alice <alice@example.org>"
    assert build.run(commit=main[:7], steps=[0])["commit"]["git_revision"] == main
    for body in (
        {"branch": "--upload-pack=x"},
        {"branch": "none"},
        {"branch": 3},
        {"commit": "abc"},
        {"commit": "z" * 40},
        {"commit": "d" * 40},
        {"branch": "main", "commit": other},
        {"variables": []},
        {"variables": {"level": 3}},
        {"steps": [2]},
        {"steps": []},
        {"steps": ["0"]},
        {"only_changed": "yes"},
        {"reason": 3},
    ):
        refused(shop["wendy"].post(f"{build.path}/trigger-build", json=body), 400, "invalid-field")
    refused(shop["wendy"].post(f"{build.path}/trigger-build", content=b"["), 400, "invalid-json")
    assert len(shop["rita"].get(f"{build.path}/executions/").json()) == 2
    key = {"Idempotency-Key": "once"}
    same = [shop["wendy"].post(f"{build.path}/trigger-build", json={}, headers=key).json() for _ in range(2)]
    assert same[0] == same[1]


def test_case_34_a_read_only_server_still_builds(tmp_path: Path) -> None:
    """PUT of a build: 409; trigger-build: 200."""
    with works(tmp_path, STEERSMAN_WRITE_MODE="read-only") as shop:
        build = shop.declare("c34", **shop.released("c34", build="echo 1"))
        body = shop["wendy"].get(build.path + "/").json() | {"branch": "x"}
        refused(shop["wendy"].put(build.path + "/", json=body), 409, "git-read-only")
        assert build.run()["status"] == "ok"


def test_case_39_a_plan_outside_of_the_checkout(shop: Works) -> None:
    """Through a link in the repository: the step fails, nothing of the file is told."""
    link = shop.code.path / "escape.yml"
    link.symlink_to("/etc/passwd")
    shop.code.commit()
    build = shop.declare("c39", **shop.released("c39", build="echo 1"))
    try:
        found = build.run()
    finally:
        link.unlink()
        shop.code.commit()
    assert (found["status"], found["status_reason"]) == ("failed", "plan-outside-checkout")
    assert found["steps"][0]["status_reason"] == "plan-outside-checkout"
    assert not any("root:" in said for said in build.messages(found["id"]))


def test_case_41_a_build_deleted_in_git_while_it_runs(shop: Works) -> None:
    """It ends normally; the build is 404, the execution is not, nor is its log."""
    build = shop.declare("c41", **shop.released("c41", build=SLOW))
    execution = build.trigger()
    build.when(execution, "running")
    shop.commit({"builds/dev-c41.yaml": None})
    assert shop["rita"].get(build.path + "/").status_code == 404
    assert build.when(execution, "ok", "failed")["status"] == "ok"
    assert "over" in build.messages(execution)
    assert shop["rita"].get(f"{build.path}/executions/").status_code == 404
    assert shop["nobody"].get(f"{build.path}/executions/{execution}/").status_code == 404
    listed = shop["rita"].get("/api/v1/builds/executions/", params={"name": "c41"}).json()
    assert [item["id"] for item in listed] == [execution]
