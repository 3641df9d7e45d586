"""Every endpoint: who may, what a success looks like, how many commits it makes; all others are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.escape.conftest import DEV, SHOP, WEB, World, refused
from tests.api.test_access import every_route

BUILD = {
    "id", "name", "project", "environment", "repo", "branch", "disabled", "status", "steps", "steps_from_yml",
    "private_key", "private_key_set", "escape_auth_token", "escape_auth_token_set", "webhook_token",
    "service_account_name", "service_account_team", "remote_escape_worker_url", "scripts", "release", "triggers",
    "timeout_seconds", "webhook_rotation", "permission",
}  # fmt: skip
ENVIRONMENT = {"name", "description", "inputs", "order", "protected", "permission", "deployments"}
PROJECT = {
    "name",
    "description",
    "org_url",
    "logo",
    "is_public",
    "permission",
    "namespaces",
    "environment_order",
}
REPOSITORY = {
    "name", "project", "url", "branch", "description", "private_key", "private_key_set", "webhook_token",
}  # fmt: skip
NAMESPACE = {"name", "description", "logo", "org_url", "project"}
ACCOUNT = {"name", "team", "permission", "environment", "roles", "created_at"}
API = {"name": "api", "repo": "web", "steps": [{}]}


@dataclass(frozen=True)
class Endpoint:
    """`needs`: any, read, write, owner or admin; `path`: keys to the object with `fields` in the answer; `body` "":
    an empty answer.
    """

    name: str
    method: str
    route: str
    address: str
    needs: str
    fields: set[str] | None = None
    path: tuple[Any, ...] = ()
    body: Any = None
    commits: int = 0


STATE, ENV = "/api/v1/state/{project:str}", "/api/v1/state/{project:str}/environments/{environment:str}"
ENDPOINTS = [
    Endpoint("BD1", "GET", "/api/v1/builds", "/api/v1/builds/", "any", BUILD, ("shop", "dev", "web")),
    Endpoint("BD2", "GET", f"{STATE}/builds", f"{SHOP}/builds/", "read", BUILD, ("dev", "web")),
    Endpoint("BD3", "GET", f"{ENV}/builds", f"{DEV}/builds/", "read", BUILD, ("web",)),
    Endpoint("BD4", "POST", f"{ENV}/builds", f"{DEV}/builds/", "write", BUILD, body=API, commits=1),
    Endpoint("BD5", "GET", f"{ENV}/builds/by-name/{{build:str}}", WEB, "read", BUILD),
    Endpoint(
        "BD6",
        "PUT",
        f"{ENV}/builds/by-name/{{build:str}}",
        WEB,
        "write",
        BUILD,
        body=API | {"name": "web"},
        commits=1,
    ),
    Endpoint("BD7", "DELETE", f"{ENV}/builds/by-name/{{build:str}}", WEB, "write", commits=1),
    Endpoint(
        "EN1",
        "POST",
        f"{STATE}/change-environment-order",
        f"{SHOP}/change-environment-order",
        "write",
        {"order"},
        body=["prod", "dev", "staging"],
        commits=1,
    ),
    Endpoint(
        "EN2",
        "POST",
        f"{STATE}/environments",
        f"{SHOP}/environments/",
        "write",
        ENVIRONMENT,
        body={"name": "qa"},
        commits=1,
    ),
    Endpoint("EN3", "GET", ENV, f"{DEV}/", "read", ENVIRONMENT),
    Endpoint("EN4", "PUT", ENV, f"{DEV}/", "write", ENVIRONMENT, body={"description": "x"}, commits=1),
    Endpoint("EN5", "DELETE", ENV, f"{DEV}/", "owner", {"builds", "deployments"}, ("deleted",), commits=1),
    Endpoint(
        "NS1",
        "GET",
        "/api/v1/state/namespaces",
        "/api/v1/state/namespaces",
        "any",
        {"permission", "project"},
        ("namespaces", "shop"),
    ),
    Endpoint(
        "NS2",
        "POST",
        f"{STATE}/add-namespace",
        f"{SHOP}/add-namespace",
        "owner",
        NAMESPACE,
        body={"name": "site"},
        commits=1,
    ),
    Endpoint("NS3", "GET", f"{STATE}/namespaces", f"{SHOP}/namespaces/", "read", NAMESPACE, ("shop",)),
    Endpoint("PR1", "GET", "/api/v1/state", "/api/v1/state/", "any", PROJECT, ("shop",)),
    Endpoint("PR3", "GET", STATE, f"{SHOP}/", "read", PROJECT | {"environments"}),
    Endpoint(
        "PR4",
        "PUT",
        STATE,
        f"{SHOP}/",
        "owner",
        PROJECT | {"environments"},
        body={"description": "x"},
        commits=1,
    ),
    Endpoint(
        "PR5",
        "DELETE",
        STATE,
        f"{SHOP}/",
        "owner",
        {"environments", "builds", "deployments", "pipelines", "repositories"},
        ("deleted",),
        commits=1,
    ),
    Endpoint(
        "PR6",
        "POST",
        f"{STATE}/add-project",
        "/api/v1/state/docs/add-project",
        "admin",
        PROJECT | {"environments"},
        commits=1,
    ),
    Endpoint(
        "PR12",
        "POST",
        f"{STATE}/service-accounts/{{name:str}}",
        f"{SHOP}/service-accounts/builder/",
        "owner",
        ACCOUNT,
        body={"team": "platform", "permission": "read"},
        commits=1,
    ),
    Endpoint("PR11", "GET", f"{STATE}/service-accounts", f"{SHOP}/service-accounts/", "read"),
    Endpoint("RE1", "GET", f"{STATE}/repositories", f"{SHOP}/repositories/", "read", REPOSITORY, (0,)),
    Endpoint(
        "RE2",
        "POST",
        f"{STATE}/repositories/add-repository",
        f"{SHOP}/repositories/add-repository",
        "owner",
        REPOSITORY,
        body={"name": "x", "url": "https://git.example.org/x"},
        commits=1,
    ),
    Endpoint(
        "RE3",
        "PUT",
        f"{STATE}/repositories/{{name:str}}",
        f"{SHOP}/repositories/web/",
        "owner",
        REPOSITORY,
        body={"branch": "next"},
        commits=1,
    ),
]
ELSEWHERE = {
    ("GET", "/api/v1/state/__get_projects_by_group"),  # PR2, for members of a team
    ("DELETE", f"{STATE}/service-accounts/{{name:str}}"),  # PR13, needs one that has access
    ("DELETE", f"{STATE}/repositories/{{name:str}}"),  # RE4, needs one that nobody uses
    ("POST", "/api/v1/state/namespaces/add-project"),  # names that are reserved
    ("POST", "/api/v1/state/__get_projects_by_group/add-project"),
}
ORDER = ("any", "read", "write", "owner", "admin")
CALLERS = {"nobody": "any", "rita": "read", "wendy": "write", "alice": "owner", "admin": "admin"}


def test_the_table_is_whole() -> None:
    """Every route of the served API is in it, or told to be tested elsewhere."""
    known = {(each.method, each.route) for each in ENDPOINTS} | ELSEWHERE
    assert {route for route in every_route() if route[1].startswith("/api/v1")} == known


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: each.name)
def test_an_endpoint(world: World, endpoint: Endpoint) -> None:
    """Refused without a token (401), without a role (404), with too small a role (403); then done by the least one."""
    more = {"json": endpoint.body} if endpoint.body is not None else {}
    before = world.commits()
    bare = httpx.request(
        endpoint.method, world.url + endpoint.address, headers={"Accept": "application/json"}, **more
    )
    refused(bare, 401, "unauthorized")
    able = next(name for name, has in CALLERS.items() if has == endpoint.needs)
    for name, has in CALLERS.items():
        if ORDER.index(has) < ORDER.index(endpoint.needs):
            answer = world[name].request(endpoint.method, endpoint.address, **more)
            status = 404 if has == "any" and endpoint.needs != "admin" else 403
            refused(answer, status, "not-found" if status == 404 else "forbidden")
    assert world.commits() == before
    if able == "nobody":
        assert world["nobody"].get(endpoint.address).json() in ({}, {"namespaces": {}})
        able = "rita"
    answer = world[able].request(endpoint.method, endpoint.address, **more)
    assert answer.status_code == 200, answer.text
    assert world.commits() == before + endpoint.commits
    if endpoint.commits:
        assert answer.headers["x-steersman-commit"] == world.git("rev-parse", "main").strip()
        assert answer.headers["x-steersman-reconciled"] == "true"
    if endpoint.fields is None:
        assert answer.content in (b"", b"[]")
        return
    found = answer.json()
    for step in endpoint.path:
        found = found[step]
    assert found.keys() == endpoint.fields


IN_PROJECTS = [each for each in ENDPOINTS if "{project" in each.route and each.name != "PR6"]


@pytest.mark.parametrize("endpoint", IN_PROJECTS, ids=lambda each: each.name)
def test_what_is_not_there(world: World, endpoint: Endpoint) -> None:
    """404 for another project, environment or name, for whoever may everything; no commit."""
    before = world.commits()
    more = {"json": endpoint.body} if endpoint.body is not None else {}
    addresses = [endpoint.address.replace("/shop", "/nope")]
    if "{environment" in endpoint.route:
        addresses.append(endpoint.address.replace("/dev", "/nope"))
    if "{build" in endpoint.route:
        addresses.append(endpoint.address.replace("/web", "/nope"))
    body = (
        {k: v for k, v in more.get("json", {}).items() if k != "name"} if "{build" in endpoint.route else None
    )
    for address in addresses:
        own = {"json": body} if body else more
        refused(world.admin.request(endpoint.method, address, **own), 404, "not-found")
    assert world.commits() == before
