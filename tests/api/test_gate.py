"""Approvals and freezes by hand, over HTTP and on the command line: who may, what exactly, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api, steersman
from tests.api.test_access import is_problem
from tests.shop import Shop
from tests.support import eventually_now, process

WEB = "Deployment/shop/prod/web"
PAY = "Deployment/shop/prod/pay"
ROLES = {"olga": "owner", "wim": "write", "rita": "read"}
FREEZE = {
    "reason": "Peak trading",
    "from": "2020-01-01T00:00:00Z",
    "until": "2999-01-01T00:00:00Z",
    "environments": ["prod"],
    "pass": {"roles": ["owner"], "teams": ["incident"], "approvals": 2},
}


class Yard(Api):
    """A protected environment, and people with roles."""

    shop: Shop
    tokens: dict[str, str]

    def as_(self, name: str, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """What somebody is answered."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        return self.client.request(method, f"/reconciler/{path}", json=body, headers=headers)

    def steersman(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line as the administrator."""
        return steersman(*words, STEERSMAN_SERVER=self.running.url, STEERSMAN_TOKEN=self.running.token or "")

    def apply(self) -> None:
        """Commit what is declared, and wait for it."""
        self.shop.commit()
        assert self.client.post("/reconciler/sync", json={}).status_code == 200

    def causes(self, key: str) -> list[str]:
        """Why it is not deployed, by reasons."""
        return [cause["reason"] for cause in self.get(f"/reconciler/why/{key}")["causes"]]

    def waits(self, key: str, *reasons: str) -> None:
        """Until it waits for just this."""
        eventually_now(lambda: self.causes(key) == list(reasons))

    def asked(self, key: str) -> dict[str, Any]:
        """The request that waits for somebody's word."""
        items = self.get("/reconciler/approvals")["items"]
        return next((item for item in items if item["key"] == key), {})

    def deploy(self, name: str, size: str) -> None:
        """Want another one."""
        run = f"echo {name} $INPUT_size >> {self.shop.marks}/all"
        spec = {"scripts": {"deploy": {"inline": run}}, "inputs": {"size": size}, "run_smoke": False}
        self.shop.deployment(name, spec)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("gate")
    shop = Shop(folder)
    shop.specs.git("config", "user.name", "x")
    for name, role in ROLES.items():
        shop.declare("User", name, {"email": f"{name}@example.org"})
        subjects = [{"kind": "User", "name": name}]
        shop.declare("RoleBinding", name, {"role": role, "subjects": subjects}, project="shop")
    shop.declare("User", "ines", {})
    shop.declare("User", "alice", {"email": "alice@example.org"})  # who writes all commits here
    writer = [{"kind": "User", "name": "alice"}]
    shop.declare("RoleBinding", "alice", {"role": "owner", "subjects": writer}, project="shop")
    reads = [{"kind": "User", "name": "ines"}]
    shop.declare("RoleBinding", "ines", {"role": "read", "subjects": reads}, project="shop")
    shop.declare("Team", "incident", {"members": ["ines"]})
    shop.declare("Environment", "prod", {"protected": True}, project="shop")
    shop.commit()
    with (
        process(shop.specs.path, folder / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running,
        running.client() as client,
    ):
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        yard = Yard(running, shop.specs, client)
        yard.shop, yard.tokens = shop, {}
        for name in (*ROLES, "ines", "alice"):
            wish = {"name": "t", "level": "owner", "subject": f"User/{name}"}
            made = client.post("/reconciler/tokens", json=wish)
            yard.tokens[name] = made.raise_for_status().json()["token"]
        yield yard


def _one_owner_approves_who_did_not_write_it(yard: Yard) -> None:
    """Who wrote the commit is known by its address; readers and writers are told what it takes."""
    yard.deploy("web", "s")
    yard.apply()
    yard.waits(WEB, "AwaitsApproval")
    asked = yard.asked(WEB)
    assert asked["asked_by"] == ["User/alice"]
    assert {len(asked[part]) for part in ("digest", "package", "inputs", "scripts")} == {64}
    body = {"key": WEB, "decision": "approved", "digest": asked["digest"]}
    for name, told in (
        ("alice", "who asked for it, or wrote what is deployed, may not decide it"),
        ("wim", "it takes the role owner on environment shop/prod"),
        ("rita", "it takes the role owner on environment shop/prod"),
    ):
        answer = yard.as_(name, "POST", "approvals", body)
        assert (answer.status_code, is_problem(answer)["title"]) == (403, "NotEligible")
        assert told in answer.json()["detail"]
        seen = yard.as_(name, "GET", "approvals").json()["items"]
        assert [rule["you_may"] for item in seen for rule in item["rules"]] == [False]
    assert yard.as_("olga", "GET", "approvals").json()["items"][0]["rules"][0]["you_may"] is True
    done = yard.steersman("approvals")
    assert "0 of 1 approvals" in done.stdout
    answer = yard.as_("olga", "POST", "approvals", body)
    assert answer.status_code == 201, answer.text
    assert [each["by"] for each in answer.json()["decisions"]] == ["User/olga"]
    eventually_now(lambda: yard.shop.marked() == ["web s"])
    assert yard.get("/reconciler/approvals")["items"] == []
    told = yard.get("/reconciler/approvals", all="true")["items"]
    assert [item["state"] for item in told if item["key"] == WEB] == ["approved"]
    kinds = [event["kind"] for event in yard.get("/reconciler/events", limit=500)["items"]]
    assert {"deploy-held", "release-requested", "deploy-let-go"} <= set(kinds)


def _an_approval_counts_for_nothing_else(yard: Yard) -> None:
    """Not after a change, and not for another deployment, though somebody gives its digest."""
    yard.deploy("web", "m")
    yard.deploy("pay", "m")
    yard.apply()
    yard.waits(WEB, "AwaitsApproval")
    yard.waits(PAY, "AwaitsApproval")
    web, pay = yard.asked(WEB), yard.asked(PAY)
    body = {"decision": "approved", "digest": web["digest"]}
    answer = yard.as_("olga", "POST", "approvals", body | {"key": PAY})
    assert (answer.status_code, is_problem(answer)["title"]) == (409, "Changed")
    assert "target, scripts changed" in answer.json()["detail"]
    answer = yard.as_("olga", "POST", "approvals", body | {"request": pay["request"]})
    assert (answer.status_code, is_problem(answer)["title"]) == (409, "Changed")
    yard.deploy("web", "l")
    yard.apply()
    eventually_now(lambda: yard.asked(WEB).get("request", web["request"]) != web["request"])
    for wish in (body | {"key": WEB}, {"decision": "approved", "request": web["request"]}):
        answer = yard.as_("olga", "POST", "approvals", wish)
        assert (answer.status_code, is_problem(answer)["title"]) == (409, "Changed")
        assert "inputs changed since" in answer.json()["detail"]
    assert yard.asked(WEB)["changed"] == ["inputs"]
    done = yard.steersman("why", WEB)
    assert f"request {web['request']} does not count any more, since its inputs changed" in done.stdout
    number = str(yard.asked(WEB)["request"])
    done = yard.steersman("approve", number, "-m", "fine", "--digest", yard.asked(WEB)["digest"])
    assert done.stdout == "approved; the request is approved\n"
    eventually_now(lambda: yard.shop.marked()[-1] == "web l")
    done = yard.steersman("reject", PAY, "-m", "not yet")
    assert done.returncode == 0
    yard.waits(PAY, "Rejected")
    answer = yard.as_("olga", "POST", "approvals", {"key": PAY, "decision": "approved"})
    assert (answer.status_code, is_problem(answer)["title"]) == (409, "NothingToDecide")


def _a_freeze_holds_tells_where_and_lets_two_through(yard: Yard) -> None:
    """On top of the approval; a way through takes those whom it names, with a reason, for just this."""
    yard.shop.declare("Freeze", "peak", FREEZE)
    yard.deploy("web", "xl")
    yard.apply()
    yard.waits(WEB, "Freeze", "NeedsApproval")
    (freeze,) = [item for item in yard.get("/reconciler/freezes")["items"] if item["active"]]
    assert (freeze["key"], freeze["held"]) == ("Freeze/_/peak", [PAY, WEB])
    assert freeze["where"] == yard.get(f"/reconciler/why/{WEB}")["causes"][0]["where"]
    assert freeze["where"].startswith("shop.yaml:")
    done = yard.steersman("when", WEB)
    assert "2999-01-01T00:00:00+00:00" in done.stdout
    assert "at the earliest, once approved" in done.stdout
    done = yard.steersman("freezes")
    assert "Freeze/_/peak" in done.stdout
    body = {"key": WEB, "comment": "the shop is down"}
    answer = yard.as_("wim", "POST", "pass", body)
    assert (answer.status_code, is_problem(answer)["title"]) == (403, "NotEligible")
    assert yard.as_("olga", "POST", "pass", body | {"comment": ""}).status_code == 400
    assert yard.as_("olga", "POST", "pass", body | {"digest": "0" * 64}).status_code == 409
    answer = yard.as_("ines", "POST", "pass", body)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"passed": [{"freeze": "Freeze/_/peak", "given": 1, "needed": 2}]}
    answer = yard.as_("ines", "POST", "pass", body)
    assert (answer.status_code, is_problem(answer)["title"]) == (409, "DecidedAlready")
    assert "Freeze" in yard.causes(WEB)
    assert yard.as_("olga", "POST", "pass", body).status_code == 201
    yard.waits(WEB, "AwaitsApproval")
    given = yard.get("/reconciler/pass")["items"]
    assert [(each["by"], each["comment"]) for each in given] == [
        ("User/olga", "the shop is down"),
        ("User/ines", "the shop is down"),
    ]
    assert yard.as_("olga", "POST", "approvals", {"key": WEB, "decision": "approved"}).status_code == 201
    eventually_now(lambda: yard.shop.marked()[-1] == "web xl")


def _a_freeze_is_made_and_lifted_on_the_command_line(yard: Yard) -> None:
    """Each is a commit that a person could have written."""
    yard.shop.declare("Freeze", "peak", None)
    yard.apply()
    done = yard.steersman(
        "freeze", "release-party", "--reason", "We celebrate", "--for", "2h", "--project", "shop"
    )
    assert done.stdout.startswith("Freeze/shop/release-party holds, by commit "), done.stderr
    yard.shop.specs.git("reset", "-q", "--hard")
    text = (yard.shop.specs.path / "projects/shop/Freeze/release-party.yaml").read_text()
    assert "reason: We celebrate" in text
    plan = yard.client.post("/reconciler/plan", json={"ref": "main"}).json()
    assert plan["deploys"] == []
    done = yard.steersman("freeze", "release-party", "--reason", "again", "--for", "2h", "--project", "shop")
    assert (done.returncode, "is declared already" in done.stderr) == (1, True)
    done = yard.steersman("freeze", "release-party", "--project", "shop", "--lift")
    assert done.stdout == "Freeze/shop/release-party is lifted\n"
    assert yard.get("/reconciler/freezes")["items"] == []
    for words, told in (
        (("x",), "give --reason"),
        (("x", "--reason", "r"), "give either --until or --for"),
        (("x", "--reason", "r", "--for", "soon"), "such as 12h"),
    ):
        done = yard.steersman("freeze", *words)
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr


def _what_a_branch_would_deploy_is_told_with_what_stands_in_its_way(yard: Yard) -> None:
    """The plan of a commit has the gate's verdict of now (design 13.16)."""
    yard.shop.specs.git("reset", "-q", "--hard")
    yard.deploy("web", "xxl")
    files = {"shop.yaml": "\n---\n".join(json.dumps(each) for each in yard.shop.documents.values())}
    plan = yard.client.post("/reconciler/plan", json={"files": files}).json()
    (deploy,) = [each for each in plan["deploys"] if each["key"] == WEB]
    assert deploy["gate"]["open"] is False
    assert [cause["reason"] for cause in deploy["gate"]["causes"]] == ["NeedsApproval"]


def _no_other_door_starts_what_is_held(yard: Yard) -> None:
    """Not as a manifest's job would be started, nor by trying it again."""
    yard.shop.specs.git("reset", "-q", "--hard")
    yard.deploy("web", "held")
    yard.apply()
    yard.waits(WEB, "AwaitsApproval")
    number = yard.asked(WEB)["job"]
    answer = yard.client.post(f"/api/jobs/{number}/start")
    assert answer.status_code == 400, answer.text
    answer = yard.client.post(f"/reconciler/jobs/{number}/retry")
    assert answer.status_code in (202, 409), answer.text
    uuid = yard.get(f"/reconciler/jobs/{number}")["id"]
    answer = yard.client.post(f"/cider-ci/api/jobs/{uuid}/resume-and-retry")
    assert answer.status_code >= 400
    yard.waits(WEB, "AwaitsApproval")
    assert "web held" not in yard.shop.marked()
    (shown,) = [job for job in yard.get("/reconciler/jobs", state="pending")["items"] if job["key"] == WEB]
    assert (shown["held"], shown["reason"]) == (True, "held")


def _only_the_gate_describes_its_requests(yard: Yard) -> None:
    """What approvers see, and other servers are sent, is not somebody else's to write."""
    yard.waits(WEB, "AwaitsApproval")
    number = yard.asked(WEB)["request"]
    body = {"metadata": {"version": "forged"}}
    answer = yard.client.patch(f"/v1/applications/web/releases/{number}", json=body)
    assert answer.status_code >= 400, answer.text
    assert yard.asked(WEB)["release"] == "_/web"


def _whoever_changes_the_environment_has_a_part_in_it(yard: Yard) -> None:
    """Inputs of the environment are what is deployed, too; and a service account is nobody who approves."""
    yard.shop.declare("Environment", "prod", {"protected": True, "inputs": {"colour": "red"}}, project="shop")
    specs = yard.shop.specs
    specs.write({"shop.yaml": "\n---\n".join(json.dumps(each) for each in yard.shop.documents.values())})
    specs.git("add", "-A")
    specs.git("commit", "-q", "-m", "red", "--author", "Olga <olga@example.org>")
    assert yard.client.post("/reconciler/sync", json={}).status_code == 200
    eventually_now(lambda: "User/olga" in yard.asked(WEB).get("asked_by", ()))
    answer = yard.as_("olga", "POST", "approvals", {"key": WEB, "decision": "approved"})
    assert (answer.status_code, is_problem(answer)["title"]) == (403, "NotEligible")


def test_people_hold_and_let_go(yard: Yard) -> None:
    """One story, whose parts go on where the ones before have ended."""
    _one_owner_approves_who_did_not_write_it(yard)
    _an_approval_counts_for_nothing_else(yard)
    _a_freeze_holds_tells_where_and_lets_two_through(yard)
    _a_freeze_is_made_and_lifted_on_the_command_line(yard)
    _what_a_branch_would_deploy_is_told_with_what_stands_in_its_way(yard)
    _no_other_door_starts_what_is_held(yard)
    _only_the_gate_describes_its_requests(yard)
    _whoever_changes_the_environment_has_a_part_in_it(yard)
