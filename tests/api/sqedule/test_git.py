"""What Git has to do with versions (sqedule, 10.3; design 13.12): commits make them, and calls make commits."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.escape.conftest import document
from tests.api.sqedule.conftest import EMPTY, SCHEDULE, World, refused
from tests.receiver import Receiver


def numbers(world: World, path: str) -> list[int]:
    """Of the approved versions."""
    return [each["version_number"] for each in world.get(f"{path}/versions")["items"]]


def applied(world: World) -> None:
    """Until the newest commit is in force."""
    head = world.repo.git("rev-parse", "main")

    def there(client: Any) -> bool:
        found = client.get("/reconciler/status").json()["source"]["last_applied_revision"]
        return bool(found == head)

    world.running.wait_for(there)


def commit(world: World, files: dict[str, str | None]) -> None:
    """Push a change as a person does: on top of what is there."""
    world.repo.git("reset", "--hard", "-q", "main")
    world.repo.commit(dict(files))
    applied(world)


def declared(name: str, ruleset: str, bindings: str, rules: str = "[{type: schedule}]") -> str:
    """An application and a ruleset."""
    return (
        document("ApprovalRuleset", f"name: {ruleset}", f"{{rules: {rules}}}")
        + "---\n"
        + document("Application", f"name: {name}", f"{{approval_ruleset_bindings: [{bindings}]}}")
    )


def test_commits_make_versions(world: World) -> None:
    """One for each change of content; what is taken out is switched off, and its history stays."""
    name, ruleset = world.name(), world.name("rules")
    application, rules = f"/applications/{name}", f"/approval-rulesets/{ruleset}"
    binding = f"/application-approval-ruleset-bindings/{name}/{ruleset}"
    entry = f"{{approval_ruleset: {ruleset}, mode: permissive}}"
    commit(world, {"d.yaml": declared(name, ruleset, entry)})
    assert (numbers(world, application), numbers(world, rules), numbers(world, binding)) == ([1], [1], [1])
    assert world.get(binding)["latest_approved_version"]["mode"] == "permissive"
    commit(world, {"d.yaml": "# only a comment\n" + declared(name, ruleset, entry)})
    assert (numbers(world, application), numbers(world, rules), numbers(world, binding)) == ([1], [1], [1])
    commit(world, {"d.yaml": declared(name, ruleset, entry, "[{type: schedule, days_of_week: ''}]")})
    assert (numbers(world, rules), numbers(world, binding)) == ([2, 1], [1])
    commit(world, {"d.yaml": declared(name, ruleset, entry)})
    assert numbers(world, rules) == [3, 2, 1]
    commit(world, {"d.yaml": declared(name, ruleset, "")})
    assert (numbers(world, application), numbers(world, binding)) == ([1], [2, 1])
    assert world.final(name)[0]["approval_ruleset_bindings"] == []
    commit(world, {"d.yaml": document("ApprovalRuleset", f"name: {ruleset}", "{}")})
    assert numbers(world, application) == [2, 1]
    assert world.get(application)["latest_approved_version"]["enabled"] is False
    assert world.final(name)[0]["state"] == "approved"
    commit(world, {"d.yaml": "kind: [broken"})
    assert numbers(world, rules) == [4, 3, 2, 1]
    commit(world, {"d.yaml": None})
    assert world.get(rules)["latest_approved_version"]["enabled"] is False


def test_a_call_changes_only_what_it_says(world: World) -> None:
    """The rest of the document, comments included, stays as a person wrote it."""
    name, ruleset, file = world.name(), world.name("rules"), "people-wrote-this.yaml"
    text = (
        document("ApprovalRuleset", f"name: {ruleset}", "{timezone: Europe/Amsterdam, rules: []}")
        + "---\n# why we have it\napiVersion: steersman/v1\nkind: Application\n"
        f"metadata: {{name: {name}}}\nspec:\n  display_name: Old   # to be renamed\n  environments: [prod]\n"
    )
    commit(world, {file: text})
    given = {"proposal_state": "final", "display_name": "New"}
    world.ask("PATCH", f"/applications/{name}", {"version": given}, expect=200)
    assert world.declared(file).strip() == text.replace("Old ", "New ").strip()
    world.bind(name, ruleset, "permissive")
    after = world.declared(file)
    assert "environments: [prod]" in after
    assert f"approval_ruleset: {ruleset}" in after
    rules = {"proposal_state": "final", "approval_rules": [SCHEDULE]}
    world.ask("PATCH", f"/approval-rulesets/{ruleset}", {"version": rules}, expect=200)
    assert "timezone: Europe/Amsterdam" in world.declared(file)
    world.bind_again(name, ruleset, enabled=False)
    assert "enabled: false" in world.declared(file)
    assert world.get(f"/applications/{name}/approval-ruleset-bindings")["items"][0].keys() == {
        "created_at",
        "updated_at",
        "latest_approved_version",
        "approval_ruleset",
    }


def test_what_is_final_without_a_change_is_a_version_without_a_commit(world: World) -> None:
    """Git says so already."""
    name = world.application()
    before = world.repo.git("rev-parse", "main")
    made = world.ask("PATCH", f"/applications/{name}", {"version": {"proposal_state": "final"}}, expect=200)
    assert made["version"]["version_number"] == 2
    draft = world.ask("PATCH", f"/applications/{name}", {"version": {}}, expect=200)["version"]["id"]
    path = f"/applications/{name}/proposals/{draft}"
    final = world.ask("PATCH", path, {"proposal_state": "final"}, expect=200)["version"]
    assert (final["id"], final["version_number"]) == (draft, 3)
    assert world.repo.git("rev-parse", "main") == before


def test_proposals_come_and_go(world: World) -> None:
    """Abandoned, taken up again, deleted; only content that is sent changes."""
    name = world.application(display_name="A")
    path = f"/applications/{name}"
    draft = world.ask("PATCH", path, {"version": {"enabled": False}}, expect=200)["version"]
    one = f"{path}/proposals/{draft['id']}"
    gone = world.ask("PATCH", one, {"proposal_state": "abandon"}, expect=200)["version"]
    assert (gone["proposal_state"], gone["display_name"], gone["enabled"]) == ("abandoned", "A", False)
    back = world.ask("PATCH", one, {"display_name": "B"}, expect=200)["version"]
    assert (back["proposal_state"], back["display_name"], back["enabled"]) == ("draft", "B", False)
    refused(world["ana"].patch(f"/v1{one}", json={"proposal_state": "ready"}), 400)
    assert world.ask("DELETE", one, expect=200) == {}
    refused(world["ana"].get(f"/v1{one}"), 404)
    moved = world.ask("PATCH", path, {}, expect=200)
    assert moved["version"]["version_number"] == 1
    abandoned = world.ask("PATCH", path, {"version": {"proposal_state": "abandon"}}, expect=200)
    assert abandoned["version"]["proposal_state"] == "abandoned"
    assert numbers(world, path) == [1]


def test_a_binding_of_what_is_not_approved_cannot_be_final(world: World) -> None:
    """What is to be approved first is said; a draft of it may be made."""
    application, draft = world.application(), world.application("draft")
    ruleset, rules = world.ruleset(SCHEDULE), world.ruleset(SCHEDULE, proposal_state="draft")
    for one, other, missing in ((draft, ruleset, draft), (application, rules, rules)):
        path = f"/v1/application-approval-ruleset-bindings/{one}/{other}"
        body: dict[str, Any] = {"version": {"mode": "enforcing", "proposal_state": "final"}}
        assert f"{missing} first" in refused(world["ana"].post(path, json=body), 422)
        refused(world["ana"].get(path), 404)
        world.bind(one, other, proposal_state="draft")
    path = f"/v1/application-approval-ruleset-bindings/{application}/{ruleset}"
    for wrong in ({"version": {}}, {"version": {"enabled": True}}):
        assert "mode" in refused(world["ana"].post(path, json=wrong), 422)
    refused(world["ana"].post(path, json={"version": {"mode": "strict"}}), 400)
    unknown = "/v1/application-approval-ruleset-bindings/nope/x"
    assert refused(world["ana"].post(unknown, content=b"{bad"), 404) == "application not found"


def test_another_id(world: World) -> None:
    """All that refers to it follows, in the same commit: bindings, releases, holds of other kinds."""
    ruleset = world.ruleset(SCHEDULE)
    name = world.judged_by((ruleset, "enforcing"))
    made, _ = world.final(name)
    commit(
        world,
        {
            f"freeze-{name}.yaml": document(
                "Freeze",
                f"name: f-{name}",
                f"{{reason: x, applications: [{name}], recurrence: [{{days_of_week: sun}}]}}",
            )
        },
    )
    before = world.repo.git("rev-parse", "main")
    new = f"{name}-Renamed"
    found = world.ask("PATCH", f"/applications/{name}", {"id": new}, expect=200)
    assert (found["id"], found["version"]["version_number"]) == (new, 1)
    assert [each["approval_ruleset"]["id"] for each in found["approval_ruleset_bindings"]] == [ruleset]
    assert world.repo.git("rev-parse", "main~1") == before
    assert f"applications: [{new}]" in world.declared(f"freeze-{name}.yaml")
    assert world.get(f"/applications/{new.lower()}/releases/{made['id']}")["state"] == "approved"
    refused(world["ana"].get(f"/v1/applications/{name}"), 404)
    other = f"{ruleset}-2"
    renamed = world.ask("PATCH", f"/approval-rulesets/{ruleset}", {"id": other}, expect=200)
    bound = renamed["application_approval_ruleset_bindings"]
    assert [each["application"]["id"] for each in bound] == [new]
    assert len(world.final(new)[1]) == 1
    again = world.ask("PATCH", f"/applications/{new}", {"id": new.lower()}, expect=200)
    assert (again["id"], numbers(world, f"/applications/{new}")) == (new.lower(), [1])
    taken = world.application()
    refused(world["ana"].patch(f"/v1/applications/{new}", json={"id": taken.upper()}), 400)
    refused(world["ana"].patch(f"/v1/applications/{new}", json={"id": "a/b"}), 400)
    draft = world.application("draft")
    assert world.ask("PATCH", f"/applications/{draft}", {"id": f"{draft}-x"}, expect=200)["version"] is None
    assert len(world.get(f"/applications/{draft}-x/proposals")["items"]) == 1


def test_what_rules_keep(world: World) -> None:
    """Approvers and whether one may approve oneself, which this API does not show, stay when a rule is sent back."""
    ruleset = world.name("rules")
    text = (
        f"apiVersion: steersman/v1\nkind: ApprovalRuleset\nmetadata: {{name: {ruleset}}}\nspec:\n  rules:\n"
        "  - {type: manual, approval_policy: any, approvers: {users: [jo]}, allow_self_approval: false}\n"
    )
    commit(world, {f"{ruleset}.yaml": text})
    rules = world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]["approval_rules"]
    given = {"proposal_state": "final", "approval_rules": [*rules, EMPTY]}
    world.ask("PATCH", f"/approval-rulesets/{ruleset}", {"version": given}, expect=200)
    after = world.declared(f"{ruleset}.yaml")
    assert (
        "{type: manual, approval_policy: any, approvers: {users: [jo]}, allow_self_approval: false}" in after
    )
    assert "type: schedule" in after
    unknown = {"type": "manual", "approval_policy": "any", "approvers": {"teams": ["nobody"]}}
    body = {"version": {"proposal_state": "final", "approval_rules": [unknown]}}
    assert "nobody" in refused(world["ana"].patch(f"/v1/approval-rulesets/{ruleset}", json=body), 400)


def test_a_branch_that_is_merged_in_git(reviewing: World) -> None:
    """The proposal that waited for it is the version then."""
    world, name = reviewing, reviewing.name()
    body = {"id": name, "version": {"proposal_state": "final", "display_name": "Merged"}}
    waiting = world.ask("POST", "/applications", body, expect=201)["version"]
    mine = world.repo.git(
        "for-each-ref", "--sort=-refname", "--format=%(refname:short)", "refs/heads/steersman"
    ).split()[0]
    assert "Merged" in world.repo.git("log", "-1", "-p", mine)
    world.repo.git("reset", "--hard", "-q", "main")
    world.repo.git("merge", "-q", "--no-edit", mine)
    applied(world)
    found = world.once(f"/applications/{name}", lambda each: each["latest_approved_version"])
    version = found["latest_approved_version"]
    assert (version["id"], version["version_number"]) == (waiting["id"], 1)
    assert world.get(f"/applications/{name}/proposals")["items"] == []


@pytest.mark.parametrize("path", ["/applications", "/approval-rulesets"])
def test_lists_are_in_pages(world: World, path: str) -> None:
    """Applications newest first, the others in the order in which they were made."""
    make = world.application if path == "/applications" else world.ruleset
    ids = [make(proposal_state="draft") if make == world.ruleset else make("draft") for _ in range(3)]  # type: ignore[operator]
    found = [each["id"] for each in world.get(f"{path}?per_page=0")["items"]]
    assert found[:3] == ids[::-1] if path == "/applications" else found[-3:] == ids
    assert [each["id"] for each in world.get(f"{path}?per_page=2&page=2")["items"]] == found[2:4]


def test_a_server_is_asked_with_the_password_that_was_given(world: World) -> None:
    """Which went through this API into a sealed Secret; the answer is in the events."""
    receiver = Receiver()
    try:
        receiver.status, receiver.body = 403, b"no"
        rule = {"type": "http_api", "url": receiver.url, "username": "me", "password": "hush-hush-3"}
        application = world.judged_by((world.ruleset(rule), "enforcing"))
        found, events = world.final(application, metadata={"build": 7})
    finally:
        receiver.close()
    assert found["state"] == "rejected"
    outcome = events[0]["approval_rule_outcome"]
    assert (outcome["type"], outcome["success"], outcome["response_code"]) == ("http_api", False, 403)
    assert base64.b64decode(outcome["response_body_base64"]) == b"no"
    assert (outcome["rule"]["url"], outcome["rule"]["password"]) == (receiver.url, None)
    headers, body = receiver.got[0]
    assert base64.b64decode(headers["authorization"].partition(" ")[2]) == b"me:hush-hush-3"
    asked = json.loads(body)
    assert (asked["id"], asked["application_id"], asked["state"]) == (found["id"], application, "pending")
    assert asked["metadata"] == {"build": 7}


def test_two_who_are_final_at_once(world: World) -> None:
    """One version, and nobody is told of a fault."""
    name = world.application()
    draft = world.ask("PATCH", f"/applications/{name}", {"version": {"display_name": "B"}}, expect=200)
    path = f"/v1/applications/{name}/proposals/{draft['version']['id']}"
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda who: world[who].patch(path, json={"proposal_state": "final"}),
                ("jo", "ana", "jo", "ana"),
            )
        )
    assert {each.status_code for each in answers} <= {200, 404}
    assert {each.json()["version"]["version_number"] for each in answers if each.is_success} == {2}
    body = {"id": world.name(), "version": {"proposal_state": "final"}}
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda who: world[who].post("/v1/applications", json=body), ("jo", "ana") * 2))
    assert sorted(each.status_code for each in made) == [201, 400, 400, 400]
    assert numbers(world, f"/applications/{body['id']}") == [1]


def test_two_who_are_final_at_once_with_different_words(world: World) -> None:
    """One of them is committed; whoever is refused has changed nothing, neither here nor in Git."""
    ruleset = world.ruleset(SCHEDULE)
    at = f"/approval-rulesets/{ruleset}"
    for turn in range(4):
        draft = world.ask("PATCH", at, {"version": {"display_name": "draft"}}, expect=200)
        path = f"/v1{at}/proposals/{draft['version']['id']}"
        names = {who: f"{who} {turn}" for who in ("jo", "ana")}
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(
                    lambda who, path=path, names=names: world[who].patch(
                        path, json={"proposal_state": "final", "display_name": names[who]}
                    ),
                    names,
                )
            )
        assert sorted(each.status_code for each in answers) == [200, 404], [each.text for each in answers]
        (done,) = (each.json()["version"] for each in answers if each.is_success)
        assert (done["version_number"], done["display_name"] in names.values()) == (turn + 2, True)
        latest = world.get(at)["latest_approved_version"]
        assert (latest["version_number"], latest["display_name"]) == (turn + 2, done["display_name"])
        assert numbers(world, at) == list(range(turn + 2, 0, -1))
        (lost,) = set(names.values()) - {done["display_name"]}
        assert lost not in world.repo.git("log", "-p", "main")


def test_times_are_those_of_the_server(reviewing: World) -> None:
    """In its time zone, with six digits; also where they were copied to a release."""
    world, ruleset = reviewing, reviewing.name("rules")
    text = document("ApprovalRuleset", f"name: {ruleset}", "{rules: [{type: schedule}]}")
    bound = f"{{approval_ruleset_bindings: [{{approval_ruleset: {ruleset}}}]}}"
    name = world.name()
    commit(world, {"zone.yaml": text + "---\n" + document("Application", f"name: {name}", bound)})
    made = world.release(name)
    copied = made["approval_ruleset_bindings"][0]["approval_ruleset"]
    version = copied["latest_approved_version"]
    found = world.once(f"/applications/{name}/releases/{made['id']}", lambda each: each["finalized_at"])
    times = (made["created_at"], copied["created_at"], version["approved_at"], found["finalized_at"])
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+05:30", time), time
    shown = world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]
    assert shown["approved_at"] == version["approved_at"]
    assert shown["approval_rules"][0]["created_at"].endswith("+05:30")
