"""What a call says is laid over what Git says by then (sqedule, 5.2; design 13.12), and nothing else of it changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.escape.conftest import document
from tests.api.sqedule.conftest import SCHEDULE, World, refused
from tests.api.sqedule.test_git import commit

GATED = "{type: schedule}, {type: manual, approval_policy: any}"
MONDAYS = {"type": "schedule", "days_of_week": "mon"}


def pushed(world: World, name: str, spec: str) -> None:
    """A ruleset as a person changes it, just now."""
    world.repo.git("reset", "--hard", "-q", "main")
    world.repo.commit({f"{name}.yaml": document("ApprovalRuleset", f"name: {name}", spec)})


def declared(world: World) -> str:
    """A new ruleset with one rule, which is in force."""
    name = world.name("rules")
    text = document("ApprovalRuleset", f"name: {name}", "{description: one, rules: [{type: schedule}]}")
    commit(world, {f"{name}.yaml": text})
    return name


@pytest.mark.parametrize("drafted", [False, True])
def test_what_was_pushed_meanwhile_stays(world: World, drafted: bool) -> None:
    """A call that says something else does not undo it; the version that comes of it has both."""
    name = declared(world)
    path, said = f"/approval-rulesets/{name}", {"display_name": "D"}
    if drafted:
        draft = world.ask("PATCH", path, {"version": said}, expect=200)["version"]["id"]
    pushed(world, name, f"{{description: two, rules: [{GATED}]}}")
    if drafted:
        made = world.ask("PATCH", f"{path}/proposals/{draft}", {"proposal_state": "final"}, expect=200)
        assert made["version"]["id"] == draft
    else:
        made = world.ask("PATCH", path, {"version": {"proposal_state": "final", **said}}, expect=200)
    version = made["version"]
    assert (version["display_name"], version["description"]) == ("D", "two")
    assert [each["type"] for each in version["approval_rules"]] == ["schedule", "manual"]
    assert f"rules: [{GATED}]" in world.declared(f"{name}.yaml")


def test_rules_that_were_changed_meanwhile_are_not_replaced(world: World) -> None:
    """Neither before that is applied nor after; who leaves out the ids means what is said."""
    name = declared(world)
    path = f"/approval-rulesets/{name}"
    rules = world.get(path)["latest_approved_version"]["approval_rules"]
    body = {"version": {"proposal_state": "final", "approval_rules": [*rules, MONDAYS]}}
    pushed(world, name, f"{{description: one, rules: [{GATED}]}}")
    assert "changed them in Git" in refused(world["ana"].patch(f"/v1{path}", json=body), 422)
    world.once(path, lambda each: len(each["latest_approved_version"]["approval_rules"]) == 2)
    refused(world["ana"].patch(f"/v1{path}", json=body), 422)
    assert f"rules: [{GATED}]" in world.declared(f"{name}.yaml")
    anew = {"version": {"proposal_state": "final", "approval_rules": [SCHEDULE]}}
    assert len(world.ask("PATCH", path, anew, expect=200)["version"]["approval_rules"]) == 1


def test_a_password_does_not_follow_to_another_server(world: World) -> None:
    """It is given again where the server or the username is another one; another path is the same server."""
    rule: dict[str, Any] = {"type": "http_api", "url": "https://x.example.org/a", "username": "u"}
    path = f"/approval-rulesets/{world.ruleset({**rule, 'password': 'hush-hush-7'})}"

    def patch(**other: Any) -> Any:
        found = world.get(path)["latest_approved_version"]["approval_rules"][0]
        version = {"proposal_state": "final", "approval_rules": [{**found, **other}]}
        return world["ana"].patch(f"/v1{path}", json={"version": version})

    for other in (
        {"url": "https://y.example.org/a"},
        {"url": "http://x.example.org/a"},
        {"url": "https://x.example.org:8443/a"},
        {"username": "v"},
    ):
        assert "give the password again" in refused(patch(**other), 400)
    assert patch(url="https://x.example.org:443/b").status_code == 200
    file = f"installation/ApprovalRuleset/{path.rpartition('/')[2]}.yaml"
    assert "secret_ref: " in world.declared(file)
    assert patch(url="https://y.example.org/a", password="hush-hush-8").status_code == 200
    assert patch(username=None).status_code == 200
    assert "secret_ref: " not in world.declared(file)


def test_another_id_and_another_content_are_one_commit(world: World) -> None:
    """And one version, also where nothing of the content changes."""
    name = world.application(display_name="A")
    for new, display in ((f"{name}-2", "B"), (f"{name}-3", "B")):
        before = world.repo.git("rev-parse", "main")
        body = {"id": new, "version": {"proposal_state": "final", "display_name": display}}
        made = world.ask("PATCH", f"/applications/{name}", body, expect=200)
        assert (made["id"], made["version"]["display_name"]) == (new, "B")
        assert world.repo.git("rev-parse", "main~1") == before
        assert f"Steersman-Endpoint: PATCH /v1/applications/{name}\n" in world.repo.git(
            "log", "-1", "--format=%b"
        )
        name = new
    listed = world.get(f"/applications/{name}/versions")["items"]
    assert [each["version_number"] for each in listed] == [3, 2, 1]
    draft = world.application("draft")
    body = {"id": f"{draft}-2", "version": {"proposal_state": "final"}}
    assert world.ask("PATCH", f"/applications/{draft}", body, expect=200)["version"]["version_number"] == 1


def test_a_document_is_renamed_where_it_stands(world: World) -> None:
    """The commit changes nothing but the names."""
    name, ruleset = world.name(), world.name("rules")
    text = (
        "# ours\napiVersion: steersman/v1\nkind: Application\nmetadata:\n"
        f"  name: {name}  # the id\n  labels: {{team: x}}\nspec:\n  # shown\n  display_name: Pay\n---\n"
    ) + document("ApprovalRuleset", f"name: {ruleset}", "{rules: [{type: schedule}]}")
    commit(world, {f"{name}.yaml": text})
    world.ask("PATCH", f"/applications/{name}", {"id": f"{name}-2"}, expect=200)
    assert world.declared(f"{name}.yaml").strip() == text.replace(f"{name}  #", f"{name}-2  #").strip()
    assert world.repo.git("diff", "--name-only", "main~1", "main").split() == [f"{name}.yaml"]
    assert "rename" in world.repo.git("log", "-1", "--format=%s")


def test_rules_stay_in_the_order_of_git(world: World) -> None:
    """Whatever order they are shown in; what is new comes last."""
    name = world.name("rules")
    kept = "  - {type: manual, approval_policy: any}  # first\n  - {type: schedule, days_of_week: tue}\n"
    text = document("ApprovalRuleset", f"name: {name}", "").rstrip() + f"\n  rules:\n{kept}"
    commit(world, {f"{name}.yaml": text})
    path = f"/approval-rulesets/{name}"
    rules = world.get(path)["latest_approved_version"]["approval_rules"]
    assert [each["type"] for each in rules] == ["schedule", "manual"]
    body = {"version": {"proposal_state": "final", "approval_rules": [MONDAYS, *rules]}}
    world.ask("PATCH", path, body, expect=200)
    after = world.declared(f"{name}.yaml")
    assert kept in after
    assert after.index("mon") > after.index("tue")


def test_a_branch_that_somebody_has_changed_is_not_passed_over(reviewing: World) -> None:
    """Approved is what was pushed to it; what was done there since is merged in Git."""
    world, name = reviewing, reviewing.name()
    body = {"id": name, "version": {"proposal_state": "final", "display_name": "A"}}
    made = world.ask("POST", "/applications", body, expect=201)["version"]
    listed = "--format=%(refname:short)"
    branch = world.repo.git("for-each-ref", "--sort=-refname", listed, "refs/heads/steersman").split()[0]
    pushed = world.repo.git("rev-parse", branch)
    amended = world.repo.git("commit-tree", f"{branch}^{{tree}}", "-p", branch, "-m", "amended").strip()
    world.repo.git("branch", "-f", branch, amended)
    state = f"/v1/applications/{name}/proposals/{made['id']}/state"
    approve = {"state": "approved"}
    assert f"branch {branch}: merge it" in refused(world["jo"].put(state, json=approve), 422)
    world.repo.git("branch", "-f", branch, pushed)
    assert world["jo"].put(state, json=approve).json()["version"]["version_number"] == 1
