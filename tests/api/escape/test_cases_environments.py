"""The numbered edge cases about environments, and what the contract says of projects and what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.escape.conftest import DEV, SHOP, WEB, World, binding, document, refused

ORDER = f"{SHOP}/change-environment-order"
ENVIRONMENTS = f"{SHOP}/environments/"
ACCOUNTS = f"{SHOP}/service-accounts"
PIPELINE = document(
    "Pipeline",
    "name: release, project: shop",
    "{phases: [{name: a, steps: [{type: deploy, environment: dev, deployment: shop/web}]}]}",
)


@pytest.mark.parametrize(
    "order",
    [
        ["dev", "staging"],
        ["dev", "staging", "prod", "dev"],
        ["dev", "staging", "qa"],
        "dev",
        None,
        [],
        [1, 2, 3],
        {},
    ],
)
def test_case_77_an_order_that_is_none(world: World, order: Any) -> None:
    """Missing, repeated, unknown, no list: 400, no commit."""
    before = world.commits()
    refused(world["wendy"].post(ORDER, json={"order": order}), 400, "invalid-order")
    assert world.commits() == before


def test_case_78_the_current_order(world: World) -> None:
    """200, no commit; another one is one line, also as a bare array."""
    before = world.commits()
    same = world["wendy"].post(ORDER, json={"order": ["dev", "staging", "prod"]})
    assert (same.status_code, same.json()) == (200, {"order": ["dev", "staging", "prod"]})
    assert "x-steersman-commit" not in same.headers
    assert world.commits() == before
    other = world["wendy"].post(ORDER, json=["prod", "dev", "staging"])
    assert (other.status_code, other.json()) == (200, {"order": ["prod", "dev", "staging"]})
    assert world.commits() == before + 1
    assert len(world.diff()) == 2
    found = world["rita"].get(f"{SHOP}/").json()
    assert list(found["environments"]) == found["environment_order"] == ["prod", "dev", "staging"]
    assert [each["order"] for each in found["environments"].values()] == [0, 1, 2]
    assert list(world["rita"].get(f"{SHOP}/builds/").json()) == ["prod", "dev", "staging"]


@pytest.mark.parametrize("name", ["Prod", "", "1a", "a/b", "é", None, 7, "x" * 300, "a\n"])
def test_case_79_a_name_that_is_none(world: World, name: Any) -> None:
    """400 naming the field, no commit."""
    before = world.commits()
    found = refused(world["wendy"].post(ENVIRONMENTS, json={"name": name}), 400, "invalid-field")
    assert "name" in found["fields"]
    assert world.commits() == before


def test_case_80_with_and_without_full(world: World) -> None:
    """Stages hold only version and status; then everything. Never a null in a map."""
    short = world["rita"].get(f"{DEV}/").json()["deployments"]
    assert list(short) == ["infra/cluster", "shop/web"]
    assert short["shop/web"] == {
        "name": "shop/web",
        "release": "shop/web",
        "managed": True,
        "sync": "out-of-sync",
        "stages": {"deploy": {"version": "", "status": {"status": "empty"}}},
    }
    assert short["infra/cluster"]["sync"] == "in-sync"
    full = world["rita"].get(f"{DEV}/?full=true").json()["deployments"]
    assert full["shop/web"]["inputs"] == {"replicas": 4}
    assert full["shop/web"]["declared"] == {
        "release": "shop/web",
        "version": "1.4.12",
        "inputs": {"replicas": 4},
        "providers": {"kubernetes": "infra/cluster"},
    }
    stage = full["shop/web"]["stages"]["deploy"]
    assert stage.keys() == {
        "inputs", "calculated_inputs", "calculated_outputs", "deployments", "providers", "provides", "version",
        "status",
    }  # fmt: skip
    for found in (short, full):
        for state in found.values():
            assert None not in state.values()
            assert None not in state["stages"].values()
            assert None not in state["stages"]["deploy"].values()
    assert world["rita"].get(f"{DEV}/?full=false").json()["deployments"] == short
    refused(world["rita"].get(f"{DEV}/?full=perhaps"), 400, "invalid-field")


def test_case_81_an_undeclared_environment(world: World) -> None:
    """404."""
    found = refused(world["alice"].get(f"{SHOP}/environments/qa/?full=true"), 404, "not-found")
    assert found["error"] == "There is no environment 'qa' in shop."


def test_case_88_an_environment_with_a_running_execution(world: World) -> None:
    """409; by force 200, the execution is cancelled, one commit for all that is in it."""
    staging = f"{SHOP}/environments/staging/"
    world.commit(
        {
            "more.yaml": binding(
                "st", "read", "project: shop, environment: staging", "{kind: User, name: pia}"
            ),
            "deploy.yaml": document("Deployment", "name: shop/web, project: shop, environment: staging"),
        }
    )
    body = {"key": "Build/shop/staging/nightly"}
    number = world.admin.post("/reconciler/trigger", json=body, headers=world.native).json()["number"]
    world.running.job(number, "executing")
    before = world.commits()
    refused(world["alice"].delete(staging), 409, "in-use")
    assert world.commits() == before
    inside = world.token("User/alice", project="shop", environment="staging")
    answer = world["alice"].delete(f"{staging}?force=true")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"deleted": {"builds": 1, "deployments": 1}}
    assert world.commits() == before + 1
    world.running.job(number, "aborted")
    refused(world["alice"].get(staging), 404, "not-found")
    assert world["rita"].get(f"{SHOP}/").json()["environment_order"] == ["dev", "prod"]
    left = world.admin.get("/reconciler/resources?environment=staging", headers=world.native).json()
    assert left["total"] == 0
    with world.client(inside) as client:
        refused(client.get(f"{SHOP}/"), 401, "unauthorized")


def test_an_environment_that_a_pipeline_names(world: World) -> None:
    """409, never forced; nor is one that another environment follows."""
    world.commit({"pipe.yaml": PIPELINE})
    before = world.commits()
    for query in ("", "?force=true"):
        found = refused(world["alice"].delete(f"{DEV}/{query}"), 409, "in-use")
        assert "Pipeline/shop/release" in found["error"]
    refused(world["alice"].delete(f"{SHOP}/?force=true&wait=x"), 400, "invalid-field")
    assert world.commits() == before


def test_a_new_environment_comes_last(world: World) -> None:
    """One commit; it is appended to the order. The same again: 409."""
    before = world.commits()
    answer = world["wendy"].post(
        ENVIRONMENTS, json={"name": "alpha", "inputs": {"a": [1, "x"]}, "nonsense": 1}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == world["wendy"].get(f"{ENVIRONMENTS}alpha").json()
    assert answer.json() == {
        "name": "alpha", "description": "", "protected": False, "inputs": {"a": [1, "x"]}, "order": 3,
        "permission": "write", "deployments": {},
    }  # fmt: skip
    assert world.commits() == before + 1
    assert "projects/shop/environments/alpha/environment.yaml" in world.files()
    assert "environment_order: [dev, staging, prod, alpha]" in world.text("project.yaml")
    refused(world["wendy"].post(ENVIRONMENTS, json={"name": "alpha"}), 409, "already-exists")
    refused(world["rita"].post(ENVIRONMENTS, json={"name": "beta"}), 403, "forbidden")
    refused(world["pia"].post(ENVIRONMENTS, json={"name": "beta"}), 403, "forbidden")
    assert world.commits() == before + 1


def test_changing_an_environment(world: World) -> None:
    """An echo makes no commit; what a body leaves out is kept; null clears; a protected one is for owners."""
    before, body = world.commits(), world["wendy"].get(f"{DEV}/?full=true").json()
    assert world["wendy"].put(f"{DEV}/", json=body).status_code == 200
    assert world.commits() == before
    changed = world["wendy"].put(f"{DEV}/", json={"description": "Play", "inputs": {"level": "debug"}})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["description"], changed.json()["inputs"]) == ("Play", {"level": "debug"})
    assert changed.headers["etag"] == world["rita"].get(f"{DEV}/").headers["etag"]
    kept = world["wendy"].put(f"{DEV}/", json={"inputs": None}).json()
    assert (kept["description"], kept["inputs"]) == ("Play", {})
    assert world.commits() == before + 2
    refused(world["wendy"].put(f"{DEV}/", json={"name": "other"}), 400, "name-mismatch")
    found = refused(world["wendy"].put(f"{DEV}/", json={"protected": "true"}), 400, "invalid-field")
    assert "protected" in found["fields"]
    prod = f"{SHOP}/environments/prod/"
    refused(world["wendy"].put(prod, json={"protected": False}), 403, "forbidden")
    refused(
        world["pia"].post(f"{prod}builds/", json={"name": "x", "repo": "web", "steps": [{}]}),
        403,
        "forbidden",
    )
    assert world["alice"].put(prod, json={"protected": False}).json()["protected"] is False


def test_changing_a_project(world: World) -> None:
    """By its owners; "" is no address; what is left out is kept; an echo makes no commit."""
    before, body = world.commits(), world["alice"].get(f"{SHOP}/").json()
    assert world["alice"].put(f"{SHOP}/", json=body).json() == body
    assert world.commits() == before
    refused(world["wendy"].put(f"{SHOP}/", json=body), 403, "forbidden")
    changed = world["alice"].put(f"{SHOP}/", json={"org_url": "https://shop.example.org", "is_public": True})
    assert (changed.json()["org_url"], changed.json()["description"]) == (
        "https://shop.example.org",
        "Web shop",
    )
    assert world["alice"].put(f"{SHOP}/", json={"org_url": ""}).json()["org_url"] == ""
    for wrong in ({"org_url": "ftp://x"}, {"logo": "no base64!"}, {"is_public": 1}, {"description": 7}):
        found = refused(world["alice"].put(f"{SHOP}/", json=wrong), 400, "invalid-field")
        assert found["fields"].keys() == wrong.keys()
    refused(world["alice"].put(f"{SHOP}/", json={"name": "other"}), 400, "name-mismatch")
    assert world.commits() == before + 2


def test_adding_a_project(world: World) -> None:
    """By an administrator: the project and a binding, in one commit. The same again: 409."""
    before = world.commits()
    refused(world["alice"].post("/api/v1/state/docs/add-project"), 403, "forbidden")
    refused(world.admin.post("/api/v1/state/docs/add-project", json={"name": "dox"}), 400, "name-mismatch")
    answer = world.admin.post("/api/v1/state/docs/add-project", json={"description": "Manuals"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "name": "docs", "description": "Manuals", "org_url": "", "logo": "", "is_public": False, "permission": "owner",
        "namespaces": [], "environment_order": [], "environments": {},
    }  # fmt: skip
    assert world.commits() == before + 1
    assert [path for path in world.files() if "docs" in path] == [
        "projects/docs/project.yaml",
        "projects/docs/role-bindings/owners.yaml",
    ]
    refused(world.admin.post("/api/v1/state/docs/add-project"), 409, "already-exists")
    assert world.commits() == before + 1


def test_deleting_a_project(world: World) -> None:
    """One commit, whatever is in it, and nothing waits for a confirmation; other projects' pipelines keep it."""
    other = document(
        "Pipeline",
        "name: nightly, project: tools",
        "{phases: [{name: a, steps: [{type: build, project: shop, environment: dev, build: web}]}]}",
    )
    world.commit({"pipe.yaml": PIPELINE, "tools.yaml": other})
    before = world.commits()
    refused(world["wendy"].delete(f"{SHOP}/"), 403, "forbidden")
    found = refused(world["alice"].delete(f"{SHOP}/?force=true"), 409, "in-use")
    assert "Pipeline/tools" not in found["error"]
    refused(world.admin.delete(f"{SHOP}/"), 409, "in-use")
    assert world.commits() == before
    world.commit({"tools.yaml": None})
    scoped = world.token("User/alice", project="shop")
    before = world.commits()
    answer = world["alice"].delete(f"{SHOP}/")
    assert answer.status_code == 200, answer.text
    counts = {"environments": 3, "builds": 2, "deployments": 2, "pipelines": 1, "repositories": 1}
    assert answer.json() == {"deleted": counts}
    assert answer.headers["x-steersman-reconciled"] == "true"
    assert world.commits() == before + 1
    refused(world["alice"].get(f"{SHOP}/"), 404, "not-found")
    assert list(world.admin.get("/api/v1/state/").json()) == ["tools"]
    assert world.admin.get("/reconciler/resources?project=shop", headers=world.native).json()["total"] == 0
    with world.client(scoped) as client:
        refused(client.get("/api/v1/state/"), 401, "unauthorized")


