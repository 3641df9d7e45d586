"""Every page and form of the dashboard: who gets it, what it says to programs that do not behave, how heavy it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from api.dashboard import routes
from tests.api.conftest import build
from tests.api.dashboard.people import Pages
from tests.support import eventually_now

BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: "ok", project: shop}
spec:
  inputs: [{id: where, default: "<b>here</b>"}]
  tasks: [{name: main, run: "echo '<script>alert(1)</script>'"}]
"""
PIPELINE = """\
apiVersion: steersman/v1
kind: Pipeline
metadata: {name: way, project: shop}
spec: {}
"""
WHO = ("nobody", "foreign", "reader", "admin")
TABLE = {
    "/ui": "303 303 303 303",
    "/ui/{rest:path}": "303 404 404 404",
    "/ui/search": "303 200 200 200",
    "/ui/projects": "303 200 200 200",
    "/ui/projects/{name:str}": "303 404 200 200",
    "/ui/resources": "303 200 200 200",
    "/ui/resources/{key:path}": "303 404 200 200",
    "/ui/releases": "303 200 200 200",
    "/ui/approvals": "303 200 200 200",
    "/ui/calendar": "303 200 200 200",
    "/ui/changes": "303 200 200 200",
    "/ui/changes/{revision:str}": "303 200 200 200",
    "/ui/plan": "303 200 200 200",
    "/ui/executors": "303 200 200 200",
    "/ui/events": "303 200 200 200",
    "/ui/tokens": "303 200 200 200",
    "/ui/jobs": "303 200 200 200",
    "/ui/jobs/{number:int}": "303 404 200 200",
    "/ui/jobs/{number:int}/log/index": "303 404 200 200",
    "/ui/pipelines": "303 200 200 200",
    "/ui/docs": "200 200 200 200",
    "/ui/docs/{name:str}": "404 404 404 404",
    "/ui/sign-in": "200 200 200 200",
    "/ui/assets/{digest:str}/{name:str}": "404 404 404 404",
    "/ui/live": "303 200 200 200",
}
SAMPLES = {
    "rest:path": "nope",
    "name:str": "shop",
    "key:path": "Build/shop/_/ok",
    "number:int": "1",
    "digest:str": "x",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One finished job, in a project that some of them see."""
    files = {"b.yaml": BUILD, "w.yaml": PIPELINE}
    with Pages.of(tmp_path_factory.mktemp("pages"), files, "<script>x</script>") as found:
        assert found.run("ok")["state"] == "passed"
        yield found


def address(world: Pages, path: str) -> str:
    """A route with its parameters filled in."""
    known = SAMPLES | {"revision:str": world.repo.head()}
    return re.sub(r"\{([^}]+)\}", lambda found: known[found[1]], path)


def paths(method: str) -> set[str]:
    """Of all routes of this method below /ui."""
    return {
        path if path.startswith("/") else f"/{path}"
        for handler in routes.HANDLERS
        if method in handler.http_methods
        for path in handler.paths
        if path != "/"
    }


def test_every_page_is_in_the_table() -> None:
    """But those of runs, which have tests of their own."""
    assert {path for path in paths("GET") if not path.startswith("/ui/pipelines/")} == TABLE.keys()


@pytest.mark.parametrize("path", TABLE)
def test_who_gets_a_page(world: Pages, path: str) -> None:
    """Who is not signed in is sent to do so; what one has no role on is not there."""
    found = []
    for who in WHO:
        with world.browser(who) as browser, browser.stream("GET", address(world, path)) as answer:
            found.append(answer.status_code)
            if answer.status_code != 303 and answer.headers["content-type"].startswith("text/html"):
                answer.read()
                check(answer)
            if who == "nobody" and answer.status_code == 303:
                assert answer.headers["location"].startswith("/ui/sign-in?to=%2Fui")
    assert " ".join(map(str, found)) == TABLE[path]


class Seen(HTMLParser):
    """What of a page could run or be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.fetched: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inside = tag
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "formaction"):
            if given.get(name):
                self.fetched.append(str(given[name]))

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style") and data.strip():
            self.inline.append(data)


def check(answer: httpx.Response) -> None:
    """Small, with a strict policy, and nothing in it that comes from elsewhere or runs."""
    assert len(answer.content) < 200_000
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    seen = Seen()
    seen.feed(answer.text)
    assert seen.inline == []
    assert [each for each in seen.fetched if not each.startswith(("/", "#", "data:", "?"))] == []
    assert "<script>alert" not in answer.text
    assert "<script>x" not in answer.text
    assert "<b>here" not in answer.text


