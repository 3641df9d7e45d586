"""The log of a job in a real browser, live, long and hostile; and a run that waits for somebody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from reconciler.execution import sandbox
from tests.api.conftest import FINISHED
from tests.browser.conftest import Visit, accessible
from tests.support import Process, SpecRepository, eventually_now, process

LINES = 200_000
HUGE = 700_000  # lines of some 50 bytes: more than is loaded at once
COLOURS = r"""
printf "\033[31mred \033[1mbold\033[0m plain \033[38;5;46mgreen\033[0m \033[38;2;10;20;250mblue\033[0m\n"
printf "<img src=x onerror=alert(1)>\033[2K\033]0;title\007<script>alert(1)</script>\n"
printf "10%%\r50%%\r100%%\n\033[4mover two\nlines\033[0m\ttab\n"
echo "::group::Setting up <b>"
seq 1 20
echo "::endgroup::"
echo behind
"""


def document(kind: str, name: str, spec: dict[str, Any], **scope: str) -> str:
    """A declared thing."""
    meta = {"name": name, **scope}
    return json.dumps({"apiVersion": "steersman/v1", "kind": kind, "metadata": meta, "spec": spec})


def printing(count: int) -> str:
    """A script of many lines."""
    return f"seq 1 {count} | sed 's/.*/line & of a log with some words, needle-&./'"


def specs(folder: Path) -> str:
    """Builds that print, of which one waits for a file in a folder, and a pipeline that asks."""
    executor: dict[str, Any] = {
        "images": {"host": {"type": "host"}}, "default_image": "host", "readable": [str(folder)]
    }  # fmt: skip
    if sandbox.bubblewrap() is None:
        executor["sandbox"] = "off"
    scripts = {
        "short": "echo hello",
        "waits": f"seq 1 300; until [ -e {folder}/go ]; do sleep 0.05; done; seq 301 900; printf last",
        "bytes": f"printf 'first\\npart \\377\\376'; until [ -e {folder}/more ]; do sleep 0.05; done; "
        f"printf ' more \\377'; until [ -e {folder}/end ]; do sleep 0.05; done; printf ' end\\nlast\\n'",
        "wide": "head -c 3000000 /dev/zero | tr '\\0' w; echo; echo after",
        "colours": COLOURS,
        "long": printing(LINES),
        "huge": printing(HUGE),
    }
    phases = [
        {"name": "question", "steps": [{"type": "confirmation", "name": "go"}]},
        {"name": "build", "steps": [{"type": "build", "environment": "dev", "build": "short"}]},
    ]
    scope = {"project": "shop"}
    documents = [
        document("Project", "shop", {}),
        document("Environment", "dev", {}, **scope),
        document("Executor", "local", executor),
        document("Pipeline", "way", {"phases": phases}, **scope),
        *(
            document("Build", name, {"tasks": [{"name": "main", "run": script}]}, **scope, environment="dev")
            for name, script in scripts.items()
        ),
    ]
    return "\n---\n".join(documents)


class Place:
    """A daemon, and the folder that a script looks into."""

    def __init__(self, running: Process, folder: Path) -> None:
        self.running = running
        self.folder = folder

    def start(self, key: str) -> int:
        """A new job, or a new run."""
        with self.running.client() as client:
            made = client.post("/reconciler/trigger", json={"key": key})
        number: int = made.raise_for_status().json()["number"]
        return number

    def ended(self, name: str) -> str:
        """The page of a new job, once it has ended."""
        number = self.start(f"Build/shop/dev/{name}")
        self.running.job(number, *FINISHED, seconds=60)
        return f"{self.running.url}/ui/jobs/{number}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Nothing has run yet."""
    folder = tmp_path_factory.mktemp("log")
    seen = folder / "seen"
    seen.mkdir()
    repo = SpecRepository(folder / "specs")
    repo.commit({"specs.yaml": specs(seen)})
    with process(repo.path, folder / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        head = repo.head()
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )
        yield Place(running, seen)


def line(page: Page, number: int) -> Any:
    """A line of the log."""
    return page.locator(f'.row[data-line="{number}"]').first


def in_view(page: Page, number: int) -> None:
    """A line is drawn, and lies in the window of the log; it may be drawn anew meanwhile."""
    expect(line(page, number)).to_be_visible()

    def lies_in() -> bool:
        shown, window = line(page, number).bounding_box(), page.locator(".log-body").bounding_box()
        if shown is None or window is None:
            return False
        return window["y"] - 1 <= shown["y"] <= window["y"] + window["height"]

    eventually_now(lies_in)


