"""Approvals in a real browser: what is typed while others decide, what is compared, and words that are too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.api.dashboard.people import Pages
from tests.browser.conftest import Visit, accessible
from tests.support import eventually_now

PHONE = {"width": 360, "height": 740}
LONG = "because-of-" + "x" * 300
ENVIRONMENTS = """\
apiVersion: steersman/v1
kind: Environment
metadata: {name: prod, project: shop}
spec: {protected: true, inputs: {region: eu}}
---
apiVersion: steersman/v1
kind: Environment
metadata: {name: dev, project: shop}
"""
FREEZE = f"""\
apiVersion: steersman/v1
kind: Freeze
metadata: {{name: peak, project: shop}}
spec: {{reason: {LONG}, from: "2020-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z", environments: [dev]}}
"""


def deployment(name: str, environment: str = "prod") -> str:
    """One with scripts of its own, and values that are long."""
    return f"""\
apiVersion: steersman/v1
kind: Deployment
metadata: {{name: {name}, project: shop, environment: {environment}}}
spec:
  run_smoke: false
  scripts: {{deploy: {{inline: "echo {name}; echo {LONG}"}}}}
  inputs: {{size: s, where: "{LONG}"}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Three deploys wait for somebody's word, one for the end of a freeze."""
    files = {f"{name}.yaml": deployment(name) for name in ("a", "b", "c")}
    more = {"environments.yaml": ENVIRONMENTS, "freeze.yaml": FREEZE, "d.yaml": deployment("d", "dev")}
    with Pages.of(tmp_path_factory.mktemp("approvals"), files | more) as found:
        eventually_now(lambda: len(waiting(found)) == 3)
        yield found


def waiting(world: Pages) -> dict[str, dict[str, Any]]:
    """What waits for somebody's word, by the name of what would be deployed."""
    items = world.get("/reconciler/approvals")["items"]
    return {item["key"].rpartition("/")[2]: item for item in items}


def test_what_is_typed_stays_while_another_decides(world: Pages, visit: Visit) -> None:
    """The request above goes; text, focus and the request that they are about stay."""
    first, second = waiting(world)["a"], waiting(world)["b"]
    with visit(world.running) as page:
        page.goto(f"{world.running.url}/ui/approvals")
        comment = page.locator(f"#comment-{second['request']}")
        comment.press_sequentially("not before the week")
        page.evaluate("window.same = true")
        body = {"request": first["request"], "decision": "approved", "digest": first["digest"]}
        world.client.post("/reconciler/approvals", json=body).raise_for_status()
        expect(page.locator(f"#request-{first['request']}")).to_have_count(0)
        assert page.evaluate("window.same")
        assert page.evaluate("document.activeElement.id") == f"comment-{second['request']}"
        comment.press_sequentially("end")
        expect(comment).to_have_value("not before the weekend")
        page.locator(f"#decide-{second['request']}").get_by_role("button", name="Reject").click()
        expect(page.locator(f"#request-{second['request']}")).to_have_count(0)
    items = world.get("/reconciler/approvals", all="true")["items"]
    (done,) = [item for item in items if item["request"] == second["request"]]
    assert (done["state"], done["rules"][0]["decisions"][0]["comment"]) == (
        "rejected",
        "not before the weekend",
    )


def test_what_is_compared_is_accessible_and_fits(world: Pages, visit: Visit) -> None:
    """On a phone too, with words that are longer than it is wide."""
    with visit(world.running, viewport=PHONE) as page:
        for path in (
            "/ui/approvals",
            "/ui/resources/Deployment/shop/dev/d",
            "/ui/resources/Freeze/shop/peak",
            "/",
        ):
            page.goto(f"{world.running.url}{path}")
            expect(page.locator("main")).to_contain_text("shop")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            accessible(page)


def test_a_time_of_another_year_says_which(world: Pages, visit: Visit) -> None:
    """The end of a token, say."""
    made = world.token("read", name="yearly", days=365)
    ends = datetime.fromisoformat(made["expires"]).astimezone(UTC).year
    with visit(world.running, timezone_id="UTC") as page:
        page.goto(f"{world.running.url}/ui/tokens")
        row = page.get_by_role("row").filter(has_text="yearly")
        end = row.locator("td").nth(5)
        expect(end).not_to_contain_text("UTC")
        now = datetime.now(UTC).year
        assert (str(ends) in end.inner_text()) is (ends != now)
        assert str(now) not in row.locator("td").nth(4).inner_text()