def test_what_was_declared_is_shown_as_text(world: Pages) -> None:
    """Whatever it is made of."""
    with world.browser("admin") as browser:
        assert "&lt;script&gt;alert(1)" in browser.get("/ui/resources/Build/shop/_/ok").text
        assert "&lt;b&gt;here" in browser.get("/ui/resources/Build/shop/_/ok").text
        assert "&lt;script&gt;x" in browser.get("/ui/changes").text


@pytest.mark.parametrize("path", sorted(paths("POST")))
def test_a_form_counts_only_from_a_page_of_this_server(world: Pages, path: str) -> None:
    """Nobody's form elsewhere is taken: not with the cookie that the browser sends along, and not without one."""
    target = re.sub(r"\{[^}]+\}", "1", path)
    for origin in ("https://evil.example", "null", None):
        headers = {} if origin is None else {"Origin": origin}
        with world.browser("admin") as browser:
            del browser.headers["Origin"]
            answer = browser.post(target, data={"token": world.running.token}, headers=headers)
            assert answer.status_code == 403, (origin, answer.text)
            assert "set-cookie" not in answer.headers
    with world.browser("nobody") as browser:
        answer = browser.post(target, data={"x": "y"})
        assert answer.status_code in (401, 403, 303), answer.text


@pytest.mark.parametrize("path", sorted(paths("POST")))
def test_what_is_no_form_is_refused(world: Pages, path: str) -> None:
    """400, in a page; but what takes nothing does not look at it."""
    target = re.sub(r"\{[^}]+\}", "1", path)
    with world.browser("admin") as browser:
        for content, kind in ((b"{}", "application/json"), (b"a=%00", "application/x-www-form-urlencoded")):
            answer = browser.post(target, content=content, headers={"Content-Type": kind})
            if "{" in path:  # there is nothing of that name; some of these need no field
                assert answer.status_code in (303, 400, 404, 409), answer.text
            elif path == "/ui/sign-out":
                assert answer.status_code == 303
                browser.cookies.set("X-Escape-Token", world.running.token)
            else:
                assert answer.status_code == 400, (answer.status_code, answer.text)
                check(answer)


def test_in_and_out_by_a_token(world: Pages) -> None:
    """A wrong one is told, and where one wanted to go is kept; nobody is sent to another server."""
    with world.browser("nobody") as browser:
        page = browser.get("/ui/jobs?state=failed")
        assert page.headers["location"] == "/ui/sign-in?to=%2Fui%2Fjobs%3Fstate%3Dfailed"
        wrong = browser.post("/ui/sign-in", data={"token": "stm_wrong", "to": "/ui/jobs?state=failed"})
        assert wrong.status_code == 403
        assert 'value="/ui/jobs?state=failed"' in wrong.text
        assert "set-cookie" not in wrong.headers
        for to in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"):
            answer = browser.post("/ui/sign-in", data={"token": world.running.token, "to": to})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
        answer = browser.post(
            "/ui/sign-in", data={"token": f" {world.running.token}\n", "to": "/ui/jobs?state=failed"}
        )
        assert answer.headers["location"] == "/ui/jobs?state=failed"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert browser.get("/").status_code == 200
        assert browser.post("/ui/sign-out").status_code == 303
        assert browser.get("/").headers["location"] == "/ui/sign-in?to=%2F"
    with world.running.client() as client:  # a token from elsewhere goes on
        assert client.get("/reconciler/whoami").status_code == 200


def test_programs_get_one_line_of_the_home(world: Pages) -> None:
    """Escape's Home (6.6): text, with or without a token."""
    answer = httpx.get(world.running.url)
    assert answer.status_code == 200
    assert answer.text.startswith("Steersman ")
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_refused_form_keeps_what_was_written(world: Pages) -> None:
    """And says what is wrong."""
    with world.browser("admin") as browser:
        answer = browser.post(
            "/ui/tokens", data={"name": "my <laptop>", "days": "ninety", "level": "write", "project": "shop"}
        )
        assert answer.status_code == 422
        assert "days is a whole number" in answer.text
        assert 'value="my &lt;laptop&gt;"' in answer.text
        assert "<option selected>write" in answer.text
        assert 'name="project" value="shop"' in answer.text
        answer = browser.post("/ui/trigger", data={"key": "Build/shop/_/ok", "input:nothing": "there"})
        assert answer.status_code == 422
        assert "nothing" in answer.text
        long = {f"field{number}": "x" for number in range(300)}
        assert browser.post("/ui/tokens", data=long).status_code == 400
        assert browser.post("/ui/tokens", data={"name": "x" * 70_000}).status_code == 413
        answer = browser.post(
            "/ui/approvals", data={"request": "77", "decision": "approved", "comment": "yes"}
        )
        assert answer.status_code == 404
        assert "there is no request 77" in answer.text