def test_projects_of_a_group(world: World) -> None:
    """For its members and administrators; the permission is the group's own."""
    path = "/api/v1/state/__get_projects_by_group"
    refused(world["alice"].get(path), 400, "invalid-field")
    for word in ("group", "name", "team"):
        found = world["alice"].get(path, params={word: "ops"}).raise_for_status().json()
        assert {name: each["permission"] for name, each in found.items()} == {"shop": "read"}
    assert world.admin.get(path, params={"group": "platform"}).json() == {}
    hidden = refused(world["wendy"].get(path, params={"group": "ops"}), 404, "not-found")
    absent = refused(world["wendy"].get(path, params={"group": "nope"}), 404, "not-found")
    assert hidden["error"].replace("ops", "nope") == absent["error"]


def test_namespaces(world: World) -> None:
    """Added by owners, once in the whole installation."""
    before, add = world.commits(), f"{SHOP}/add-namespace"
    answer = world["alice"].post(add, json={"name": "web", "description": "Sites", "org_url": "", "junk": 1})
    expected = {"name": "web", "description": "Sites", "logo": "", "org_url": "", "project": "shop"}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert world.commits() == before + 1
    assert world["rita"].get(f"{SHOP}/namespaces/").json()["web"] == expected
    for name in ("web", "tools"):
        refused(world["alice"].post(add, json={"name": name}), 409, "already-exists")
    for name in ("Web", "int eger", "list", "", None, "a"):
        refused(world["alice"].post(add, json={"name": name}), 400, "invalid-field")
    refused(world["alice"].post(add, json={"name": "site", "org_url": "x"}), 400, "invalid-field")
    refused(world["wendy"].post(add, json={"name": "other"}), 403, "forbidden")
    assert world.commits() == before + 1