def test_a_log_grows_live_and_the_end_is_followed(place: Place, visit: Visit) -> None:
    """Until somebody scrolls up; a hidden page has no stream, and goes on where it stopped."""
    number = place.start("Build/shop/dev/waits")
    with visit(place.running) as page:
        streams: list[int] = []
        page.on(
            "request",
            lambda asked: (
                streams.append(int(re.findall(r"offset=(\d+)", asked.url)[0]))
                if "/log/stream" in asked.url
                else None
            ),
        )
        page.goto(f"{place.running.url}/ui/jobs/{number}")
        expect(line(page, 300)).to_be_visible()
        follow = page.get_by_role("button", name="Follow")
        expect(follow).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#log-say")).to_have_text("Live.")
        hide(page, hidden=True)
        place.folder.joinpath("go").touch()
        place.running.job(number, *FINISHED)
        assert line(page, 900).count() == 0
        hide(page, hidden=False)
        expect(line(page, 901)).to_have_text(re.compile("last$"))
        in_view(page, 901)
        expect(page.locator("#log-say")).to_have_text("It has ended: passed.")
        expect(page.locator("#job .badge").first).to_have_text("passed")
        assert streams[1] == len("".join(f"{n}\n" for n in range(1, 301)))
        page.locator(".log-body").hover()
        page.mouse.wheel(0, -2000)
        expect(follow).to_have_attribute("aria-pressed", "false")
        expect(line(page, 901)).to_have_count(0)
        follow.click()
        in_view(page, 901)


