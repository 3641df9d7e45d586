"""The numbered edge cases of the contract about pipelines that run nothing themselves (escape-state, 17)."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import databases
from tests.api.escape.conftest import FILES, World, document, refused
from tests.api.escape.pipelining import (
    ASK,
    ENDED,
    PIPELINES,
    SECONDS,
    add,
    asking,
    of,
    phases,
    resource,
    run_of,
    step_of,
    trigger,
    unique,
    until,
)
from tests.support import Process, SpecRepository, eventually_now, start, stop


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A pipeline's name for each test: runs, and their numbers, outlive a pipeline."""
    return unique(request.node.name)


def test_case_104_what_a_step_needs_and_may_have(world: World, name: str) -> None:
    """A deploy step without environment: 400, the field named; an empty webhook_url is fine, another one is not."""
    before = world.commits()
    deploy = {"type": "deploy", "deployment": "shop/web"}
    body = {"name": name, "phases": phases([deploy])}
    found = refused(world["wendy"].post(f"{PIPELINES}/add", json=body), 400, "invalid-field")
    assert found["fields"].keys() == {"phases[0].steps[0].environment"}
    assert world.commits() == before
    deploy = {**deploy, "environment": "dev", "webhook_url": "https://example.org/hook"}
    body = {"name": name, "phases": phases([deploy])}
    found = refused(world["wendy"].post(f"{PIPELINES}/add", json=body), 400, "invalid-field")
    assert found["fields"].keys() == {"phases[0].steps[0].webhook_url"}
    deploy = {**deploy, "webhook_url": "", "errand_inputs": {}, "ignore_failure": False, "status": "ok"}
    made = add(world, name, [deploy])
    assert world.commits() == before + 1
    assert step_of({"pipeline": made}) == {
        "type": "deploy",
        "name": "deploy shop/web",
        "environment": "dev",
        "deployment": "shop/web",
        "update_version": "dont-update",
        "ignore_failure": False,
        "trigger_pipeline_on_deploy": False,
        "status": "new",
    }
    text = world.text(f"projects/shop/pipelines/{name}.yaml")
    assert "webhook_url" not in text
    assert "status" not in text
    assert made["status"] == "new"
    assert made["phases"][0]["status"] == "new"


def test_what_get_gave_put_back(world: World, name: str) -> None:
    """No commit; also of steps with and without names, and where fields of ours are left out."""
    steps = [ASK, {**ASK, "timeout_seconds": 60, "allow_self_approval": False}, {**ASK, "name": "sure?"}]
    made = add(world, name, steps, triggers=[{}], concurrency="allow", timeout_seconds=99)
    before = world.commits()
    got = world["wendy"].get(f"{of(name)}/").json()
    assert got == made
    answer = world["wendy"].put(f"{of(name)}/", json=got)
    assert (answer.status_code, "x-steersman-commit" in answer.headers) == (200, False), answer.text
    for step in got["phases"][0]["steps"]:
        for field in ("timeout_seconds", "allow_self_approval"):
            step.pop(field, None)
    for field in ("concurrency", "timeout_seconds", "schedules", "service_account_team"):
        del got[field]
    answer = world["wendy"].put(f"{of(name)}/", json=got)
    assert (answer.status_code, answer.json()) == (200, made), answer.text
    assert world.commits() == before
    answer = world["wendy"].put(f"{of(name)}/", json={**got, "concurrency": None})
    assert answer.json()["concurrency"] == "queue"
    assert world.commits() == before + 1
    stale = {"If-Match": '"old"'}
    refused(world["wendy"].put(f"{of(name)}/", json=got, headers=stale), 412, "stale")
    refused(world["wendy"].put(f"{of(name)}/", json={**got, "name": "x"}), 400, "name-mismatch")
    refused(world["wendy"].post(f"{PIPELINES}/add", json={"name": name}), 409, "already-exists")
    rita = world["rita"].get(f"{of(name)}/").json()
    assert (rita["triggers"][0]["webhooktoken"], rita["webhook_secret"], rita["permission"]) == (
        "",
        "",
        "read",
    )
    assert world["rita"].get("/api/v1/pipelines/").json() == [rita]
    assert world["rita"].get(f"{PIPELINES}/").json() == [rita]
    assert world["nobody"].get("/api/v1/pipelines/").json() == []