def test_repositories(world: World) -> None:
    """Added, changed, keyed and removed by owners; one that a build names stays."""
    add, before = f"{SHOP}/repositories/add-repository", world.commits()
    body = {"name": "api", "url": "git@git.example.org:shop/api.git", "private_key": "secret-key-text"}
    answer = world["alice"].post(add, json=body)
    assert answer.status_code == 200, answer.text
    shown = {
        "name": "api", "project": "shop", "url": body["url"], "branch": "main", "description": "", "private_key": "",
        "private_key_set": True, "webhook_token": "",
    }  # fmt: skip
    assert answer.json() == shown
    assert [each["name"] for each in world["rita"].get(f"{SHOP}/repositories/").json()] == ["api", "web"]
    assert "projects/shop/secrets/repository--shop--api--private-key.yaml" in world.files()
    assert world.commits() == before + 1
    refused(world["alice"].post(add, json=body), 409, "already-exists")
    for wrong in ({"name": "x"}, {"name": "x", "url": "ext::sh"}, {"name": "../x", "url": "https://a/b"}):
        refused(world["alice"].post(add, json=wrong), 400, "invalid-field")
    refused(world["wendy"].post(add, json={**body, "name": "other"}), 403, "forbidden")
    place = f"{SHOP}/repositories/api/"
    assert world["alice"].put(place, json={**shown, "private_key": "ignored"}).json() == shown
    refused(world["alice"].put(place, json={"name": "other"}), 400, "name-mismatch")
    refused(world["alice"].put(f"{SHOP}/repositories/none/", json={}), 404, "not-found")
    assert world.commits() == before + 1
    changed = world["alice"].put(place, json={"branch": "next", "description": "API"}).json()
    assert (changed["url"], changed["branch"], changed["private_key_set"]) == (body["url"], "next", True)
    bare = world["alice"].put(place, json={"update_private_key": True}).json()
    assert bare["private_key_set"] is False
    refused(world["alice"].delete(f"{SHOP}/repositories/web/"), 409, "in-use")
    gone = world["alice"].delete(place)
    assert (gone.status_code, gone.content) == (200, b"")
    refused(world["alice"].delete(place), 404, "not-found")
    assert not any("api" in path for path in world.files())


