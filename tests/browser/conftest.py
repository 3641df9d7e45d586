"""A real Chromium for the tests of the dashboard: Debian's, driven by Playwright.

What every page must keep is checked when a visit ends: no error in the console, and no request to another host.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support import Process

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
SERIOUS = ("serious", "critical")
_PATIENCE = 30_000  # milliseconds
expect.set_options(timeout=_PATIENCE)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, started; skips where none is installed."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium here: install Debian's package of that name, or name one with CHROMIUM=…")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module."""
    with chromium() as found:
        yield found


Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Visit:
    """`with visit(running, …) as page`: a window of somebody, signed in by default."""

    @contextmanager
    def visiting(
        running: Process,
        *,
        signed_in: bool = True,
        refused: tuple[int, ...] = (),
        elsewhere: bool = False,
        **how: Any,
    ) -> Iterator[Page]:
        """`refused`: statuses that are meant, which a browser reports in its console; `elsewhere`: pages of others are
        visited too, of which nothing is asked."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | how)
        context.set_default_timeout(_PATIENCE)
        try:
            if signed_in:
                cookie = {"name": "X-Escape-Token", "value": running.token, "url": running.url}
                context.add_cookies([cookie])  # type: ignore[list-item]
            page = context.new_page()
            wrong: list[str] = []
            host = urlsplit(running.url).netloc
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "console",
                lambda told: (
                    wrong.append(told.text)
                    if told.type in ("error", "warning")
                    and not any(str(code) in told.text for code in refused)
                    else None
                ),
            )
            page.on(
                "request",
                lambda asked: (
                    wrong.append(asked.url)
                    if urlsplit(asked.url).scheme not in ("data", "blob")
                    and urlsplit(asked.url).netloc != host
                    else None
                ),
            )
            page.goto(running.url)
            yield page
            assert elsewhere or wrong == []
        finally:
            context.close()

    return visiting


def accessible(page: Page) -> None:
    """axe-core finds nothing serious."""
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in SERIOUS
    ]
    assert serious == [], (page.url, serious)
