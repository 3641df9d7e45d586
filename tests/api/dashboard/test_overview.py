"""What the overview and its neighbours say, and to whom: no button that would be refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest

from tests.api.conftest import build
from tests.api.dashboard.people import Pages
from tests.support import eventually_now

FILES = {
    "stranger.yaml": "apiVersion: steersman/v1\nkind: User\nmetadata: {name: stranger}\n",
    "idle.yaml": build("idle", "[{name: main, run: 'true'}]"),
    "waiting.yaml": build("waiting", "[{name: main, traits: [gpu], run: 'true'}]"),
    "fails.yaml": build("fails", "[{name: main, run: 'false'}]"),
    "environments.yaml": "".join(
        f"---\napiVersion: steersman/v1\nkind: Environment\nmetadata: {{name: {name}, project: shop}}\n"
        for name in ("dev", "prod", "staging")
    ),
    "freeze.yaml": """\
apiVersion: steersman/v1
kind: Freeze
metadata: {name: peak, project: shop}
spec: {reason: Peak, from: "2020-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z", environments: [prod]}
---
apiVersion: steersman/v1
kind: Freeze
metadata: {name: calm, project: shop}
spec: {reason: Calm, from: "2020-01-01T00:00:00Z", until: "2999-01-01T00:00:00Z", environments: [staging]}
""",
}
DEPLOYMENT = """\
apiVersion: steersman/v1
kind: Deployment
metadata: {name: job, project: shop, environment: ENVIRONMENT}
spec: {run_smoke: false, scripts: {deploy: {inline: "true"}}, inputs: {size: SIZE}}
"""


def deployment(environment: str, size: str) -> str:
    """One with scripts of its own."""
    return DEPLOYMENT.replace("ENVIRONMENT", environment).replace("SIZE", size)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with Pages.of(tmp_path_factory.mktemp("overview"), FILES) as found:
        token = found.token("owner", subject="User/stranger")["token"]
        found.secrets = {**found.secrets, "stranger": token}
        yield found


def apply(world: Pages, files: dict[str, str | None]) -> None:
    """Commit, and wait for it."""
    world.repo.commit(files)
    world.client.post("/reconciler/sync", json={}).raise_for_status()


def words(page: str) -> str:
    """A page without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def test_who_has_no_role_is_told_nothing_of_the_source(world: Pages) -> None:
    """Neither by the overview nor by the native API; a role on anything is enough."""
    place = str(world.repo.path)
    with world.browser("stranger") as browser:
        source = browser.get("/reconciler/status", headers={"Accept": "application/json"}).json()["source"]
        assert {name: value for name, value in source.items() if value} == {}
    done = world.cli("status", STEERSMAN_TOKEN=world.secrets["stranger"])
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["resources", "0:"]), done.stderr
    assert place not in world.page("/", "stranger")
    assert world.repo.head()[:10] not in world.page("/", "stranger")
    for who in ("foreign", "reader"):
        assert place in world.page("/", who)
        assert world.repo.head()[:10] in world.page("/", who)


def test_executors_are_for_who_has_a_role(world: Pages) -> None:
    """Also the one that is there by itself, with its load and its traits."""
    page = world.page("/ui/executors", "stranger")
    assert "Executor/local" not in page
    assert "<meter" not in page
    assert "0 trials wait" in page
    assert "Executor/local" in world.page("/ui/executors", "reader")


def test_a_button_stands_only_where_it_is_not_refused(world: Pages) -> None:
    """To sync takes the role write somewhere; what is refused says what one has."""
    for who, may in (("stranger", False), ("reader", False), ("writer", True), ("admin", True)):
        assert ("Sync now" in world.page("/", who)) is may, who
        assert (world.post("/ui/sync", who).status_code == 303) is may, who
    assert "you have none" in world.post("/ui/sync", "stranger").text
    assert "you have read at most" in world.post("/ui/sync", "reader").text


