"""Sign-in at an identity provider, in a real browser, from a page and back to it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.api.test_sign_in import environment, ready, real_provider, wait
from tests.browser.conftest import Visit
from tests.support import process


def test_somebody_comes_back_to_where_they_wanted_to_go(tmp_path: Path, visit: Visit) -> None:
    """With the rights of their User; signed out, the page is closed again."""
    repo = ready(tmp_path)
    with real_provider() as issuer, process(repo.path, tmp_path / "data", **environment(issuer)) as running:
        wait(running, repo.head())
        with visit(running, signed_in=False, elsewhere=True, refused=(404,)) as page:
            page.goto(f"{running.url}/ui/resources?kind=Project")
            page.get_by_role("link", name="Sign in with your organisation").click()
            page.locator("input[name=sub]").fill("sub-alice")
            page.locator("button[type=submit], input[type=submit], button").first.click()
            expect(page.get_by_role("link", name="Project/shop")).to_be_visible()
            assert page.url == f"{running.url}/ui/resources?kind=Project"
            expect(page.get_by_text("User/alice")).to_be_visible()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            page.goto(f"{running.url}/ui/resources")
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
