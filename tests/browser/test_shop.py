"""The dashboard as somebody uses it: the shop's example, in a real browser, from signing in to production."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, accessible
from tests.example_shop import PORTS, Shop, hook
from tests.support import Process, stop

PAGES = {
    "/": "Overview",
    "/ui/projects": "Projects",
    "/ui/projects/shop": "shop",
    "/ui/resources": "Resources",
    "/ui/resources?kind=Deployment&health=Healthy": "Resources",
    "/ui/jobs": "Jobs",
    "/ui/pipelines": "Pipelines",
    "/ui/releases": "Releases",
    "/ui/approvals": "Approvals",
    "/ui/calendar": "",
    "/ui/changes": "Changes",
    "/ui/plan?ref=main": "Plan of main",
    "/ui/executors": "Executors",
    "/ui/events": "Events",
    "/ui/tokens": "Tokens",
    "/ui/search?q=web": "What fits “web”",
    "/ui/docs": "",
    "/ui/docs/first-pipeline": "",
    "/ui/docs/reference-build": "",
    "/ui/docs/cli": "",
}
FREEZE = """\
apiVersion: steersman/v1
kind: Freeze
metadata: {name: party, project: shop}
spec: {reason: "We celebrate", environments: [staging], from: "2020-01-01T00:00:00Z", until: "2020-01-02T00:00:00Z"}
"""
COLOURS = ("light", "dark")
RUNS = "/api/v1/pipelines/by-project/shop/by-name/release/executions/"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Process]]:
    """The shop, while its pipeline asks whether the first release may go to production."""
    with hook() as (address, _told):
        shop = Shop(tmp_path_factory.mktemp("shop"), address)
        running = shop.daemon()
        try:
            running.wait_for(asked, 90)
            yield shop, running
        finally:
            stop(running)
            for port in PORTS:
                if shop.page(port):
                    shop.quit(port)


def asked(client: Any) -> bool:
    """Does a run wait for people?"""
    found = client.get("/reconciler/events", params={"kind": "pipeline-confirmation-requested"})
    return bool(found.json()["items"])


@pytest.mark.parametrize("colours", COLOURS)
def test_every_page_loads_and_is_accessible(shop: tuple[Shop, Process], visit: Visit, colours: str) -> None:
    """With data, in both schemes; no error in the console, no request to another host (`visit`), no serious fault."""
    _, running = shop
    with running.client() as client:
        keys = [item["key"] for item in client.get("/reconciler/resources").json()["items"]]
        revision = client.get("/reconciler/status").json()["source"]["last_applied_revision"]
        runs = client.get(RUNS).json()
    first = {key.partition("/")[0]: key for key in keys}
    pages = PAGES | {f"/ui/resources/{key}": "" for key in first.values()} | {f"/ui/changes/{revision}": ""}
    pages |= {
        "/ui/jobs/1": "",
        "/ui/pipelines/shop/release": "",
        f"/ui/pipelines/shop/release/{runs[0]['id']}": "",
    }
    with visit(running, color_scheme=colours) as page:
        for path, heading in pages.items():
            answer = page.goto(f"{running.url}{path}")
            assert answer is not None
            assert answer.status == 200, path
            assert page.locator("h1").count() == 1, path
            assert heading in page.locator("h1").inner_text(), path
            accessible(page)


def test_pages_fit_on_a_phone(shop: tuple[Shop, Process], visit: Visit) -> None:
    """Nothing is wider than the screen; what has no room beside the rest keeps its width, and is scrolled to."""
    _, running = shop
    narrow = "cells => cells.filter(c => c.getBoundingClientRect().width < 200).map(c => c.innerText)"
    with visit(running, viewport={"width": 360, "height": 740}) as page:
        for path in (
            "/",
            "/ui/jobs",
            "/ui/projects/shop",
            "/ui/resources",
            "/ui/events",
            "/ui/tokens",
            "/ui/calendar",
            "/ui/docs",
        ):
            page.goto(f"{running.url}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert page.locator("td:has(> a.mono[href^='/ui/resources/'])").evaluate_all(narrow) == [], path
            here = page.locator(".side nav a[aria-current=page]")
            assert (
                path == "/ui/tokens" or here.evaluate("link => link.getBoundingClientRect().right") <= 360
            ), path


def test_pages_are_whole_without_scripts(shop: tuple[Shop, Process], visit: Visit) -> None:
    """Times are told in UTC then, and forms work."""
    _, running = shop
    with visit(running, java_script_enabled=False) as page:
        expect(page.get_by_role("link", name="Build/shop/ci/web").first).to_be_visible()
        expect(page.locator("time").first).to_have_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"))
        page.goto(f"{running.url}/ui/resources")
        page.get_by_label("Kind").select_option("Deployment")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("link", name="Deployment/shop/staging/shop/web")).to_be_visible()
        expect(page.get_by_role("link", name="Project/shop")).to_have_count(0)
        page.goto(f"{running.url}/ui/jobs/1")
        expect(page.locator("#log-text")).to_contain_text("is registered")


def test_in_and_out(shop: tuple[Shop, Process], visit: Visit) -> None:
    """By the keyboard alone; a wrong token is told."""
    _, running = shop
    with visit(running, signed_in=False, refused=(403,)) as page:
        accessible(page)
        page.keyboard.type("stm_wrong")  # the field has the focus
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not, or no longer, good")
        page.get_by_label("Token").fill(running.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.keyboard.press("g")
        page.keyboard.press("p")
        expect(page.get_by_role("heading", name="Projects")).to_be_visible()
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 25)"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(running.url)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_pages_keep_up_with_what_happens(shop: tuple[Shop, Process], visit: Visit) -> None:
    """Without being loaded again; what somebody has opened or typed meanwhile stays."""
    made, running = shop
    with visit(running) as page:
        page.goto(f"{running.url}/ui/resources?kind=Freeze")
        expect(page.get_by_text("Nothing fits these filters")).to_be_visible()
        page.get_by_label("Project").fill("typed")
        page.evaluate("window.same = true")
        made.push(made.specs, {"party.yaml": FREEZE}, "Celebrate")
        expect(page.get_by_role("link", name="Freeze/shop/party")).to_be_visible()
        assert page.evaluate("window.same")
        assert page.get_by_label("Project").input_value() == "typed"


def test_many_windows_share_one_stream(shop: tuple[Shop, Process], visit: Visit) -> None:
    """A browser has six connections to a server; the ninth window loads too, and hears of what changes."""
    made, running = shop
    with visit(running) as page:
        windows = [page.context.new_page() for _ in range(8)]
        for window in windows:
            window.goto(f"{running.url}/ui/resources?kind=Freeze")
        freeze = FREEZE.replace("name: party", "name: crowd")
        made.push(made.specs, {"crowd.yaml": freeze}, "All of them")
        for window in windows:
            expect(window.get_by_role("link", name="Freeze/shop/crowd")).to_be_visible()


def test_a_refused_form_keeps_what_was_typed(shop: tuple[Shop, Process], visit: Visit) -> None:
    """And what is wrong stands on the page."""
    _, running = shop
    with visit(running, refused=(422,)) as page:
        page.goto(f"{running.url}/ui/tokens")
        page.get_by_label("Name").fill("laptop of Ana")
        page.get_by_label("Good for days").fill("100000")
        page.get_by_role("button", name="Make the token").click()
        expect(page.get_by_role("alert")).to_contain_text("days")
        assert page.get_by_label("Name").input_value() == "laptop of Ana"
