"""Requests that accidents and attackers make: an answer of this API for each, never a 500, and nothing half done."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from tests.api.pdc.conftest import S, World

NONSENSE: list[Any] = [
    None,
    "",
    " ",
    0,
    -1,
    1.5,
    True,
    [],
    {},
    [1],
    {"a": 1},
    "x" * 400,
    "\u0000",
    "a/b",
    "..",
    "9a",
]
GOOD: dict[str, dict[str, Any]] = {
    "release-schedules": {"release": "fedora-45", "sla": "bug_fixes", "date": "2040-01-01"},
    "component-sla-types": {"name": "n", "description": ""},
    "releases": {
        "short": "new",
        "version": "1",
        "name": "New",
        "release_type": "ga",
        "base_product": None,
        "product_version": "fedora-44",
        "active": True,
        "integrated_with": None,
        "sigkey": None,
        "allow_buildroot_push": False,
        "allowed_debuginfo_services": [],
        "allowed_push_targets": [],
        "bugzilla": None,
        "dist_git": None,
    },
    "product-versions": {
        "short": "new",
        "version": "1",
        "name": "New",
        "product": "fedora",
        "allowed_push_targets": [],
    },
    "products": {"short": "new", "name": "New", "allowed_push_targets": []},
}


def told(answer: httpx.Response, *statuses: int) -> Any:
    """The body of a refusal with one of these statuses."""
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.mark.parametrize("noun", GOOD)
def test_every_key_is_wrong_in_turn(world: World, noun: str) -> None:
    """One list a key, whose first item is wrong: each is named, or was good and then the next one is at fault."""
    head = world.repo.head()
    for key, value in itertools.product(GOOD[noun], NONSENSE):
        wrong = GOOD[noun] | {key: value}
        body = told(world.alice.post(f"{noun}/", json=[wrong, 1]), 400)
        assert body["id_of_invalid_data"] in (0, 1), (key, value)
        if body["id_of_invalid_data"] == 0:
            assert body["detail"], (key, value)
    for key in GOOD[noun]:
        left = {name: value for name, value in GOOD[noun].items() if name != key}
        body = told(world.alice.post(f"{noun}/", json=[left, 1]), 400)
        assert body["id_of_invalid_data"] == 1 or body["detail"] == {key: ["This field is required."]}
    assert world.repo.head() == head


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bodies_of_wrong_shapes(world: World, method: str) -> None:
    """On collections and on entries."""
    shapes = [
        b"{",
        b"[",
        b"nul",
        b"\xff\xfe",
        b'{"a":1,}',
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b"[" * 955 + b"]" * 955,
        b'{"name":' * 101 + b"1" + b"}" * 101,
        b"NaN",
        b"1e999",
        b'"\\ud800"',
    ]
    shapes += [
        json.dumps(value).encode() for value in ([[]], [None], "x", 7, {"x": 1}, {"1": []}, [{"id": {}}])
    ]
    head = world.repo.head()
    for address, raw in itertools.product(
        (S, f"{S}{world.first}/", "releases/", "releases/fedora-44/"), shapes
    ):
        if method == "DELETE" and address == f"{S}{world.first}/":
            continue  # takes no body, and would be right to remove it
        headers = {"Content-Type": "application/json"}
        told(world.alice.request(method, address, content=raw, headers=headers), 400, 404, 405)
    assert world.repo.head() == head


def test_forms_that_cannot_be_read(world: World) -> None:
    """Multipart without its end, with a file, without a boundary."""
    for kind, raw in (
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--b\r\nbroken"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="date"\r\n\r\n1\r\n--b--\r\n',
        ),
        ("application/x-www-form-urlencoded", b"%ff=%00&date=\xff"),
    ):
        told(world.alice.post(S, content=raw, headers={"Content-Type": kind}), 400)
    told(world.alice.post(S, files={"date": ("a.txt", b"x")}), 400)


def test_query_strings(world: World) -> None:
    """Whatever is in them."""
    nonsense = ("%ff", "%00", "x" * 5000, "-1", "[]", "%F0%9F%92%A9", "=", "&", "a,b,,", "1e5", "\u0661")
    for name, value in itertools.product(
        ("active", "date", "date_after", "release", "sla", "ordering", "fields", "page", "page_size"),
        nonsense,
    ):
        answer = world.nobody.get(f"{S}?{name}={value}")
        assert answer.status_code in (200, 400, 404), (name, value, answer.status_code)
    for address in (
        "releases/?active=x",
        "releases/?page_size=%D9%A1",
        "changesets/?changed_until=9999-12-31T23:59:59-12:00",
    ):
        assert world.nobody.get(address).status_code in (200, 400), address
    for since in ("x", "Mon, 01 Jan 0001 00:00:00 -2359", "Sat, 01 Jan 2028 00:00:00 GMT"):
        answer = world.nobody.get("releases/", headers={"If-Modified-Since": since})
        assert answer.status_code in (200, 304)


def test_ten_thousand_in_one_request(world: World) -> None:
    """One commit; one bad entry among them, and nothing is changed. A page of them is quick to make."""
    head = world.repo.head()
    slas = [{"name": f"service {number}"} for number in range(400)]
    assert world.alice.post("component-sla-types/", json=slas).status_code == 201
    releases = [
        {"short": "many", "version": str(number), "name": "Many", "release_type": "ga"}
        for number in range(25)
    ]
    assert world.alice.post("releases/", json=releases).status_code == 201
    entries = [
        {"release": f"many-{release}", "sla": f"service {sla}", "date": "2077-01-01"}
        for release in range(25)
        for sla in range(400)
    ]
    body = told(world.alice.post(S, json=[*entries, {"release": "many-0"}]), 400)
    assert body["id_of_invalid_data"] == 10_000
    answer = world.alice.post(S, json=entries)
    assert answer.status_code == 201
    made = [each["id"] for each in answer.json()]
    assert made == sorted(made)
    assert len(made) == 10_000
    assert world.repo.git("rev-list", "--count", f"{head}..HEAD") == "3"
    page = world.nobody.get(f"{S}?date=2077-01-01&page_size=50")
    assert page.json()["count"] == 10_000
    body = told(world.alice.request("DELETE", S, json=[*made, 10**9]), 404)
    assert body["id_of_invalid_data"] == 10**9
    assert world.alice.request("DELETE", S, json=made).status_code == 204
    assert world.nobody.get(f"{S}?date=2077-01-01").json()["count"] == 0