def test_what_may_not_be_done_is_refused(world: Pages) -> None:
    """403 with a sentence; what is not there for somebody is 404."""
    with world.browser("reader") as browser:
        page = browser.get("/ui/resources/Build/shop/_/ok").text
        assert "You may not start it" in page
        assert "<h2>Start it</h2>" not in page
        answer = browser.post("/ui/trigger", data={"key": "Build/shop/_/ok"})
        assert answer.status_code == 403
        assert browser.post("/ui/sync", data={}).status_code == 403
    with world.browser("foreign") as browser:
        assert browser.post("/ui/trigger", data={"key": "Build/shop/_/ok"}).status_code == 404
        assert "shop" not in browser.get("/ui/projects").text
        assert "Build/shop" not in browser.get("/").text


def test_a_token_is_made_shown_once_and_revoked(world: Pages) -> None:
    """By a form each."""
    with world.browser("admin") as browser:
        answer = browser.post("/ui/tokens", data={"name": "laptop", "days": "1", "level": "read"})
        assert answer.status_code == 201
        (secret,) = set(re.findall(r"stm_[\w-]+", answer.text))
        assert secret not in browser.get("/ui/tokens").text
        other = httpx.Client(base_url=world.running.url, headers={"Authorization": f"Bearer {secret}"})
        with other:
            mine = other.get("/reconciler/whoami").json()["token"]
            assert browser.post(f"/ui/tokens/{mine}/revoke").status_code == 303
            assert other.get("/reconciler/whoami").status_code == 401


def test_who_is_signed_out_meanwhile_is_told(world: Pages) -> None:
    """A form of theirs does nothing and says how to go on; a cookie that is over is forgotten."""
    with world.browser("nobody") as browser:
        browser.cookies.set("X-Escape-Token", "stm_over")
        answer = browser.post("/ui/trigger", data={"key": "Build/shop/_/ok"})
        assert answer.status_code == 401
        assert "You are not signed in any more, so nothing was done" in answer.text
        out = browser.post("/ui/sign-out")
        assert out.status_code == 303
        assert 'X-Escape-Token=""' in out.headers["set-cookie"]


def test_odd_input_is_refused_in_words(world: Pages) -> None:
    """Digits of other scripts, actions that there are not, pages and lists beyond the end."""
    with world.browser("admin") as browser:
        assert browser.get("/ui/search", params={"q": "١٢"}).status_code == 200
        answer = browser.post("/ui/trigger", data={"key": "Build/shop/_/ok", "action": "zap"})
        assert answer.status_code == 422
        assert "There is nothing after that" in browser.get("/ui/resources?after=~").text
        assert "Sign out" in browser.get("/ui/nope").text
        head = browser.head("/ui/jobs")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "text/html; charset=utf-8"


def test_what_is_invalid_has_a_page(world: Pages) -> None:
    """Also what was never good; the commit says what is wrong in it."""
    kinds = ("Build", "Pipeline", "Repository", "Freeze", "Project", "Notification")
    files = {
        f"bad-{kind}.yaml": f"apiVersion: steersman/v1\nkind: {kind}\nmetadata: {{name: bad"
        f"{'' if kind == 'Project' else ', project: shop'}}}\nspec: {{wrong: 1}}\n"
        for kind in kinds
    }
    deployment = (
        "apiVersion: steersman/v1\nkind: Deployment\nmetadata: {name: bad, project: shop, environment: dev}\n"
    )
    head = world.repo.commit({**files, "bad.yaml": f"{deployment}spec: {{wrong: 1}}\n"})
    world.running.wait_for(
        lambda c: c.get("/reconciler/status").json()["source"]["last_attempted_revision"] == head
    )
    with world.browser("admin") as browser, world.running.client() as client:
        keys = [item["key"] for item in client.get("/reconciler/resources").json()["items"]]
        assert sum("bad" in key for key in keys) > len(kinds) - 2
        for key in keys:
            answer = browser.get(f"/ui/resources/{key}")
            assert answer.status_code == 200, key
            check(answer)
        assert browser.post("/ui/trigger", data={"key": "Build/shop/_/bad"}).status_code == 409
        assert "unknown field" in browser.get("/ui/changes").text


def test_a_large_change_is_shown_within_bounds(world: Pages) -> None:
    """Of what a page cannot bear it says how much more there is."""
    script = "\n".join(f"      echo line {number} of many that make it long enough" for number in range(60))
    many = "---\n".join(
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: many-{number}, project: shop}}\n"
        f"spec:\n  tasks:\n  - name: main\n    run: |\n{script}\n"
        for number in range(120)
    )
    world.repo.git("checkout", "-q", "-b", "large")
    world.repo.commit({"many.yaml": many})
    world.repo.git("checkout", "-q", "main")
    with world.browser("admin") as browser:
        page = browser.get("/ui/plan?ref=large")
        check(page)
        assert re.search(r"and \d+ more", page.text)