def test_service_accounts(world: World) -> None:
    """Given access, made, given a token, ambiguous, taken away again: a binding each time."""
    before, give = world.commits(), {"team": "platform", "permission": "write"}
    answer = world["alice"].post(f"{ACCOUNTS}/builder/", json={**give, "issue_token": True})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    token = found.pop("token")
    role = "project:shop:global:write"
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "name": "builder", "team": "platform", "permission": "write", "environment": None, "roles": [role],
    }  # fmt: skip
    assert world.commits() == before + 1
    with world.client(token) as builder:
        assert builder.get(f"{SHOP}/").json()["permission"] == "write"
        made = builder.post(f"{DEV}/builds/", json={"name": "bot", "repo": "web", "steps": [{}]})
        assert made.status_code == 200, made.text
        author = world.git("log", "-1", "--format=%an <%ae>").strip()
        assert author == "builder (platform) <builder+platform@service-accounts.steersman.invalid>"
        refused(world["alice"].post(f"{ACCOUNTS}/builder/", json=give), 409, "already-exists")
        owner = world["alice"].post(f"{ACCOUNTS}/builder/", json={**give, "permission": "owner"}).json()
        assert owner["roles"] == ["project:shop:global:owner"]
        inside = world["alice"].post(f"{ACCOUNTS}/builder/", json={**give, "environment": "dev"}).json()
        assert inside["roles"] == ["project:shop:environment:dev:write"]
        listed = world["rita"].get(f"{ACCOUNTS}/").json()
        assert [(each["name"], each["environment"], each["permission"]) for each in listed] == [
            ("builder", None, "owner"),
            ("builder", "dev", "write"),
        ]
        assert listed[0]["roles"] == ["project:shop:global:owner", "project:shop:environment:dev:write"]
        before = world.commits()
        gone = world["alice"].delete(f"{ACCOUNTS}/builder/")
        assert (gone.status_code, gone.content, world.commits()) == (200, b"", before + 1)
        refused(builder.get(f"{SHOP}/"), 404, "not-found")
    assert world["rita"].get(f"{ACCOUNTS}/").json() == []
    refused(world["alice"].delete(f"{ACCOUNTS}/builder/"), 404, "not-found")