def hide(page: Page, *, hidden: bool) -> None:
    """What a browser tells a page that is no longer, or again, looked at."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_what_a_log_says_is_text_with_colours(place: Place, visit: Visit) -> None:
    """Sequences of terminals become classes or nothing; HTML stays text; groups fold."""
    with visit(place.running) as page:
        page.goto(place.ended("colours"))
        expect(line(page, 1).locator(".what")).to_have_text("red bold plain green blue")
        pieces = (
            line(page, 1)
            .locator(".what span")
            .evaluate_all("all => all.map((e) => [e.className, e.textContent])")
        )
        assert pieces == [["c1", "red "], ["c1 bold", "bold"], ["c10", "green"], ["c12", "blue"]]
        expect(line(page, 2).locator(".what")).to_have_text(
            "<img src=x onerror=alert(1)><script>alert(1)</script>"
        )
        assert page.locator(".log-body img, .log-body script").count() == 0
        expect(line(page, 3).locator(".what")).to_have_text("100%")
        expect(line(page, 5).locator(".under")).to_have_text("lines")
        assert line(page, 5).locator(".what").text_content() == "lines   tab"
        expect(line(page, 10)).to_be_visible()
        page.get_by_role("button", name="Fold Setting up <b>").click()
        expect(line(page, 10)).to_have_count(0)
        expect(line(page, 6)).to_contain_text("20 lines")
        expect(line(page, 28)).to_contain_text("behind")
        page.get_by_role("searchbox", name="Search in the log").fill("17")
        page.keyboard.press("Enter")  # what is found is unfolded
        in_view(page, 23)
        expect(page.locator("#log-found")).to_have_text("1 of 1")
        page.get_by_role("button", name="Times").click()
        expect(line(page, 1).locator(".at")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
        accessible(page)


def test_a_link_opens_at_its_lines(place: Place, visit: Visit) -> None:
    """One line, or a range; and a click makes such a link."""
    path = place.ended("long")
    with visit(place.running) as page:
        page.goto(f"{path}#L150000-L150002")
        expect(page.locator(".row.chosen")).to_have_count(3)
        in_view(page, 150_000)
        line(page, 150_005).locator(".nr").click()
        assert page.url.endswith("#L150005")
        line(page, 150_001).locator(".nr").click(modifiers=["Shift"])
        assert page.url.endswith("#L150001-L150005")
        expect(page.locator(".row.chosen")).to_have_count(5)
        copied = page.get_by_role("button", name="Copy link").get_attribute("data-copy")
        assert copied == f"{path}#L150001-L150005"


def test_a_long_log_scrolls_and_is_searched(place: Place, visit: Visit) -> None:
    """200,000 lines, of which the page holds those in view; forth and back by keys."""
    with visit(place.running) as page:
        page.goto(place.ended("long"))
        expect(line(page, 1)).to_contain_text("needle-1.")
        body = page.locator(".log-body")
        eventually_now(
            lambda: page.evaluate("document.querySelector('.log-size').offsetHeight") >= LINES * 20
        )
        for part in (0.1, 0.5, 0.9, 1):
            body.evaluate("(e, part) => { e.scrollTop = part * e.scrollHeight; }", part)
            wanted = max(1, min(LINES, round(part * LINES)))
            expect(line(page, wanted)).to_be_visible()
            assert page.locator(".row").count() < 150
        word = page.get_by_role("searchbox", name="Search in the log")
        word.fill(f"NEEDLE-{LINES}.".lower())
        word.press("Enter")
        expect(page.locator(".row.here mark")).to_have_text(f"needle-{LINES}.")
        expect(page.locator("#log-found")).to_have_text("1 of 1")
        word.fill("needle-9999")
        word.press("Enter")
        expect(page.locator("#log-found")).to_have_text(re.compile("^1 of 11$"))
        word.press("Shift+Enter")
        expect(page.locator("#log-found")).to_have_text("11 of 11")
        expect(page.locator(".row.here")).to_contain_text("needle-99999.")
        body.focus()
        page.keyboard.press("Home")
        expect(line(page, 1)).to_be_visible()
        page.get_by_role("button", name="Wrap").click()
        expect(line(page, 1)).to_be_visible()


def test_a_huge_log_begins_with_its_end(place: Place, visit: Visit) -> None:
    """Earlier lines are loaded, searched and linked all the same."""
    path = place.ended("huge")
    with visit(place.running) as page:
        page.goto(path)
        in_view(page, HUGE)
        earlier = page.get_by_role("button", name="Load earlier lines")
        told = page.locator("#log-earlier small")
        before = told.inner_text()
        earlier.click()
        expect(told).not_to_have_text(before)
        word = page.get_by_role("searchbox", name="Search in the log")
        word.fill("needle-4321.")
        word.press("Enter")
        in_view(page, 4321)
        expect(page.locator("#log-found")).to_have_text("1 of 1")
        expect(page.get_by_role("button", name="Load later lines")).to_be_visible()
        page.goto("about:blank")
        page.goto(f"{path}#L350000")
        in_view(page, 350_000)
        expect(line(page, 350_000)).to_contain_text("needle-350000.")
        page.get_by_role("button", name="Follow").click()
        in_view(page, HUGE)


def test_an_approval_lets_the_run_go_on_before_ones_eyes(place: Place, visit: Visit) -> None:
    """In place, and the page shows the end without being loaded again; the pages fit on a phone."""
    place.start("Pipeline/shop/way")
    with visit(place.running) as page:
        page.goto(f"{place.running.url}/ui/pipelines/shop/way")
        page.get_by_role("link", name="run 1").click()
        accessible(page)
        page.get_by_label("Comment").fill("a good one")
        page.get_by_role("button", name="Approve").click()
        expect(page.locator(".step").last).to_contain_text("ok")
        expect(page.locator(".actions .badge")).to_have_text("ok")
        expect(page.locator("blockquote")).to_have_text("a good one")
        page.get_by_role("link", name=re.compile(r"^job \d+$")).click()
        expect(line(page, 1)).to_contain_text("hello")
        job = page.url
    with visit(place.running, viewport={"width": 390, "height": 800}, color_scheme="dark") as page:
        for path in (job, f"{place.running.url}/ui/pipelines/shop/way", f"{place.running.url}/ui/jobs"):
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            accessible(page)


def test_a_page_is_whole_without_scripts(place: Place, visit: Visit) -> None:
    """The end of the log, the way to all of it, and the forms."""
    path = place.ended("short")
    with visit(place.running, java_script_enabled=False) as page:
        page.goto(path)
        expect(page.locator("#log-text")).to_have_text("hello")
        expect(page.get_by_role("link", name="Download")).to_be_visible()
        expect(page.locator("#log-tools")).to_be_hidden()
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_text("retry of")).to_be_visible()


def test_bytes_that_are_no_text_are_neither_lost_nor_doubled(place: Place, visit: Visit) -> None:
    """Also where the stream is begun again in the middle of their line."""
    number = place.start("Build/shop/dev/bytes")
    with visit(place.running) as page:
        page.goto(f"{place.running.url}/ui/jobs/{number}")
        expect(page.locator(".log-rows")).to_contain_text("part")
        page.evaluate("dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))")
        (place.folder / "more").touch()
        expect(page.locator(".log-rows")).to_contain_text("more")
        page.evaluate("dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))")
        (place.folder / "end").touch()
        expect(page.locator("#log-say")).to_contain_text("It has ended: passed")
        shown = page.locator(".row .what").all_inner_texts()
        assert [text.strip() for text in shown] == ["first", "part \ufffd\ufffd more \ufffd end", "last"]


def test_a_long_line_is_cut_and_says_so(place: Place, visit: Visit) -> None:
    """What follows it is there."""
    with visit(place.running) as page:
        page.goto(place.ended("wide"))
        expect(page.locator(".log-rows")).to_contain_text("after")
        assert page.locator(".row .nr").count() <= 60
