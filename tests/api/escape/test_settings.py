"""What the operator's settings change, and the time before anything is known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from api.paths import plain, segments
from reconciler.daemon import Daemon
from tests.api.conftest import app_of
from tests.api.escape.conftest import FILES, refused
from tests.api.escape.test_cases_builds import pushed
from tests.support import SpecRepository, settings_for


def test_before_the_specs_are_read(tmp_path: Path) -> None:
    """503 `starting` with Retry-After, but for who has no token."""

    async def work() -> None:
        repo = SpecRepository(tmp_path / "specs")
        repo.commit(FILES)
        async with Daemon(settings_for(repo, tmp_path / "data", branch="later")) as running:
            transport = httpx.ASGITransport(app=app_of(running.installation))
            headers = {"X-Escape-Token": running.first_token or "", "Accept": "application/json"}
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.get("/api/v1/state/shop/", headers=headers)
                refused(answer, 503, "starting")
                assert answer.headers["retry-after"]
                bare = await client.get("/api/v1/state/shop/", headers={"Accept": "application/json"})
                refused(bare, 401, "unauthorized")

    asyncio.run(work())


def test_anybody_may_add_projects(tmp_path: Path) -> None:
    """With `project_creation = any`: whoever adds one owns it; another one's name is taken."""
    with pushed(tmp_path, STEERSMAN_PROJECT_CREATION="any") as team:
        answer = team["nobody"].post("/api/v1/state/mine/add-project", json={"name": "mine"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["permission"] == "owner"
        assert team["nobody"].put("/api/v1/state/mine/", json={"description": "x"}).status_code == 200
        assert list(team["nobody"].get("/api/v1/state/").json()) == ["mine"]
        refused(team["nobody"].post("/api/v1/state/shop/add-project"), 409, "already-exists")
        refused(team["rita"].get("/api/v1/state/mine/"), 404, "not-found")


@pytest.mark.parametrize(
    ("raw", "path", "last"),
    [
        (b"/api/v1/a/b", "/api/v1/a/b", "b"),
        (b"/a/shop%2Fweb/", "/a/shop%2Fweb/", ""),
        (b"/a/shop%2fweb", "/a/shop%2fweb", "shop/web"),
        (b"/a/b%252Fc", "/a/b%252Fc", "b%2Fc"),
        (b"/a/%C3%A9%20x?y=%2F", "/a/é x", "é x"),
    ],
)
def test_segments(raw: bytes, path: str, last: str) -> None:
    """Slashes and per cents inside of a segment are told from those between."""
    assert segments(raw) == path
    assert plain(segments(raw).rpartition("/")[2]) == last