def test_service_accounts_that_are_refused(world: World) -> None:
    """Unknown team, role, account, environment; a team of others; an ambiguous name; one that a build runs as."""
    give, alice = {"team": "platform", "permission": "write"}, world["alice"]
    before = world.commits()
    for wrong, field in (
        ({"team": "nope"}, "team"),
        ({"team": ""}, "team"),
        ({"permission": "admin"}, "permission"),
        ({"permission": None}, "permission"),
        ({"create": "yes"}, "create"),
    ):
        found = refused(alice.post(f"{ACCOUNTS}/builder/", json={**give, **wrong}), 400, "invalid-field")
        assert field in found["fields"]
    refused(alice.post(f"{ACCOUNTS}/nope/", json=give), 404, "not-found")
    refused(alice.post(f"{ACCOUNTS}/builder/", json={**give, "environment": "qa"}), 404, "not-found")
    refused(world["wendy"].post(f"{ACCOUNTS}/builder/", json=give), 403, "forbidden")
    assert world.commits() == before
    made = alice.post(f"{ACCOUNTS}/fresh/", json={**give, "create": True})
    assert made.status_code == 200, made.text
    assert "teams/platform/service-accounts/fresh.yaml" in world.files()
    assert world.commits() == before + 1
    world.commit({"own.yaml": binding("w2", "owner", "project: shop", "{kind: User, name: wendy}")})
    refused(world["wendy"].post(f"{ACCOUNTS}/more/", json={**give, "create": True}), 403, "forbidden")
    refused(world["wendy"].post(f"{ACCOUNTS}/builder/", json={**give, "issue_token": True}), 403, "forbidden")
    for team in ("platform", "ops"):
        assert alice.post(f"{ACCOUNTS}/deployer/", json={**give, "team": team}).status_code == 200
    refused(alice.delete(f"{ACCOUNTS}/deployer/"), 400, "invalid-field")
    named = alice.get(WEB).json() | {"service_account_name": "deployer", "service_account_team": "ops"}
    assert alice.put(WEB, json=named).status_code == 200
    refused(alice.delete(f"{ACCOUNTS}/deployer/?team=ops"), 409, "in-use")
    assert alice.delete(f"{ACCOUNTS}/deployer/?team=platform").status_code == 200


def test_access_in_a_binding_by_hand(world: World) -> None:
    """An account in a binding with others: taken out of it, the others stay; its role is never two."""
    subjects = "{kind: ServiceAccount, team: platform, name: builder}, {kind: User, name: pia}"
    world.commit({"hand.yaml": binding("hand", "owner", "project: shop", subjects)})
    give = {"team": "platform", "permission": "read"}
    assert world["alice"].post(f"{ACCOUNTS}/builder/", json=give).status_code == 200
    listed = world["rita"].get(f"{ACCOUNTS}/").json()
    assert [(each["name"], each["permission"]) for each in listed] == [("builder", "read")]
    assert world["pia"].get(f"{SHOP}/").json()["permission"] == "owner"
    assert "subjects: [{kind: User, name: pia}]" in world.text("hand.yaml")
