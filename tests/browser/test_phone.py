"""Lists on the screen of a phone: each row is there whole."""

from __future__ import annotations

import pytest

from tests.api.conftest import build
from tests.api.dashboard.people import Pages
from tests.browser.conftest import Visit

_LONG = "a-name-that-is-rather-long-for-a-phone"
_CUT = """() => [...document.querySelectorAll(".scroll td")]
    .filter(each => each.getBoundingClientRect().right > innerWidth || each.scrollWidth > each.clientWidth + 1)
    .map(each => each.textContent)"""


def test_rows_fit_a_phone(tmp_path_factory: pytest.TempPathFactory, visit: Visit) -> None:
    files = {"long.yaml": build(_LONG, "[{name: main, run: exit 3}]")}
    with Pages.of(tmp_path_factory.mktemp("phone"), files) as world:
        world.run(_LONG)
        for width in (390, 1280):
            with visit(world.running, viewport={"width": width, "height": 844}) as page:
                for path in ("/ui/jobs", "/ui/resources"):
                    page.goto(f"{world.url}{path}")
                    assert page.get_by_text(f"Build/shop/_/{_LONG}").is_visible()
                    assert page.evaluate(_CUT) == []
                    heights = page.locator(".filters :is(input, select, button)").evaluate_all(
                        "found => found.map(each => each.getBoundingClientRect().height)"
                    )
                    assert len(set(heights)) == 1
