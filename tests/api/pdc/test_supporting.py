"""Releases, products, versions, SLAs, rights and the list of all: what the schedules rest on (pdc, 5)."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx

from tests.api.pdc.conftest import BASE, S, World, person
from tests.support import SpecRepository, process

RELEASE = {
    "name": "Fedora",
    "short": "fedora",
    "version": "46",
    "release_type": "ga",
    "product_version": "fedora-44",
}


def test_the_list_of_all(world: World) -> None:
    """Each address answers."""
    found = world.alice.get("").json()
    assert list(found) == sorted(found)
    for name, address in found.items():
        if not name.endswith("/refresh"):  # which would end the token
            asked = httpx.get(address, headers=dict(world.alice.headers))
            assert asked.status_code == (405 if name == "rpc/release/clone" else 200), name


def test_a_release_from_its_making_to_its_clone(world: World) -> None:
    """PUT resets what is missing; what other systems put into the file stays."""
    made = world.alice.post("releases/", json=RELEASE | {"bugzilla": {"product": "F"}, "version": 46})
    assert made.status_code == 201, made.text
    assert made.json() == {
        "release_id": "fedora-46",
        "short": "fedora",
        "version": "46",
        "name": "Fedora",
        "base_product": None,
        "active": True,
        "product_version": "fedora-44",
        "release_type": "ga",
        "compose_set": [],
        "integrated_with": None,
        "sigkey": None,
        "allow_buildroot_push": False,
        "allowed_debuginfo_services": [],
        "allowed_push_targets": [],
        "bugzilla": {"product": "F"},
        "dist_git": None,
    }
    again = world.alice.post("releases/", json=RELEASE)
    assert (again.status_code, "fedora-46" in again.json()["detail"][0]) == (400, True)
    plain = {key: RELEASE[key] for key in ("name", "short", "version", "release_type")}
    put = world.alice.put("releases/fedora-46/", json=plain | {"active": False}).json()
    assert (put["bugzilla"], put["product_version"], put["active"]) == (None, None, False)
    cloned = world.alice.post(
        "rpc/release/clone/", json={"old_release_id": "fedora-46", "release_type": "updates"}
    )
    assert (cloned.status_code, cloned.json()["release_id"]) == (201, "fedora-46-updates")
    assert world.alice.post("rpc/release/clone/", json={"old_release_id": "fedora-46"}).status_code == 400
    assert world.alice.post("rpc/release/clone/", json={"version": "1"}).status_code == 400
    assert world.alice.post("rpc/release/clone/", json={"old_release_id": "none-1"}).status_code == 404
    for key, value in (("sigkey", "x"), ("base_product", "x"), ("allowed_push_targets", ["x"])):
        assert world.alice.patch("releases/fedora-46/", json={key: value}).json().keys() == {key}
    itself = world.alice.patch("releases/fedora-46/", json={"integrated_with": "fedora-46"})
    assert itself.json().keys() == {"integrated_with"}


def test_filters_of_releases(world: World) -> None:
    """Several values are or; `null` is none."""

    def ids(query: str) -> list[str]:
        return [row["release_id"] for row in world.nobody.get(f"releases/?page_size=-1&{query}").json()]

    assert ids("release_id=fedora-44&release_id=fedora-45") == ["fedora-44", "fedora-45"]
    assert ids("product_version=fedora-44&release_id=fedora-44") == ["fedora-44"]
    assert "fedora-44" in ids("integrated_with=null&active=TRUE")
    assert ids("has_base_product=True") == ids("sigkey=x") == ids("base_product=x") == []
    spares = [each for each in ids("short=spare") if each.count(".") == 0]
    assert spares == sorted(spares, key=lambda each: int(each.removeprefix("spare-")))
    assert ids("ordering=-version&release_id=fedora-44&release_id=fedora-45") == ["fedora-45", "fedora-44"]
    assert world.nobody.get("releases/?active=x").status_code == 400


def test_products_and_versions_under_new_names(world: World) -> None:
    """What names them follows, in the same commit."""
    assert world.alice.post("products/", json={"short": "old", "name": "Old"}).status_code == 201
    version = world.alice.post("product-versions/", json={"product": "old", "version": "1", "name": "Old 1"})
    assert version.json()["product_version_id"] == "old-1"
    made = RELEASE | {"short": "old", "version": "1", "product_version": "old-1"}
    assert world.alice.post("releases/", json=made).status_code == 201
    assert world.nobody.get("products/?active=1&short=old").json()["count"] == 1
    assert world.alice.patch("products/old/", json={"short": "renamed"}).json()["product_versions"] == [
        "old-1"
    ]
    shown = world.alice.patch("product-versions/old-1/", json={"short": "new", "version": "1.10"}).json()
    assert (shown["product_version_id"], shown["product"], shown["releases"]) == (
        "new-1.10",
        "renamed",
        ["old-1"],
    )
    assert world.nobody.get("releases/old-1/").json()["product_version"] == "new-1.10"
    assert world.nobody.get("products/old/").status_code == 404


def test_slas_and_types(world: World) -> None:
    """PUT erases a description; what is not kept is refused in a sentence."""
    made = world.alice.post("component-sla-types/", json={"name": "Odd / name", "description": "d"}).json()
    address = f"component-sla-types/{made['id']}/"
    assert world.alice.put(address, json={"name": "Odd / name"}).json()["description"] == ""
    assert world.alice.post("component-sla-types/", json={"name": "Odd / name"}).json().keys() == {"name"}
    assert world.nobody.get("component-sla-types/", params={"name": "Odd / name"}).json()["count"] == 1
    assert "max_length" in world.alice.options(address).json()["actions"]["PUT"]["name"]
    types = world.nobody.get("release-types/").json()["results"]
    assert [each["short"] for each in types] == ["aus", "els", "eus", "fast", "ga", "updates"]
    assert world.nobody.get("release-types/?name=extended").json()["count"] == 2
    assert "base products" in world.alice.post("base-products/", json={}).json()["detail"]
    assert world.nobody.get("release-variants/?release=fedora-44").json()["results"] == []


def test_who_may_what(world: World) -> None:
    """As the roles in Git have it."""
    alice, reader = (world.clients[name].get("auth/current-user/").json() for name in ("alice", "reader"))
    assert (alice["username"], alice["e-mail"], alice["is_superuser"]) == (
        "alice",
        "alice@example.org",
        False,
    )
    update = {"resource": "release-schedules", "permission": "update"}
    assert (update in alice["resource_permissions"], update in reader["resource_permissions"]) == (
        True,
        False,
    )
    found = world.nobody.get("auth/resource-permissions/?resource=release-schedules").json()
    assert [each["permission"] for each in found["results"]] == ["create", "delete", "read", "update"]


def test_who_is_known_reads_what_anybody_reads(world: World) -> None:
    """With no role at all; to write takes the role write on the installation."""
    stranger = world.clients["stranger"]
    for address in (S, "", "releases/", "changesets/"):
        assert world.nobody.get(address).status_code == stranger.get(address).status_code == 200
    told = stranger.post(S, json={})
    assert (told.status_code, "the role write on the installation" in told.json()["detail"]) == (403, True)
    rights = stranger.get("auth/current-user/").json()["resource_permissions"]
    assert {each["permission"] for each in rights} == {"read"}


def test_where_nobody_reads_without_a_token_a_role_on_anything_lets_in(tmp_path: Path) -> None:
    """And who has none is told so."""
    repo = SpecRepository(tmp_path / "specs")
    in_project = (
        "---\napiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\nspec: {}\n"
        "---\napiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {name: kim, project: shop}\n"
        "spec: {role: read, subjects: [{kind: User, name: kim}]}\n"
    )
    repo.commit({"people.yaml": person("kim", None) + in_project + "---\n" + person("stranger", None)})
    with process(repo.path, tmp_path / "data") as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        here = World(running, repo, tmp_path / "clock")
        with contextlib.closing(here):
            assert here.nobody.get(S).status_code == 401
            with here.client(here.token("kim")) as kim, here.client(here.token("stranger")) as stranger:
                assert kim.get(S).status_code == 200
                told = stranger.get(S)
                assert told.status_code == 403
                assert told.json()["detail"].endswith("it takes a role on something.")


def test_pages_of_other_origins(world: World) -> None:
    """They may ask with a token of their own; Basic credentials, which browsers remember, do not count there."""
    answer = world.nobody.options(S, headers={"Origin": "https://else.example"})
    assert answer.headers["access-control-allow-origin"] == "https://else.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "pdc-change-comment" in answer.headers["access-control-allow-headers"]
    token = world.alice.headers["authorization"].partition(" ")[2]
    address = f"{world.url}{BASE}auth/current-user/"
    assert httpx.get(address, auth=("alice", token)).json()["username"] == "alice"
    other = httpx.get(address, auth=("alice", token), headers={"Origin": "https://else.example"})
    assert other.status_code == 401


def test_a_list_that_has_not_changed(world: World) -> None:
    """Releases tell when they did; schedules change by themselves and do not."""
    answer = world.nobody.get("releases/")
    since = answer.headers["last-modified"]
    assert world.nobody.get("releases/", headers={"If-Modified-Since": since}).status_code == 304
    assert "last-modified" not in world.nobody.get(S).headers