def test_case_105_runs_are_numbered_and_queue(world: World, name: str) -> None:
    """Three triggers are runs 1, 2, 3; each begins when the one before it has ended."""
    add(world, name, [ASK])
    ids = [trigger(world, name, reason=f"r{number}") for number in range(3)]
    runs = [run_of(world, name, each) for each in ids]
    assert [run["run_nr"] for run in runs] == [1, 2, 3]
    assert sorted(ids) == ids
    assert runs[0]["trigger"] == {"type": "manual", "user": "wendy", "reason": "r0"}
    first = asking(world, name, ids[0])
    second = run_of(world, name, ids[1])
    assert (second["status"], "started_at" in second, step_of(second)["status"]) == (
        "pending",
        False,
        "queued",
    )
    assert world["rita"].get(f"{first}/approve").json()["status"] == "ok"
    asking(world, name, ids[1])
    assert "started_at" not in run_of(world, name, ids[2])
    listed = world["rita"].get(f"{of(name)}/executions/?page_size=2")
    assert [run["id"] for run in listed.json()] == [ids[2], ids[1]]
    after = {"page_from": listed.headers["x-next-page-from"], "page_size": "2", "name": name}
    rest = world["rita"].get(f"{PIPELINES}/executions/", params=after)
    assert [run["id"] for run in rest.json()] == [ids[0]]
    assert "x-next-page-from" not in rest.headers
    waiting = world["rita"].get("/api/v1/pipelines/executions/", params={"status": "pending", "name": name})
    assert [run["run_nr"] for run in waiting.json()] == [3, 2]
    for wrong in ({"page_size": "0"}, {"page_size": "x"}, {"page_from": "x"}, {"status": "new"}):
        refused(world["rita"].get("/api/v1/pipelines/executions/", params=wrong), 400, "invalid-page")
    assert world["nobody"].get("/api/v1/pipelines/executions/").json() == []


def test_a_newer_run_replaces_those_that_wait_and_others_run_beside(world: World) -> None:
    """`replace` and `allow`."""
    add(world, "newest", [ASK], concurrency="replace")
    ids = [trigger(world, "newest") for _ in range(2)]
    over = until(world, "newest", ids[0], *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "superseded")
    asking(world, "newest", ids[1])
    add(world, "both", [ASK], concurrency="allow")
    for each in [trigger(world, "both") for _ in range(2)]:
        asking(world, "both", each)


def test_case_106_a_pipeline_without_phases(world: World) -> None:
    """Its run is ok."""
    add(world, "empty")
    run = run_of(world, "empty", trigger(world, "empty"))
    assert (run["status"], run["pipeline"]["phases"]) == ("ok", [])
    shown = world["rita"].get(f"{of('empty')}/").json()
    assert shown["status"] == "ok"
    status = eventually_now(
        lambda: (found := resource(world, "Pipeline/shop/empty"))["health"] == "Healthy" and found
    )
    assert status["sync"] == "Synced"


