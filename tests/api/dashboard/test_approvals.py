"""What an approval is about, on the page and in the native API: old and new, by name and value, secrets for nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest

from tests.api.dashboard.people import Pages
from tests.shop import Shop
from tests.support import eventually_now, process

WEB, PAY = "Deployment/shop/prod/shop/web", "Deployment/shop/prod/pay"
PLAN_INPUTS = [
    {"id": "size", "default": "s"},
    {"id": "pin", "default": "", "sensitive": True},
    {"id": "token_kind", "default": "opaque"},
]
ONLY_PUSH = {"run_deploy": False, "run_tests": False, "run_destroy": False}


class Yard(Pages):
    """A protected environment."""

    shop: Shop

    def apply(self) -> str:
        """Commit what is declared; the commit."""
        made = self.shop.commit()
        self.client.post("/reconciler/sync", json={}).raise_for_status()
        return made

    def asked(self, key: str, but: int = 0) -> dict[str, Any]:
        """What waits for somebody's word, and is not this request."""

        def found() -> dict[str, Any]:
            items = self.get("/reconciler/approvals")["items"]
            return next((item for item in items if item["key"] == key and item["request"] != but), {})

        item: dict[str, Any] = eventually_now(found)
        return item

    def approve(self, item: dict[str, Any]) -> None:
        """And wait until it is deployed."""
        body = {"request": item["request"], "decision": "approved", "digest": item["digest"]}
        self.client.post("/reconciler/approvals", json=body).raise_for_status()
        self.ends(item["job"])

    def build(self) -> None:
        """One more version."""
        made = self.client.post("/reconciler/trigger", json={"key": "Build/shop/dev/web"}).raise_for_status()
        assert self.running.job(made.json()["number"], "passed", "failed", seconds=60)["state"] == "passed"

    def card(self, item: dict[str, Any]) -> str:
        """Of the page, what it says of one request, as text without tags."""
        page = (
            self.page("/ui/approvals")
            .partition(f'id="request-{item["request"]}"')[2]
            .partition("</section>")[0]
        )
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("approvals")
    shop = Shop(folder)
    shop.push({"escape.yml": shop.plan(inputs=PLAN_INPUTS, deploy={"inline": "true # one"})})
    shop.build(ONLY_PUSH)
    shop.declare("Environment", "prod", {"protected": True, "inputs": {"region": "eu"}}, project="shop")
    shop.commit()
    with (
        process(shop.specs.path, folder / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running,
        running.client() as client,
    ):
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        yard = Yard(running, shop.specs, client)
        yard.shop, yard.secrets = shop, {"admin": running.token or ""}
        yield yard


def test_a_release_is_shown_beside_the_one_that_stands(yard: Yard) -> None:
    """Versions, inputs and the environment's, scripts, commits; of what is sensitive, that it changed."""
    yard.build()
    yard.shop.deployment("shop/web", {"version": "1.0.0", "inputs": {"size": "s", "pin": "hidden-1"}})
    before = yard.apply()
    first = yard.asked(WEB)
    assert first["subject"]["version"] == {"old": None, "new": "1.0.0"}
    assert first["subject"]["revision"] == {"old": None, "new": before}
    assert {each["changed"] for each in first["subject"]["inputs"]} == {False}
    assert "nothing → 1.0.0" in yard.card(first)
    yard.approve(first)

    items = yard.get("/reconciler/approvals", all="true")["items"]
    (done,) = [each for each in items if each["request"] == first["request"]]
    assert (done["state"], done["digest"], done["subject"]) == ("approved", first["digest"], None)
    assert first["digest"] in yard.page("/ui/approvals?all=true")

    yard.shop.push({"escape.yml": yard.shop.plan(inputs=PLAN_INPUTS, deploy={"inline": "true # two"})})
    yard.build()
    inputs = {"size": "xl", "pin": "hidden-2", "token_kind": "jwt"}
    yard.shop.deployment("shop/web", {"version": "1.0.1", "inputs": inputs})
    after = yard.apply()
    item = yard.asked(WEB, first["request"])
    subject = item["subject"]
    assert subject["version"] == {"old": "1.0.0", "new": "1.0.1"}
    assert subject["revision"] == {"old": before, "new": after}
    assert subject["inputs"] == [
        {"name": "pin", "old": "***", "new": "***", "changed": True},
        {"name": "size", "old": "s", "new": "xl", "changed": True},
        {"name": "token_kind", "old": None, "new": "jwt", "changed": True},
    ]
    assert subject["environment_inputs"] == [{"name": "region", "old": "eu", "new": "eu", "changed": False}]
    changed = {each["stage"]: each["changed"] for each in subject["scripts"]}
    assert changed == {"deploy": True, "smoke": False}
    assert subject["package"]["old"] != subject["package"]["new"] == item["package"]
    assert "hidden-" not in json.dumps(yard.get("/reconciler/approvals", all="true"))

    card = yard.card(item)
    assert "Deploy 1.0.0 → 1.0.1" in card
    assert "size s xl changed" in card
    assert "pin *** *** changed" in card
    assert "region eu eu Providers" in card or "region eu eu Scripts" in card
    assert "-true # one +true # two" in card
    assert f"Declared by {after[:10]} , deployed last: {before[:10]}" in card
    assert item["digest"] in card
    assert "hidden-" not in card


def test_scripts_of_its_own_are_shown_by_lines(yard: Yard) -> None:
    """Only those that differ are a difference; without a release a name tells what is secret."""

    def declare(line: str, password: str) -> None:
        scripts = {"deploy": {"inline": f"echo begin\n{line}\necho end\n"}, "smoke": {"inline": "true"}}
        inputs = {"db_password": password, "port": 80}
        yard.shop.deployment("pay", {"scripts": scripts, "inputs": inputs})
        yard.apply()

    declare("echo old", "hidden-3")
    first = yard.asked(PAY)
    yard.approve(first)
    declare("echo <new>", "hidden-3")
    item = yard.asked(PAY, first["request"])
    assert item["subject"]["inputs"] == [
        {"name": "db_password", "old": "***", "new": "***", "changed": False},
        {"name": "port", "old": 80, "new": 80, "changed": False},
    ]
    assert [each["changed"] for each in item["subject"]["scripts"]] == [True, False]
    card = yard.card(item)
    assert "echo begin -echo old +echo <new> echo end" in card
    assert "smoke true" in card
    assert "hidden-" not in yard.page("/ui/approvals")
