"""Numbered cases 28 to 38 of the contract (sqedule, 11): versions, proposals, rules that people decide, credentials."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tests import databases
from tests.api.sqedule.conftest import SCHEDULE, Restarted, World, refused

MANUAL = {"type": "manual", "approval_policy": "any"}


def test_case_28_creating(world: World) -> None:
    """Not abandoned, and not what is there in whatever case."""
    body: dict[str, Any] = {"id": world.name(), "version": {"proposal_state": "abandon"}}
    refused(world["ana"].post("/v1/applications", json=body), 400)
    assert refused(world["ana"].get(f"/v1/applications/{body['id']}"), 404) == "application not found"
    for step in ("draft", "final"):
        there = world.application(step)
        for again in ("draft", "final"):
            body = {"id": there.upper(), "version": {"proposal_state": again}}
            refused(world["ana"].post("/v1/applications", json=body), 400)
    for wrong in ({"version": {}}, {"id": "x"}, {"id": "", "version": {}}, {"id": "a/b", "version": {}}):
        refused(world["ana"].post("/v1/applications", json=wrong), 400)


def test_case_29_a_draft_is_not_in_force(world: World) -> None:
    """What is in force is shown; the draft is among the proposals."""
    application = world.application(display_name="A")
    path = f"/applications/{application}"
    made = world.ask("PATCH", path, {"version": {"display_name": "B"}}, expect=200)
    version = made["version"]
    assert (version["version_state"], version["proposal_state"]) == ("proposal", "draft")
    assert (version["version_number"], version["approved_at"]) == (None, None)
    found = world.get(path)
    assert found["latest_approved_version"]["display_name"] == "A"
    proposals = world.get(f"{path}/proposals")["items"]
    assert [(each["id"], each["display_name"]) for each in proposals] == [(version["id"], "B")]
    assert world.get(f"{path}/proposals/{version['id']}")["version"] == version
    assert "display_name: A" in world.declared(f"installation/Application/{application}.yaml")


def test_case_30_a_final_proposal_is_a_commit(world: World) -> None:
    """It becomes the next version, under the same id, and is no proposal any more."""
    application = world.application()
    path = f"/applications/{application}"
    draft = world.ask("PATCH", path, {"version": {"display_name": "B"}}, expect=200)["version"]
    before = world.repo.git("rev-parse", "main")
    final = world.ask("PATCH", f"{path}/proposals/{draft['id']}", {"proposal_state": "final"}, expect=200)
    version = final["version"]
    assert (version["id"], version["version_number"], version["version_state"]) == (
        draft["id"],
        2,
        "approved",
    )
    assert version["approved_at"] is not None
    assert [each["version_number"] for each in world.get(f"{path}/versions")["items"]] == [2, 1]
    gone = f"/v1{path}/proposals/{draft['id']}"
    assert refused(world["ana"].get(gone), 404) == "application proposal not found"
    refused(world["ana"].patch(gone, json={}), 404)
    refused(world["ana"].delete(gone), 404)
    refused(world["ana"].put(f"{gone}/state", json={"state": "approved"}), 404)
    assert world.repo.git("rev-parse", "main~1") == before
    assert world.repo.git("log", "-1", "--format=%an <%ae>", "main") == "ana <ana@example.org>"
    changed = world.repo.git("diff", "--unified=0", "main~1", "main").splitlines()[5:]
    assert any(line.startswith("+") and "display_name: B" in line for line in changed)


def test_case_31_only_what_is_in_review_is_reviewed(world: World) -> None:
    """A draft is not; and there are two verdicts."""
    application = world.application()
    path = f"/applications/{application}"
    draft = world.ask("PATCH", path, {"version": {"display_name": "B"}}, expect=200)["version"]["id"]
    state = f"/v1{path}/proposals/{draft}/state"
    refused(world["jo"].put(state, json={"state": "approved"}), 422)
    for wrong in ({"state": "zz"}, {}, {"state": 1}):
        refused(world["jo"].put(state, json=wrong), 400)
    refused(world["jo"].put(f"/v1{path}/proposals/999999/state", json={"state": "approved"}), 404)


def test_case_32_of_two_in_review_one_is_approved(reviewing: World) -> None:
    """The other one is a draft again; a rejected one stays so. Approval is a commit to the branch itself."""
    world, name = reviewing, reviewing.name()
    body = {"id": name, "version": {"proposal_state": "final"}}
    made = world.ask("POST", "/applications", body, expect=201)["version"]
    assert (made["proposal_state"], made["version_number"]) == ("reviewing", None)
    listed = "--format=%(refname:short)"
    newest = world.repo.git("for-each-ref", "--sort=-refname", listed, "refs/heads/steersman").split()[0]
    assert "kind: Application" in world.repo.git("show", f"{newest}:installation/Application/{name}.yaml")
    path = f"/applications/{name}"
    refused(world["ana"].patch(f"/v1{path}/proposals/{made['id']}", json={"proposal_state": "final"}), 422)
    approve = {"state": "approved"}
    refused(world["ana"].put(f"/v1{path}/proposals/{made['id']}/state", json=approve), 401)
    done = world.ask("PUT", f"{path}/proposals/{made['id']}/state", approve, expect=200, by="jo")
    assert (done["version"]["id"], done["version"]["version_number"]) == (made["id"], 1)
    assert world.repo.git("log", "-1", "--format=%an", "main") == "jo"
    two = []
    for display in ("B", "C", "D"):
        given = {"version": {"display_name": display, "proposal_state": "final"}}
        two.append(world.ask("PATCH", path, given, expect=200)["version"])
    assert {each["proposal_state"] for each in two} == {"reviewing"}
    first, second, third = (f"{path}/proposals/{each['id']}" for each in two)
    rejected = world.ask("PUT", f"{third}/state", {"state": "rejected"}, expect=200, by="jo")
    assert rejected["version"]["proposal_state"] == "rejected"
    done = world.ask("PUT", f"{first}/state", approve, expect=200, by="jo")
    assert (done["version"]["version_number"], done["version"]["proposal_state"]) == (2, "approved")
    assert world.get(second)["version"]["proposal_state"] == "draft"
    assert world.get(third)["version"]["proposal_state"] == "rejected"
    assert world.get(path)["latest_approved_version"]["display_name"] == "B"
    assert "display_name: B" in world.declared(f"installation/Application/{name}.yaml")


def test_case_33_rules_get_new_ids(world: World) -> None:
    """With each adjustment, and with the version that comes of it."""
    ruleset = world.ruleset(proposal_state="draft")
    path = f"/approval-rulesets/{ruleset}"
    id = world.get(f"{path}/proposals")["items"][0]["id"]
    seen: list[int] = []
    for rules in ([SCHEDULE, MANUAL], [SCHEDULE, MANUAL], None):
        body = {} if rules is None else {"approval_rules": rules}
        found = world.ask("PATCH", f"{path}/proposals/{id}", body, expect=200)["version"]["approval_rules"]
        assert [each["type"] for each in found] == ["schedule", "manual"]
        seen += [each["id"] for each in found]
    final = world.ask("PATCH", f"{path}/proposals/{id}", {"proposal_state": "final"}, expect=200)["version"]
    seen += [each["id"] for each in final["approval_rules"]]
    assert len(set(seen)) == 8
    assert final["version_number"] == 1


def test_case_34_a_ruleset_that_is_only_a_draft(world: World) -> None:
    """It is listed, with nothing in force; so is an application in the list of releases."""
    draft, ruleset = world.ruleset(proposal_state="draft"), world.ruleset(SCHEDULE)
    application = world.judged_by((ruleset, "enforcing"))
    world.final(application)
    found = {each["id"]: each for each in world.get("/approval-rulesets?per_page=0")["items"]}
    assert (found[draft]["latest_approved_version"], found[draft]["num_bound_applications"]) == (None, 0)
    assert found[ruleset]["num_bound_applications"] == 1
    assert found[ruleset]["latest_approved_version"]["num_bound_releases"] == 1
    assert "approval_rules" not in found[ruleset]["latest_approved_version"]
    unapproved = world.application("draft")
    made = world.release(unapproved)
    listed = next(each for each in world.get("/releases")["items"] if each["id"] == made["id"])
    assert listed["application"]["latest_approved_version"] is None


def test_case_35_people_decide_a_manual_rule(restarted: Restarted) -> None:
    """It waits for them, also over a restart; who is not asked, who comes late or twice is told so."""
    world, path = restarted.world, restarted.waiting
    rule = restarted.rules[path]
    assert world.get(path, by="lee")["state"] == "pending"
    body = {"approval_rule_id": rule, "decision": "approved", "comments": "go"}

    def say(name: str, **more: Any) -> httpx.Response:
        return world[name].post(f"/v1{path}/manual-approvals", json=body | more)

    assert refused(say("lee"), 401).startswith("Unauthorized action")
    refused(say("ana", approval_rule_id=rule + 1000), 404)
    for wrong in ({"decision": "maybe"}, {"approval_rule_id": "x"}, {"comments": 3}, {"decision": None}):
        refused(say("ana", **wrong), 400)
    answer = say("ana")
    assert answer.status_code == 201
    assert answer.json() | {"created_at": ""} == {
        "approval_rule_id": rule,
        "decision": "approved",
        "comments": "go",
        "decided_by": "ana",
        "created_at": "",
        "release_state": "pending",
    }
    refused(say("ana"), 422)
    assert say("jo", comments="and gone").status_code == 201
    final = world.once(path, lambda each: each["state"] == "approved")
    assert final["finalized_at"] is not None
    refused(say("jo"), 422)
    listed = world.get(f"{path}/manual-approvals", by="lee")["items"]
    assert [(each["decided_by"], each["comments"]) for each in listed] == [("ana", "go"), ("jo", "and gone")]
    outcome = world.get(f"{path}/events", by="lee")["items"][1]["approval_rule_outcome"]
    assert (outcome["type"], outcome["success"], outcome["comments"]) == ("manual", True, "and gone")


def test_case_36_a_password_is_never_shown(world: World) -> None:
    """Neither in a draft nor when it is approved; it is sealed in the commit that approves it."""
    rule = {"type": "http_api", "url": "https://x.example.org", "username": "u", "password": "hush-hush-1"}
    ruleset = world.ruleset(
        {**rule, "retry_policy": "retry_on_fail", "retry_limit": 3}, proposal_state="draft"
    )
    path = f"/approval-rulesets/{ruleset}"
    draft = world.get(f"{path}/proposals")["items"][0]
    shown = draft["approval_rules"][0]
    assert (shown["password"], shown["username"], shown["retry_limit"]) == (None, "u", 3)
    sent_back = {"approval_rules": [*draft["approval_rules"], SCHEDULE]}
    world.ask("PATCH", f"{path}/proposals/{draft['id']}", sent_back, expect=200)
    world.ask("PATCH", f"{path}/proposals/{draft['id']}", {"proposal_state": "final"}, expect=200)
    found = world.get(path)["latest_approved_version"]["approval_rules"]
    assert [(each["type"], each.get("password")) for each in found] == [
        ("http_api", None),
        ("schedule", None),
    ]
    declared = world.declared(f"installation/ApprovalRuleset/{ruleset}.yaml")
    secret = declared.partition("secret_ref: ")[2].split("}")[0].split("\n")[0].strip()
    sealed = world.declared(f"installation/Secret/{secret}.yaml")
    assert "sealed:" in sealed
    everything = world.repo.git("log", "-p", "--all")
    assert "hush-hush-1" not in everything
    stored = databases.stored(world.running.data)
    assert b"hush-hush-1" not in stored
    assert base64.b64encode(b"hush-hush-1") not in stored
    again = {"proposal_state": "final", "approval_rules": found, "description": "kept"}
    world.ask("PATCH", path, {"version": again}, expect=200)
    assert f"secret_ref: {secret}" in world.declared(f"installation/ApprovalRuleset/{ruleset}.yaml")
    other = {"proposal_state": "final", "approval_rules": [{**found[0], "password": "hush-hush-2"}]}
    world.ask("PATCH", path, {"version": other}, expect=200)
    names = world.repo.git("ls-tree", "--name-only", "main", "installation/Secret/").split()
    mine = [name for name in names if f"--{ruleset}--" in name]
    assert len(mine) == 1
    assert secret not in mine[0]
    none = {"proposal_state": "final", "approval_rules": []}
    world.ask("PATCH", path, {"version": none}, expect=200)
    assert f"--{ruleset}--" not in world.repo.git("ls-tree", "-r", "--name-only", "main")


def test_case_37_types_of_bodies(world: World) -> None:
    """Answers say theirs; that of a request is not looked at."""
    application = world.application()
    path = f"/v1/applications/{application}/releases"
    answer = world["ana"].post(path, content=b'{"comments": "x"}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["comments"]) == (201, "x")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    for where in (path, f"/v1/applications/{application}", "/v1/about", "/v1/organization"):
        found = world["ana"].get(where)
        assert (found.status_code, found.headers["content-type"]) == (200, answer.headers["content-type"])


def test_case_38_credentials(world: World, reviewing: World) -> None:
    """Demanded, but for the version of the server; where readers are let in without, writers are not."""
    for where in ("/v1/applications", "/v1/releases", "/v1/organization"):
        without = world.nobody.get(where)
        refused(without, 401)
        assert without.headers["www-authenticate"].startswith("Basic ")
        assert world["lee"].get(where).status_code == 200
        wrong = world.nobody.get(where, auth=("jo", "stm_wrong"))
        assert refused(wrong, 401)
        assert reviewing.nobody.get(where).status_code == 200
        assert world.nobody.get(where, headers={"Authorization": f"Bearer {world.secrets['lee']}"}).is_success
    for each in (world, reviewing):
        assert each.nobody.get("/v1/about").json().keys() == {"version"}
        body = {"id": "x", "version": {}}
        assert each.nobody.post("/v1/applications", json=body).status_code == 401
        assert each["lee"].post("/v1/applications", json=body).status_code == 401
        refused(each["lee"].post(f"/v1/applications/{'x'}/releases", json={}), 401)
    refused(world["max"].post("/v1/applications", json={"id": "x", "version": {}}), 401)
    application = world.application()
    assert world["max"].post(f"/v1/applications/{application}/releases", json={}).status_code == 201


def test_who_is_known_reads_what_anybody_reads(reviewing: World) -> None:
    """With no role, or with one on another project: as much as without credentials, and to write as little as ever."""
    application = reviewing.name()
    given = {"id": application, "version": {"proposal_state": "final"}}
    reviewing.ask("POST", "/applications", given, expect=201, by="jo")
    for secret in (reviewing.token("kim"), reviewing.secrets["lee"]):
        with reviewing.client(secret) as client:
            for path in (
                "/v1/applications",
                "/v1/organization",
                "/v1/releases",
                f"/v1/applications/{application}",
            ):
                without = reviewing.nobody.get(path)
                answer = client.get(path)
                assert (answer.status_code, answer.json()) == (without.status_code, without.json()), path
            refused(client.post("/v1/applications", json=given), 401)
