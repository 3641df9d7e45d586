"""The product, its health, how the client logs in, and what is small in a project (escape-state, 6.6, 6.10, 16)."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import httpx
import pytest

from tests.api.escape.conftest import SHOP, World, document, refused
from tests.support import process

LOGO = f"{SHOP}/logo"
IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n rest",
    "image/jpeg": b"\xff\xd8\xff\xe0 rest",
    "image/gif": b"GIF89a rest",
    "image/webp": b"RIFF\x00\x00\x00\x0aWEBP rest",
    "image/svg+xml": b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a --><!-- b -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
}
NO_IMAGES = [
    b"<html><script>",
    b"<?xml version",
    b"<!-- " * 9,
    b"<svgx>",
    b"plain",
    b"RIFF\x00WEBP",
    b"<!DOCTYPE html><svg>",
]


def test_case_17_a_broken_document(world: World) -> None:
    """200, `checks.spec` is `invalid`."""
    before = httpx.get(f"{world.url}/health")
    assert (before.status_code, before.json()["checks"]["spec"]) == (200, "ok")
    world.repo.commit({"broken.yaml": "kind: ["})
    world.admin.post("/reconciler/sync", json={}, headers=world.native).raise_for_status()
    found = httpx.get(f"{world.url}/health")
    assert (found.status_code, found.json()["checks"]["spec"]) == (200, "invalid")
    assert found.json()["revision"] == world.repo.head()


def test_case_18_before_the_first_look(tmp_path: Path) -> None:
    """503 with `Retry-After`, of the health page and of what would need the specs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/specs.git"
        with process(address, tmp_path / "data") as running:
            found = httpx.get(f"{running.url}/health")
            assert (found.status_code, found.json()["status"]) == (503, "unavailable")
            assert int(found.headers["retry-after"]) > 0
            headers = {"X-Escape-Token": running.token, "Accept": "application/json"}
            other = httpx.get(f"{running.url}/api/v1/state/", headers=headers)
            refused(other, 503, "starting")
            assert int(other.headers["retry-after"]) > 0
            running.kill()


def test_home(world: World) -> None:
    """One line for programs, a page for browsers; HEAD has no body. None of it needs a token."""
    line = httpx.get(f"{world.url}/")
    assert line.status_code == 200
    assert line.headers["content-type"].startswith("text/plain")
    assert line.text.startswith("Steersman ")
    assert line.text.count("\n") == 1
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = httpx.get(f"{world.url}/", headers=headers, follow_redirects=True)
    assert page.url.path == "/ui/sign-in"
    assert page.headers["content-type"].startswith("text/html")
    assert line.text.split()[1] in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/health"):
        head = httpx.head(f"{world.url}{path}")
        assert (head.status_code, head.content) == (200, b"")


def test_the_client_logs_in(world: World) -> None:
    """It is told where; a good token comes back in a header, a wrong one or another's name is a 401."""
    methods = httpx.get(f"{world.url}/api/v1/auth/login-methods").json()
    assert methods.keys() == {"service-account", "token"}
    for method in methods.values():
        assert method["type"] == "secret-token"
        for name in ("alice", "", "User/alice"):
            body = {"username": name, "secret_token": world.secrets["alice"]}
            good = httpx.post(method["url"], json=body)
            assert (good.status_code, good.content) == (200, b"")
            assert good.headers["x-escape-token"] == world.secrets["alice"]
        for body in (
            {"username": "wendy", "secret_token": world.secrets["alice"]},
            {"username": "alice", "secret_token": "nonsense"},
            {"username": "alice"},
        ):
            wrong = httpx.post(method["url"], json=body, headers={"Accept": "application/json"})
            refused(wrong, 401, "unauthorized")
            assert "x-escape-token" not in wrong.headers
        refused(
            httpx.post(method["url"], json=[], headers={"Accept": "application/json"}), 400, "invalid-json"
        )
    token = world.token("ServiceAccount/platform/deployer")
    for name in ("deployer", "platform/deployer"):
        body = {"username": name, "secret_token": token}
        assert httpx.post(methods["service-account"]["url"], json=body).headers["x-escape-token"] == token


@pytest.mark.parametrize("kind", IMAGES)
def test_a_logo(world: World, kind: str) -> None:
    """As the type that its bytes are; of a public project without a token."""
    refused(world["rita"].get(LOGO), 404, "not-found")
    logo = base64.b64encode(IMAGES[kind]).decode()
    assert world["alice"].put(f"{SHOP}/", json={"logo": logo}).status_code == 200
    found = world["rita"].get(LOGO)
    assert (found.status_code, found.content) == (200, IMAGES[kind])
    assert found.headers["content-type"] == kind
    assert found.headers["x-content-type-options"] == "nosniff"
    assert ("sandbox" in found.headers.get("content-security-policy", "")) is (kind == "image/svg+xml")
    again = world["rita"].get(LOGO, headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    refused(httpx.get(world.url + LOGO, headers={"Accept": "application/json"}), 401, "unauthorized")
    refused(world["nobody"].get(LOGO), 404, "not-found")
    assert world["alice"].put(f"{SHOP}/", json={"is_public": True}).status_code == 200
    assert httpx.get(world.url + LOGO).content == IMAGES[kind]
    assert world["nobody"].get(LOGO).content == IMAGES[kind]
    refused(httpx.get(f"{world.url}{SHOP}/", headers={"Accept": "application/json"}), 401, "unauthorized")


def test_what_is_no_image_is_not_sent(world: World) -> None:
    """404: nothing that a browser might run."""
    for content in NO_IMAGES:
        logo = base64.b64encode(content).decode()
        assert world["alice"].put(f"{SHOP}/", json={"logo": logo}).status_code == 200
        refused(world["rita"].get(LOGO), 404, "not-found")


def test_a_logo_of_a_file(world: World) -> None:
    """Beside the specification."""
    world.commit(
        {
            "logo.png": IMAGES["image/png"],
            "tools.yaml": document("Project", "name: art", "{logo_file: logo.png}"),
        }
    )
    found = world.admin.get("/api/v1/state/art/logo")
    assert (found.status_code, found.content) == (200, IMAGES["image/png"])


def test_roles_and_subscriptions(world: World) -> None:
    """The three of the project, then three for each environment in order; owners manage."""
    levels = ("read", "write", "owner")
    roles = [f"project:shop:global:{level}" for level in levels]
    for name in ("dev", "staging", "prod"):
        roles += [f"project:shop:environment:{name}:{level}" for level in levels]
    assert world["rita"].get(f"{SHOP}/rbac/valid-roles").json() == roles
    assert len(world["pia"].get(f"{SHOP}/rbac/valid-roles").json()) == 6
    path = f"{SHOP}/can-manage-subscriptions"
    for who, may in (("rita", False), ("wendy", False), ("alice", True), ("admin", True), ("pia", False)):
        assert world[who].get(path).json() == {"can_manage_subscriptions": may}
    refused(world["nobody"].get(path), 404, "not-found")