def test_case_110_who_decides(world: World, name: str) -> None:
    """A non-member 403, a member 200, again 200, then the opposite 409."""
    add(world, name, [{"type": "confirmation", "team": "ops"}])
    execution = trigger(world, name)
    here = asking(world, name, execution)
    assert step_of(run_of(world, name, execution, "wendy"))["confirmation"].keys() == {
        "requested_at",
        "expires_at",
        "team",
    }
    refused(world["wendy"].get(f"{here}/approve"), 403, "forbidden")
    refused(world["nobody"].get(f"{here}/approve"), 404, "not-found")
    assert run_of(world, name, execution)["status"] == "pending"
    why = world.admin.get(f"/reconciler/why/Pipeline/shop/{name}", headers=world.native).json()
    assert [cause["reason"] for cause in why["causes"]] == ["AwaitsConfirmation"]
    assert "team ops" in why["causes"][0]["message"]
    approved = world["rita"].get(f"{here}/approve", params={"comment": "fine"})
    assert (approved.status_code, approved.json()["status"]) == (200, "ok")
    decided = step_of(approved.json())["confirmation"]
    assert (decided["decision"], decided["by"], decided["comment"]) == ("approve", "User/rita", "fine")
    assert "code" not in decided
    again = world["rita"].post(f"{here}/approve")
    assert (again.status_code, again.json()) == (200, approved.json())
    refused(world["alice"].post(f"{here}/disapprove"), 409, "already-decided")
    events = world.admin.get(f"/reconciler/events?key=Pipeline/shop/{name}", headers=world.native).json()
    kinds = [event["kind"] for event in events["items"]]
    for kind in ("run-created", "confirmation-requested", "step-decided", "run-finished"):
        assert f"pipeline-{kind}" in kinds


def test_who_started_a_run_may_be_kept_from_deciding(world: World, name: str) -> None:
    """By allow_self_approval; without user and team it takes write."""
    add(world, name, [{"type": "confirmation", "allow_self_approval": False}])
    execution = trigger(world, name, "alice")
    here = asking(world, name, execution, "wendy")
    for who in ("alice", "rita"):
        refused(world[who].post(f"{here}/approve"), 403, "forbidden")
    assert world["wendy"].post(f"{here}/approve", json={"comment": "x"}).json()["status"] == "ok"