def test_a_narrowed_token_ends_none_that_may_more(world: Pages) -> None:
    """It sees them, without a button; its own it may end."""
    small = world.token("read", project="shop", name="small")
    other = world.token("owner", name="whole")
    world.secrets = {**world.secrets, "small": small["token"]}
    page = world.page("/ui/tokens", "small")
    assert "whole" in page
    assert re.findall(r"/ui/tokens/([^/]+)/revoke", page) == [small["id"]]
    assert world.post(f"/ui/tokens/{other['id']}/revoke", "small").status_code == 403
    assert f"/ui/tokens/{other['id']}/revoke" in world.page("/ui/tokens", "admin")


def test_what_only_never_ran_is_of_no_concern(world: Pages) -> None:
    """What has failed is."""
    assert world.run("fails")["state"] == "failed"
    page = eventually_now(lambda: "Of concern" in (found := world.page("/")) and found)
    concern = page.partition("Of concern")[2].partition("</table>")[0]
    assert "Build/shop/_/fails" in concern
    assert "Build/shop/_/idle" not in concern


def test_a_freeze_that_holds_nothing_yet_is_no_good_news(world: Pages) -> None:
    """It is active: what comes will wait."""
    page = world.page("/ui/approvals").partition("Freeze/shop/calm")[2].partition("</li>")[0]
    assert '<span class="badge wait">active</span>' in page


def test_figures_add_up_and_a_typo_is_not_the_servers_fault(world: Pages) -> None:
    """What is invalid is said so."""
    bad = build("never", "[{name: main, runn: 'true'}]")
    apply(world, {"never.yaml": bad, "torn.yaml": "kind: [\n"})
    page = words(world.page("/"))
    assert "Specs are invalid. What is wrong keeps its last good version, where there is one." in page
    assert "The server is" not in page
    assert "torn.yaml:" in page
    found = {
        name: int(number)
        for number, name in re.findall(r"(\d+) (resources|synced|out of sync|sync unknown)", page)
    }
    assert found["resources"] == found["synced"] + found.get("out of sync", 0) + found["sync unknown"]
    assert "1 of them invalid" in page
    apply(world, {"never.yaml": None, "torn.yaml": None})
    assert "Specs are invalid." not in words(world.page("/"))


def test_the_matrix_says_what_stands_and_what_is_wanted(world: Pages) -> None:
    """Of scripts of its own the commit that declared them; where the next ones are held, theirs too."""
    apply(world, {"dev.yaml": deployment("dev", "s"), "prod.yaml": deployment("prod", "s")})

    def cells() -> dict[str, str]:
        row = world.page("/ui/projects/shop").partition('<th scope="row">job</th>')[2].partition("</tr>")[0]
        return dict(zip(("dev", "prod"), map(words, row.split("</td>")), strict=False))

    first = world.repo.head()[:10]
    eventually_now(lambda: f"own scripts {first}" in cells()["dev"] and "Healthy" in cells()["dev"])
    eventually_now(lambda: "nothing wanted: own scripts" in cells()["prod"])  # the freeze holds it
    assert "wanted" not in cells()["dev"]
    peak = FILES["freeze.yaml"].replace("[prod]", "[prod, dev]")
    apply(world, {"freeze.yaml": peak, "dev.yaml": deployment("dev", "xl")})
    second = world.repo.head()[:10]
    eventually_now(lambda: f"own scripts {first} wanted: {second}" in cells()["dev"])


@pytest.mark.parametrize("path", ["/ui/resources", "/ui/jobs"])
def test_a_filter_waits_for_its_button(world: Pages, path: str) -> None:
    """A key that only moves through the choices loads no other page (WCAG 3.2.2)."""
    page = world.page(path)
    assert "<select" in page
    assert "data-send" not in page
    assert re.search(r"<button[^>]*>Filter</button>", page)


def test_a_job_that_waits_says_for_what(world: Pages) -> None:
    """Where people look first."""
    answer = world.client.post("/reconciler/trigger", json={"key": "Build/shop/_/waiting"})
    number = answer.json()["number"]
    with world.browser("admin") as browser:
        told = eventually_now(
            lambda: re.search(rf"Job {number} waits: [^.]*gpu", words(browser.get("/").text))
        )
    assert told
    world.client.post(f"/reconciler/jobs/{number}/cancel").raise_for_status()