def test_what_is_declared_reads_as_it_was_written(world: Pages) -> None:
    """A script line by line, without fields that say nothing, also in the items of a list."""
    tasks = r'[{name: a, run: "echo one\necho two\n"}, {name: b, needs: [a], when: always, run: "true"}]'
    world.repo.commit({"lines.yaml": build("lines", tasks)})

    def shown() -> str | None:
        with world.browser() as browser:
            page = browser.get("/ui/resources/Build/shop/_/lines")
        found = re.search(r"<h2>What is declared.*?<code>(.*?)</code>", page.text, re.DOTALL)
        return unescape(found[1]) if found else None

    text = eventually_now(shown)
    assert "    run: |\n      echo one\n      echo two\n" in text
    assert "null" not in text
    assert "[]" not in text
    assert "{}" not in text


def test_search_goes_straight_to_the_only_thing(world: Pages) -> None:
    """To a job by its number, too."""
    with world.browser("admin") as browser:
        assert browser.get("/ui/search?q=%231").headers["location"] == "/ui/jobs/1"
        assert browser.get("/ui/search?q=ld/shop/_/OK").headers["location"] == "/ui/resources/Build/shop/_/ok"
        assert "Build/shop/_/ok" in browser.get("/ui/search?q=shop").text
        assert "No resource has this" in browser.get("/ui/search?q=nowhere").text


def test_a_plan_of_a_branch_is_readable(world: Pages) -> None:
    """What would change, and errors with their places."""
    world.repo.git("checkout", "-q", "-b", "other")
    world.repo.commit(
        {"b.yaml": BUILD.replace("echo", "printf"), "bad.yaml": BUILD.replace("spec:", "spce:")}
    )
    world.repo.git("checkout", "-q", "main")
    with world.browser("admin") as browser:
        page = browser.get("/ui/plan?ref=other")
        assert page.status_code == 200
        assert "bad.yaml:" in page.text
        assert "lacks" not in page.text
        check(page)
        world.repo.git("commit", "-q", "--allow-empty", "-m", "Further")
        page = browser.get("/ui/plan?ref=other")
        assert "other lacks 1 commit of main" in page.text
        check(page)
        answer = browser.get("/ui/plan?ref=nowhere")
        assert answer.status_code == 404
        assert "no branch, tag or commit" in answer.text
        assert 'value="nowhere"' in answer.text


def test_assets_are_kept_for_good_by_their_content(world: Pages) -> None:
    """And never by another name."""
    with world.browser("nobody") as browser:
        page = browser.get("/ui/sign-in").text
        found = set(re.findall(r"/ui/assets/[0-9a-f]{16}/[\w.-]+", page))
        assert found
        for each in found:
            answer = browser.get(each)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert (
                "immutable"
                not in browser.get(re.sub("[0-9a-f]{16}", "0" * 16, each)).headers["cache-control"]
            )
        assert browser.get("/ui/assets/x/..%2Fshell.py").status_code == 404


def test_colours_are_chosen_for_a_browser(world: Pages) -> None:
    """In a cookie, so that no page flashes."""
    with world.browser("admin") as browser:
        answer = browser.post("/ui/scheme", data={"scheme": "dark", "to": "/ui/jobs"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/ui/jobs")
        assert 'data-theme="dark"' in browser.get("/").text
        browser.post("/ui/scheme", data={"scheme": "x"})
        assert "data-theme" not in browser.get("/").text


def test_where_all_may_do_all_no_page_of_others_may(tmp_path: Path) -> None:
    """`insecure_no_auth` is for who reaches the address; not for what they happen to look at meanwhile."""
    open_ = {"STEERSMAN_INSECURE_NO_AUTH": "1"}
    with Pages.of(tmp_path, {"b.yaml": BUILD}, **open_) as pages:
        port = pages.url.rpartition(":")[2]
        form = {"key": "Build/shop/_/ok"}
        evil = {"Origin": "http://evil.example"}
        # a name of theirs for this address: the browser then takes all of it for one origin
        rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
        with httpx.Client(base_url=pages.url) as client:
            for headers in (evil, rebound, {"Origin": "null"}):
                assert client.post("/ui/trigger", data=form, headers=headers).status_code == 401
                answer = client.post("/reconciler/sync", headers=headers)
                assert answer.status_code == 401
            assert client.get("/reconciler/jobs", headers={"Host": "evil.example"}).status_code == 401
            assert client.get("/reconciler/jobs").json()["items"] == []
            own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
            assert client.post("/ui/trigger", data=form, headers=own).status_code == 303
            assert client.post("/reconciler/trigger", json=form).status_code == 202