def test_case_111_a_look_decides_nothing(world: World, name: str) -> None:
    """HEAD, a browser, a prefetch, a cookie alone; the page's buttons POST."""
    add(world, name, [ASK], [{"type": "confirmation", "team": "ops", "name": "<b>last</b>"}])
    execution = trigger(world, name)
    here = asking(world, name, execution)
    rita = world["rita"]
    head = rita.head(f"{here}/approve")
    assert (head.status_code, head.content) == (200, b"")
    page = rita.get(f"{here}/approve", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert f'action="{here}/approve"' in page.text
    assert f'formaction="{here}/disapprove"' in page.text
    assert "&lt;b&gt;last&lt;/b&gt;" in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "same-origin"
    for early in ({"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}):
        assert rita.get(f"{here}/approve", headers=early).status_code == 200
    cookie = {"X-Escape-Token": world.secrets["rita"]}
    with httpx.Client(base_url=world.url, cookies=cookie, timeout=60) as browser:
        by_cookie = browser.get(f"{here}/approve?confirm=1", headers={"Accept": "application/json"})
        assert (by_cookie.status_code, "<form" in by_cookie.text) == (200, True)
        assert step_of(run_of(world, name, execution))["status"] == "pending"
        form = {"Accept": "text/html", "Origin": world.url}
        assert browser.post(f"{here}/approve", headers={"Accept": "text/html"}).status_code == 403
        done = browser.post(f"{here}/approve", data={"comment": "go <on>"}, headers=form)
    assert (done.status_code, "was approved" in done.text) == (200, True)
    assert "go &lt;on&gt;" in done.text
    assert "<form" not in done.text
    step = step_of(run_of(world, name, execution))
    assert (step["status"], step["confirmation"]["comment"]) == ("ok", "go <on>")
    second = asking(world, name, execution, phase=1)
    html = {"Accept": "text/html"}
    assert rita.get(f"{second}/disapprove?confirm=1", headers=html).status_code == 200
    over = until(world, name, execution, *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "disapproved")


def test_case_112_codes_of_others_and_after_the_end(world: World, name: str) -> None:
    """404 with the code of another run; 409 after a cancel."""
    add(world, name, [ASK], [ASK], concurrency="allow")
    first, second = trigger(world, name), trigger(world, name)
    here, there = asking(world, name, first), asking(world, name, second)
    code = there.rpartition("/")[2]
    for wrong in (f"{here.rpartition('/')[0]}/{code}", f"{here}x", here.replace(first, second)):
        refused(world["rita"].get(f"{wrong}/approve"), 404, "not-found")
    refused(world["rita"].post(f"{of(name)}/executions/{first}/cancel"), 403, "forbidden")
    cancelled = world["wendy"].post(f"{of(name)}/executions/{first}/cancel", json={"reason": "no"})
    assert (cancelled.status_code, cancelled.content) == (200, b"")
    run = run_of(world, name, first)
    assert (run["status"], run["status_reason"], run["cancel_requested"]) == ("failed", "cancelled", True)
    states = [
        (step["status"], step["status_reason"]) for p in run["pipeline"]["phases"] for step in p["steps"]
    ]
    assert states == [("failed", "cancelled")] * 2
    refused(world["rita"].get(f"{here}/approve"), 409, "already-finished")
    refused(world["wendy"].post(f"{of(name)}/executions/{first}/cancel"), 409, "already-finished")
    refused(world["wendy"].post(f"{of(name)}/executions/{second}/retry"), 409, "not-finished")
    made = world["wendy"].post(f"{of(name)}/executions/{first}/retry").json()["id"]
    again = run_of(world, name, made)
    assert (again["run_nr"], again["trigger"]["retry_of"]) == (3, first)
    assert asking(world, name, made) != here


def test_case_113_a_no_cannot_be_ignored(world: World, name: str) -> None:
    """400 at the definition; declared in Git it is invalid, and the run of what was good before ends disapproved."""
    body = {"name": name, "phases": phases([{**ASK, "ignore_failure": True}])}
    found = refused(world["wendy"].post(f"{PIPELINES}/add", json=body), 400, "invalid-field")
    assert "ignore_failure" in str(found)
    add(world, name, [ASK])
    execution = trigger(world, name)
    text = world.text(f"projects/shop/pipelines/{name}.yaml")
    forced = text.replace("user: rita", "user: rita\n          ignore_failure: true")
    world.commit({f"projects/shop/pipelines/{name}.yaml": forced})
    refused(world["wendy"].post(f"{of(name)}/trigger"), 409, "spec-invalid")
    here = asking(world, name, execution)
    assert world["rita"].post(f"{here}/disapprove").status_code == 200
    over = until(world, name, execution, *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "disapproved")


def test_case_115_two_that_wait_for_each_other(world: World) -> None:
    """failed/pipeline-cycle on both, no deadlock; one that does not wait goes on for ten."""
    there = {"type": "pipeline-trigger", "wait_for_pipeline": True}
    add(world, "b")
    add(world, "a", [{**there, "pipeline": "b"}])
    body = {"phases": phases([{**there, "pipeline": "a"}])}
    assert world["wendy"].put(f"{of('b')}/", json=body).status_code == 200
    execution = trigger(world, "a", payload={"x": 1})
    over = until(world, "a", execution, *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "pipeline-cycle")
    child = step_of(over)["pipeline_execution_id"]
    run = run_of(world, "b", child)
    assert (run["status"], run["status_reason"], run["payload"]) == ("failed", "pipeline-cycle", {"x": 1})
    assert run["trigger"] == {"type": "pipeline", "user": "wendy", "pipeline_execution_id": execution}
    assert step_of(run)["status_reason"] == "pipeline-cycle"
    refused(world["wendy"].delete(f"{of('b')}/"), 409, "in-use")
    refused(world["wendy"].delete(f"{of('b')}/?force=true"), 409, "in-use")
    add(world, "loop")
    onward = {"type": "pipeline-trigger", "pipeline": "loop"}
    world["wendy"].put(f"{of('loop')}/", json={"phases": phases([onward])}).raise_for_status()
    trigger(world, "loop")
    eventually_now(lambda: len(world["rita"].get(f"{of('loop')}/executions/").json()) == 10)
    last = world["rita"].get(f"{of('loop')}/executions/").json()[0]
    last = until(world, "loop", last["id"], *ENDED)
    assert (last["status"], last["status_reason"]) == ("failed", "chain-too-long")


def test_a_run_waits_for_the_one_it_started(world: World) -> None:
    """And ends as that does; a cancel reaches it."""
    add(world, "inner", [ASK])
    add(world, "outer", [{"type": "pipeline-trigger", "pipeline": "inner", "wait_for_pipeline": True}])
    execution = trigger(world, "outer")
    child = eventually_now(lambda: step_of(run_of(world, "outer", execution)).get("pipeline_execution_id"))
    here = asking(world, "inner", child)
    assert run_of(world, "outer", execution)["status"] == "pending"
    assert world["rita"].post(f"{here}/approve").status_code == 200
    assert until(world, "outer", execution, *ENDED)["status"] == "ok"
    execution = trigger(world, "outer")
    child = eventually_now(lambda: step_of(run_of(world, "outer", execution)).get("pipeline_execution_id"))
    asking(world, "inner", child)
    world["wendy"].post(f"{of('outer')}/executions/{execution}/cancel").raise_for_status()
    assert until(world, "inner", child, *ENDED)["status_reason"] == "cancelled"
    assert until(world, "outer", execution, *ENDED)["status_reason"] == "cancelled"


@pytest.mark.parametrize("tag", ["latest", "1.2", "@", "v1.2.@"])
def test_case_119_tags_that_mean_versions(world: World, tag: str) -> None:
    """400, no commit."""
    before = world.commits()
    step = {"type": "tag-release", "namespace": "shop", "application": "web", "tag": tag}
    found = refused(
        world["wendy"].post(f"{PIPELINES}/add", json={"name": "t", "phases": phases([step])}),
        400,
        "invalid-field",
    )
    assert "tag" in str(found)
    assert world.commits() == before


def test_a_tag_needs_a_release(world: World, name: str) -> None:
    """failed/no-such-release where the run has published none."""
    step = {"type": "tag-release", "namespace": "shop", "application": "web", "tag": "production"}
    add(world, "tags", [step])
    over = until(world, "tags", trigger(world, "tags"), *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "no-such-release")


def test_case_120_inside_addresses_are_refused(world: World) -> None:
    """Unless the operator allows them."""
    add(world, "call", [{"type": "webhook-trigger", "webhook_url": "http://127.0.0.1:9/"}])
    over = until(world, "call", trigger(world, "call"), *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "webhook-failed")
    assert "private_addresses" in step_of(over)["message"]


def test_case_121_codes_die_with_their_trigger(world: World, name: str) -> None:
    """A run by the code, as the service account; 404 once the trigger was replaced; 409 without an account."""
    made = add(world, name, [ASK], triggers=[{"type": "webhook"}])
    (hook,) = made["triggers"]
    address = f"{PIPELINES}/pipelines/webhook/{hook['webhooktoken']}"
    told = {"Accept": "application/json"}
    refused(httpx.post(world.url + address, headers=told), 409, "no-identity")
    body = {**made, "service_account_name": "deployer", "service_account_team": "platform"}
    refused(world["wendy"].put(f"{of(name)}/", json=body), 403, "forbidden")
    assert world["alice"].put(f"{of(name)}/", json=body).status_code == 200
    answer = httpx.post(world.url + address, json={"from": "outside"}, headers=told)
    assert answer.status_code == 200, answer.text
    run = run_of(world, name, answer.json()["id"])
    assert (run["trigger"]["type"], run["payload"]) == ("webhook", {"from": "outside"})
    refused(httpx.get(world.url + address, headers=told), 405, "method-not-allowed")
    other = address.replace("/shop/", "/tools/")
    refused(httpx.post(world.url + other, headers=told), 404, "not-found")
    refused(httpx.post(world.url + address, content=b"{", headers=told), 400, "invalid-json")
    refused(httpx.post(world.url + address, content=b" " * 65_537, headers=told), 413, "too-large")
    off = world["alice"].put(f"{of(name)}/", json={**body, "disabled": True})
    assert off.json()["triggers"] == [hook]
    refused(httpx.post(world.url + address, headers=told), 409, "disabled")
    refused(world["wendy"].post(f"{of(name)}/trigger"), 409, "disabled")
    replaced = world["alice"].put(f"{of(name)}/", json={**body, "triggers": [{"type": "webhook"}]})
    assert replaced.json()["triggers"][0]["id"] != hook["id"]
    refused(httpx.post(world.url + address, headers=told), 404, "not-found")
    wrong = {**body, "triggers": [{"id": hook["id"]}]}
    refused(world["alice"].put(f"{of(name)}/", json=wrong), 400, "invalid-field")


def test_case_122_runs_keep_what_they_began_with(world: World, name: str) -> None:
    """A PUT in between changes the next run only."""
    add(world, name, [ASK], [{**ASK, "name": "second"}])
    execution = trigger(world, name)
    here = asking(world, name, execution)
    world["wendy"].put(f"{of(name)}/", json={"phases": phases([ASK])}).raise_for_status()
    refused(world["wendy"].delete(f"{of(name)}/"), 409, "in-use")
    assert world["rita"].post(f"{here}/approve").json()["status"] == "pending"
    second = asking(world, name, execution, phase=1)
    assert world["rita"].post(f"{second}/approve").json()["status"] == "ok"
    assert len(run_of(world, name, execution)["pipeline"]["phases"]) == 2
    assert len(run_of(world, name, trigger(world, name))["pipeline"]["phases"]) == 1


def test_a_deleted_pipeline_leaves_its_runs(world: World, name: str) -> None:
    """By force what is active is cancelled; the page of the run stays."""
    add(world, name, [ASK])
    ids = [trigger(world, name), trigger(world, name)]
    asking(world, name, ids[0])
    before = world.commits()
    refused(world["rita"].delete(f"{of(name)}/?force=true"), 403, "forbidden")
    gone = world["wendy"].delete(f"{of(name)}/?force=true")
    assert (gone.status_code, gone.content, world.commits()) == (200, b"", before + 1)
    refused(world["rita"].get(f"{of(name)}/"), 404, "not-found")
    for each in ids:
        assert until(world, name, each, *ENDED)["status_reason"] == "cancelled"


def test_steps_act_with_somebodys_rights(world: World) -> None:
    """permission-denied where whoever the run acts as may not write."""
    step = {"type": "pipeline-trigger", "pipeline": "inner"}
    add(world, "inner")
    made = add(world, "outer", [step])
    body = {**made, "service_account_name": "deployer", "service_account_team": "platform"}
    assert world["alice"].put(f"{of('outer')}/", json=body).status_code == 200
    over = until(world, "outer", trigger(world, "outer"), *ENDED)
    assert (over["status"], over["status_reason"]) == ("failed", "permission-denied")
    assert "ServiceAccount/platform/deployer" in step_of(over)["message"]


def test_rights_are_those_of_now_and_of_the_token(world: World, name: str) -> None:
    """An owner may deploy where it is protected, by a token that may do so; a writer may not."""
    world.commit(
        {
            "none.yaml": document(
                "Deployment", "name: shop/none, project: shop, environment: prod", "{reconcile: manual}"
            )
        }
    )
    add(
        world,
        name,
        [{"type": "deploy", "environment": "prod", "deployment": "shop/none"}],
        concurrency="allow",
    )
    narrow = world.client(world.token("User/alice", level="write", project="shop"))
    with narrow:
        by_token = narrow.post(f"{of(name)}/trigger").json()["id"]
    for execution, reason in (
        (by_token, "permission-denied"),
        (trigger(world, name, "wendy"), "permission-denied"),
        (trigger(world, name, "alice"), "dependency-failed"),
    ):
        assert until(world, name, execution, *ENDED)["status_reason"] == reason
    told = step_of(run_of(world, name, by_token))["message"]
    assert "User/alice has the role write on environment shop/prod" in told


def test_who_is_named_decides_without_any_other_role(world: World, name: str) -> None:
    """By the code alone; a token that may only read is not they."""
    add(world, name, [{"type": "confirmation", "user": "pia"}])
    execution = trigger(world, name)
    here = asking(world, name, execution, "admin")
    refused(world["pia"].get(f"{of(name)}/executions/{execution}/"), 404, "not-found")
    with world.client(world.token("User/pia", level="read")) as reader:
        refused(reader.post(f"{here}/approve"), 404, "not-found")
    assert world["pia"].post(f"{here}/approve").json()["status"] == "ok"


RESTARTED = {
    **FILES,
    "pipelines.yaml": "---\n".join(
        [
            document(
                "Pipeline",
                "name: short, project: shop",
                "{phases: [{name: p, steps: [{type: confirmation, timeout_seconds: 2}]}]}",
            ),
            document(
                "Pipeline",
                "name: long, project: shop",
                "{phases: [{name: p, steps: [{type: confirmation, user: rita}]}]}",
            ),
            document(
                "Pipeline",
                "name: call, project: shop",
                "{phases: [{name: p, steps: [{type: webhook-trigger, webhook_url: 'URL'}]}]}",
            ),
        ]
    ),
}


class Receiver(BaseHTTPRequestHandler):
    """Takes every call; the first one never gets an answer in time."""

    calls: list[tuple[dict[str, str], bytes]] = []

    def do_POST(self) -> None:
        """Remember it."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.calls.append((dict(self.headers.items()), body))
        if len(self.calls) == 1:
            time.sleep(3)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    """The address of one."""
    Receiver.calls = []
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()
    thread.join()


def test_case_114_a_restart_changes_nothing(tmp_path: Path, receiver: str) -> None:
    """A deadline that passed meanwhile: confirmation-timeout; a code of before still decides; a call that was under way
    is made again under the same key (case 120, where it is allowed).
    """
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({name: text.replace("URL", receiver) for name, text in RESTARTED.items()})
    allowed = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_PRIVATE_ADDRESSES": "1"}
    running = start(repo.path, tmp_path / "data", **allowed)
    try:
        with _world(running, repo) as world:
            short, long, call = (trigger(world, name) for name in ("short", "long", "call"))
            here = asking(world, "long", long)
            eventually_now(lambda: Receiver.calls, SECONDS)
        running.kill()
        time.sleep(2)
        running = start(repo.path, tmp_path / "data", **allowed)
        with _world(running, repo) as world:
            over = until(world, "short", short, *ENDED)
            assert (over["status"], over["status_reason"]) == ("failed", "confirmation-timeout")
            assert world["rita"].post(f"{here}/approve").json()["status"] == "ok"
            assert until(world, "call", call, *ENDED)["status"] == "ok"
            secret = world["wendy"].get(f"{of('call')}/").json()["webhook_secret"]
    finally:
        stop(running)
    assert len(Receiver.calls) == 2
    assert len({headers["Idempotency-Key"] for headers, _ in Receiver.calls}) == 1
    for headers, body in Receiver.calls:
        mark = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Steersman-Signature"] == f"sha256={mark}"
        assert json.loads(body) == {
            "project": "shop",
            "pipeline": "call",
            "run_nr": 1,
            "pipeline_execution_id": call,
            "phase": "p",
            "step": f"webhook-trigger {httpx.URL(receiver).host}",
            "releases": [],
            "payload": None,
        }


@contextmanager
def _world(running: Process, repo: SpecRepository) -> Iterator[World]:
    running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
    world = World(running, repo)
    with ExitStack() as stack:
        for client in (world.admin, *world.clients.values()):
            stack.callback(client.close)
        yield world


POISON = {
    "large": b'{"payload": {"n": 123456789012345678901234567890, "f": 1e400}}',
    "nul": b'{"payload": "a\\u0000b", "reason": "a\\u0000b"}',
    "surrogate": b'{"payload": "\\ud800"}',
    "deep": b'{"payload": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "type": b'{"reason": 5}',
    "list": b"[1]",
    "text": b"hello",
    "bytes": b'{"payload": "\xff"}',
}


@pytest.mark.parametrize("kind", POISON)
def test_poisoned_bodies(world: World, name: str, kind: str) -> None:
    """Are kept as they are, or refused; a look at the run shows what is kept."""
    add(world, name, triggers=[{}], schedules=[{"cron": "@daily"}])
    answer = world["wendy"].post(f"{of(name)}/trigger", content=POISON[kind])
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        run = run_of(world, name, answer.json()["id"])
        assert run["payload"] is not None
    here = f"{of(name)}/executions/{'0' * 26}"
    for path in (f"{here}/cancel", f"{here}/retry", f"{here}/confirmation/{'x' * 43}/approve"):
        refused(world["wendy"].post(path, content=POISON[kind]), 404, "not-found")
    for body in (POISON[kind], b'{"phases": 5}', b'{"phases": [5]}', b'{"phases": [{"steps": {}}]}',
                 b'{"phases": [{"name": "p", "steps": [{"type": "x"}]}]}', b'{"triggers": [5]}', b'{"schedules": [{}]}',
                 b'{"timeout_seconds": -1}', b'{"concurrency": "some"}'):  # fmt: skip
        answer = world["wendy"].put(f"{of(name)}/", content=body)
        assert answer.status_code in (200, 400), answer.text


def nested(levels: int) -> str:
    """So many lists in each other, in JSON."""
    return "[" * levels + "]" * levels


def test_a_payload_that_is_taken_can_be_shown(world: World, name: str) -> None:
    """What is nested too deeply to be shown again is refused, by a trigger and by a webhook's code."""
    made = add(world, name, [ASK], triggers=[{"type": "webhook"}])
    body = {**made, "service_account_name": "deployer", "service_account_team": "platform"}
    assert world["alice"].put(f"{of(name)}/", json=body).status_code == 200
    hook = f"{PIPELINES}/pipelines/webhook/{made['triggers'][0]['webhooktoken']}"
    wendy, by_hand = world["wendy"], f"{of(name)}/trigger"
    for levels in (100, 955, 20_000):
        refused(wendy.post(by_hand, content=f'{{"payload": {nested(levels)}}}'), 400, "invalid-json")
        refused(wendy.post(hook, content=nested(levels + 1)), 400, "invalid-json")
    taken = {}
    for path, payload, content in (
        (by_hand, nested(99), f'{{"payload": {nested(99)}}}'),
        (hook, nested(100), nested(100)),
    ):
        taken[wendy.post(path, content=content).raise_for_status().json()["id"]] = json.loads(payload)
    for id, payload in taken.items():
        assert run_of(world, name, id)["payload"] == payload
    listed = world["rita"].get(f"{PIPELINES}/executions/", params={"name": name})
    assert listed.status_code == 200, listed.text
    assert {each["id"] for each in listed.json()} == taken.keys()
    here = asking(world, name, next(iter(taken)))
    refused(world["rita"].post(f"{here}/approve", content=nested(101)), 400, "invalid-json")


def test_odd_parameters(world: World, name: str) -> None:
    """400 or nothing found, never a fault of ours."""
    add(world, name, [ASK])
    execution = trigger(world, name)
    here = asking(world, name, execution)
    for odd in ("%00", "%FF", "..%2F..", "%F0%9F%92%A9", "' OR 1=1"):
        for path in (
            f"{PIPELINES}/by-name/{odd}/",
            f"{of(name)}/executions/{odd}/",
            f"{here.rpartition('/')[0]}/{odd}/approve",
            f"{PIPELINES}/executions/?name={odd}",
            f"{PIPELINES}/executions/?page_from={odd}",
            f"{PIPELINES}/executions/?page_size={odd}",
        ):
            assert world["rita"].get(path).status_code in (200, 400, 404), path
        answer = httpx.post(f"{world.url}{PIPELINES}/pipelines/webhook/{odd}")
        assert answer.status_code in (400, 404), odd
    assert world["rita"].post(f"{here}/approve?comment={'x' * 3000}").status_code == 400
    # SQLite holds NUL, PostgreSQL does not
    answer = world["rita"].post(f"{here}/approve", content=b'{"comment": "a\\u0000b"}')
    assert answer.status_code == (200 if databases.chosen_for(world.running.data) is None else 400)
