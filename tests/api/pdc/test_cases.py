"""The numbered edge cases of the contract, each over HTTP; 42 as the design has it (13.12)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.api.pdc.conftest import BASE, SLAS, TODAY, S, World, document, release

ALL = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"


def found(answer: httpx.Response) -> list[int]:
    """The ids of a page."""
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["results"]]


def refused(answer: httpx.Response, status: int = 400) -> Any:
    """The body of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_case_01_an_empty_collection(world: World) -> None:
    """One empty page, and what the published page shows around it."""
    assert world.empty.status_code == 200
    assert world.empty.json() == {"count": 0, "next": None, "previous": None, "results": []}
    assert world.empty.headers["allow"] == ALL
    assert world.empty.headers["vary"] == "Accept"
    assert world.empty.headers["content-type"] == "application/json"


def test_case_02_active_to_the_end_of_the_day(world: World) -> None:
    """Yesterday's is over, today's is not."""
    assert world.shown(world.first)["active"] is False
    assert world.shown(world.second)["active"] is True
    assert found(world.nobody.get(f"{S}?active=1&release=fedora-44")) == [world.second]


def test_case_03_words_for_active(world: World) -> None:
    """Four spellings, and no other."""
    for word in ("True", "t", "1", "true"):
        assert world.first not in found(world.nobody.get(f"{S}?active={word}&release=fedora-44"))
    for word in ("TRUE", "yes"):
        assert len(refused(world.nobody.get(f"{S}?active={word}"))) == 1
    assert found(world.nobody.get(f"{S}?active=&release=fedora-44")) == [world.first, world.second]


def test_case_04_filters_narrow_an_entry(world: World) -> None:
    """Also for a write."""
    assert world.nobody.get(f"{S}{world.first}/?active=true").status_code == 404
    assert world.nobody.get(f"{S}{world.first}/?active=false").status_code == 200
    answer = world.alice.patch(f"{S}{world.first}/?active=true", json={"date": "2050-01-01"})
    assert refused(answer, 404) == {"detail": "Not found."}


def test_case_05_unknown_query_keys(world: World) -> None:
    """In alphabetical order; `format` is one."""
    assert "bar, foo" in refused(world.nobody.get(f"{S}?foo=1&bar=2"))["detail"]
    assert "format" in refused(world.nobody.get(f"{S}?format=json"))["detail"]


def test_case_06_dates(world: World) -> None:
    """Both ends are in; one digit will do; nonsense matches nothing."""
    both = "date_after=2031-04-08&date_before=2031-04-08"
    assert found(world.nobody.get(f"{S}?{both}")) == [world.first]
    assert found(world.nobody.get(f"{S}?date=2031-4-8")) == [world.first]
    for nonsense in ("soon", "2031-02-30", "12/31/2030"):
        assert found(world.nobody.get(f"{S}?date={nonsense}")) == []


def test_case_07_several_slas(world: World) -> None:
    """One of them; none at all where one is unknown, or empty."""
    own = "release=fedora-44"
    assert found(world.nobody.get(f"{S}?sla=bug_fixes&sla=development&{own}")) == [world.first, world.second]
    assert found(world.nobody.get(f"{S}?sla=bug_fixes&{own}")) == [world.second]
    assert found(world.nobody.get(f"{S}?sla=bug_fixes&sla=gold")) == []
    assert found(world.nobody.get(f"{S}?sla=")) == []


def test_case_08_the_last_release_counts(world: World) -> None:
    """Exactly as it is written."""
    assert found(world.nobody.get(f"{S}?release=FEDORA-44")) == []
    rows = world.nobody.get(f"{S}?release=paged-1&release=fedora-44").json()["results"]
    assert {row["release"] for row in rows} == {"fedora-44"}


def test_case_09_product_version(world: World) -> None:
    """That of the release."""
    assert found(world.nobody.get(f"{S}?product_version=fedora-44")) == [world.first, world.second]
    assert found(world.nobody.get(f"{S}?product_version=nope")) == []


def test_case_10_ordering(world: World) -> None:
    """By keys and by what is behind them."""
    own = "release=fedora-44"
    assert found(world.nobody.get(f"{S}?ordering=-date,id&{own}")) == [world.second, world.first]
    for wrong in ("active", "", "release__nope"):
        assert "detail" in refused(world.nobody.get(f"{S}?ordering={wrong}"))
    rows = world.nobody.get(f"{S}?ordering=-release__release_id&page_size=-1").json()
    assert [row["release"] for row in rows] == sorted((row["release"] for row in rows), reverse=True)
    assert found(world.nobody.get(f"{S}?ordering=--date,%20id&{own}")) == [world.second, world.first]


def test_case_11_fields(world: World) -> None:
    """Repeated or with commas; what is excluded wins."""
    address = f"{S}{world.first}/"
    for two in ("fields=id,date", "fields=id&fields=date"):
        assert world.nobody.get(f"{address}?{two}").json().keys() == {"id", "date"}
    one = world.nobody.get(f"{address}?fields=id,date&exclude_fields=date")
    assert one.json() == {"id": world.first}
    assert world.nobody.get(f"{address}?fields=id&exclude_fields=id").json() == {}
    assert "nope" in refused(world.nobody.get(f"{address}?fields=nope"))["detail"]


def test_case_12_pages(world: World) -> None:
    """Links, their ends, and odd sizes."""
    three = f"{S}?date_after=2099-01-01&date_before=2099-12-31"
    first = world.nobody.get(f"{three}&page_size=2").json()
    assert (first["count"], first["previous"]) == (3, None)
    assert first["next"].endswith("page=2&page_size=2")
    assert first["next"].startswith(f"{world.url}/rest_api/v1/release-schedules/?")
    second = httpx.get(first["next"]).json()
    assert "page=" not in second["previous"]
    assert len(second["results"]) == 1
    assert refused(world.nobody.get(f"{three}&page_size=2&page=3"), 404) == {"detail": "Invalid page."}
    assert world.nobody.get(f"{three}&page_size=2&page=last").json()["results"] == second["results"]
    for wrong in ("0", "x", "-1", "", "99999999999999999999"):
        status = world.nobody.get(f"{three}&page_size=2&page={wrong}").status_code
        assert status == (200 if wrong == "" else 404), wrong
    for all_of_it in ("-1", "0"):
        assert len(world.nobody.get(f"{three}&page_size={all_of_it}&page=7").json()) == 3
    many = world.nobody.get("releases/?page_size=abc").json()
    assert len(many["results"]) == 20
    assert "page_size=abc" in many["next"]
    assert len(world.nobody.get("releases/?page_size=500").json()["results"]) == min(100, many["count"])


def test_case_13_the_last_slash(world: World) -> None:
    """Every method is sent to the address with it."""
    for method in ("GET", "POST", "PATCH", "DELETE"):
        answer = world.alice.request(method, f"{world.url}/rest_api/v1/release-schedules?a=1&b=%20")
        assert answer.status_code == 301
        assert answer.headers["location"].endswith("/rest_api/v1/release-schedules/?a=1&b=%20")
    answer = world.nobody.get(f"{world.url}/rest_api/v1/releases/fedora-44.1")
    assert (answer.status_code, answer.headers["location"]) == (301, "/rest_api/v1/releases/fedora-44.1/")
    assert world.nobody.get(f"{world.url}/rest_api/v1/nope").status_code == 404


def test_case_14_what_is_not_there(world: World) -> None:
    """Two sentences that differ by a full stop; a page for people."""
    for ident in ("99999", "abc", "%2F", "1%2F2", "99999999999999999999999"):
        assert refused(world.nobody.get(f"{S}{ident}/"), 404) == {"detail": "Not found."}
    assert refused(world.nobody.get("nope/"), 404) == {"detail": "Not found"}
    page = world.nobody.get("nope/", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"][:9]) == (404, "text/html")


def test_case_15_bodies_that_say_nothing(world: World) -> None:
    """An empty object has every key wrong, and so has no body."""
    for sent in ({"json": {}}, {}):
        assert refused(world.alice.post(S, **sent)).keys() == {"release", "sla", "date"}
    for raw in ("{bad", '"x"', "null", "7", "\ud800".encode("utf-8", "surrogatepass")):
        answer = world.alice.post(S, content=raw, headers={"Content-Type": "application/json"})
        assert refused(answer).keys() == {"detail"}


def test_case_16_everything_wrong(world: World) -> None:
    """All of it is told, and the allowed names."""
    body = refused(world.alice.post(S, json={"release": "fedora-99", "sla": "gold", "date": "31.12.2031"}))
    assert body.keys() == {"release", "sla", "date"}
    assert "release_id=fedora-99" in body["release"][0]
    assert "'gold'" in body["sla"][0]
    assert all(f"'{name}'" in body["sla"][0] for name in SLAS)
    assert "YYYY-MM-DD" in body["date"][0]


def test_case_17_null(world: World) -> None:
    """And the empty text, which is the same."""
    for key in ("release", "sla"):
        for value in (None, ""):
            good = {"release": "fedora-45", "sla": "bug_fixes", "date": "2040-01-01"}
            body = refused(world.alice.post(S, json=good | {key: value}))
            assert body == {key: ["This field may not be null."]}


def test_case_18_keys_that_may_not_be_there(world: World) -> None:
    """The first sort of fault answers alone; nothing is stored."""
    good = {"release": "fedora-45", "sla": "bug_fixes", "date": "2040-01-01"}
    told = refused(world.alice.post(S, json=good | {"foo": 1, "id": 7}))["detail"]
    assert ("foo" in told, "id" in told.replace("fields", "")) == (True, False)
    told = refused(world.alice.post(S, json=good | {"id": 7, "active": True}))["detail"]
    assert ("id" in told, "active" in told) == (True, True)
    assert found(world.nobody.get(f"{S}?release=fedora-45")) == []


def test_case_19_days(world: World) -> None:
    """One digit will do; what is no day of the calendar will not."""
    good = {"release": world.spare(), "sla": "bug_fixes"}
    for wrong in ("2032-02-30", "2032-01-05T00:00:00", 7, True, [], {}, "0000-01-01", "2032-13-01"):
        assert refused(world.alice.post(S, json=good | {"date": wrong})).keys() == {"date"}, wrong
    answer = world.alice.post(S, json=good | {"date": "2032-1-5"})
    assert (answer.status_code, answer.json()["date"]) == (201, "2032-01-05")


def test_case_20_a_pair_that_exists(world: World) -> None:
    """One text, which names both."""
    body = {"release": "fedora-44", "sla": "bug_fixes", "date": "2040-01-01"}
    (told,) = refused(world.alice.post(S, json=body))["detail"]
    assert ("fedora-44" in told, "bug_fixes" in told) == (True, True)


def test_case_21_bulk_of_none_and_of_two(world: World) -> None:
    """In their order, with rising ids."""
    head = world.repo.head()
    answer = world.alice.post(S, json=[])
    assert (answer.status_code, answer.json()) == (201, [])
    assert world.repo.head() == head
    release = world.spare()
    first, second = world.made("security_fixes", "bug_fixes", release=release)
    assert first < second
    assert world.shown(first)["sla"] == "security_fixes"
    assert world.repo.git("rev-list", "--count", f"{head}..HEAD") == "1"


def test_case_22_the_first_bad_one_is_named(world: World) -> None:
    """And the good one before it is not stored."""
    release, head = world.spare(), world.repo.head()
    good = {"release": release, "sla": "bug_fixes", "date": "2040-01-01"}
    bad = good | {"release": "fedora-99"}
    body = refused(world.alice.post(S, json=[good, bad, good | {"date": "soon"}]))
    assert body["id_of_invalid_data"] == 1
    assert body["detail"].keys() == {"release"}
    assert body["invalid_data"] == bad
    assert (world.repo.head(), found(world.nobody.get(f"{S}?release={release}"))) == (head, [])


def test_case_23_the_same_pair_twice(world: World) -> None:
    """The second fails."""
    good = {"release": world.spare(), "sla": "bug_fixes", "date": "2040-01-01"}
    body = refused(world.alice.post(S, json=[good, good | {"date": "2041-01-01"}]))
    assert body["id_of_invalid_data"] == 1
    assert isinstance(body["detail"], list)


def test_case_24_items_that_are_nothing(world: World) -> None:
    """What is empty is not sent back."""
    body = refused(world.alice.post(S, json=[{}]))
    assert (body["id_of_invalid_data"], "invalid_data" in body) == (0, False)
    assert body["detail"].keys() == {"release", "sla", "date"}
    body = refused(world.alice.post(S, json=[1]))
    assert (body["id_of_invalid_data"], body["invalid_data"]) == (0, 1)
    assert "invalid_data" not in refused(world.alice.post(S, json=[None]))


def test_case_25_a_patch_without_anything(world: World) -> None:
    """Most likely a client that was sent on without its body."""
    for address in (f"{S}{world.first}/", f"{S}99999/"):
        answer = world.alice.patch(address, json={})
        assert refused(answer).keys() == {"detail"}
        assert answer.headers["pdc-warning"]
    body = refused(world.alice.patch(S, json={str(world.first): {}}))
    assert (body["id_of_invalid_data"], "invalid_data" in body) == (str(world.first), False)
    for nothing in ({"json": {}}, {"json": []}, {}):
        assert refused(world.alice.patch(S, **nothing)).keys() == {"detail"}


def test_case_26_what_a_patch_may_not(world: World) -> None:
    """Read-only keys, and a pair that another entry has."""
    assert refused(world.alice.patch(f"{S}{world.first}/", json={"active": True})).keys() == {"detail"}
    body = refused(world.alice.patch(f"{S}{world.first}/", json={"sla": "bug_fixes"}))
    assert isinstance(body["detail"], list)
    assert world.shown(world.first)["sla"] == "development"


def test_case_27_a_bulk_patch_with_an_unknown_id(world: World) -> None:
    """Nothing is changed, and nothing noted."""
    before, day = world.changesets(), {"date": "2040-01-01"}
    body = refused(world.alice.patch(S, json={str(world.first): day, "99999": day}), 404)
    assert body == {"detail": "Not found.", "id_of_invalid_data": "99999", "invalid_data": day}
    assert world.shown(world.first)["date"] == "2031-04-08"
    assert world.changesets() == before


def test_case_28_put(world: World) -> None:
    """All keys are wanted; it never makes anything."""
    whole = {"release": "fedora-45", "sla": "bug_fixes", "date": "2040-01-01"}
    assert refused(world.alice.put(f"{S}{world.first}/", json={"date": "2040-01-01"})).keys() == {
        "release",
        "sla",
    }
    assert refused(world.alice.put(f"{S}99999/", json=whole), 404) == {"detail": "Not found."}
    for nothing in ({"json": {}}, {}):
        answer = world.alice.put(S, **nothing)
        assert (answer.status_code, answer.json()) == (200, {})
    assert refused(world.alice.put(S, json=[])).keys() == {"detail"}
    (number,) = world.made("bug_fixes")
    moved = {"release": world.spare(), "sla": "development", "date": "2041-02-03"}
    answer = world.alice.put(S, json={str(number): moved})
    assert answer.status_code == 200
    assert answer.json()[str(number)].items() >= (moved | {"id": number}).items()
    assert world.shown(number)["release"] == moved["release"]


def test_case_29_delete(world: World) -> None:
    """Once."""
    (number,) = world.made("bug_fixes")
    answer = world.alice.delete(f"{S}{number}/")
    assert (answer.status_code, answer.content, "content-type" in answer.headers) == (204, b"", False)
    assert refused(world.alice.delete(f"{S}{number}/"), 404) == {"detail": "Not found."}
    assert world.nobody.get(f"{S}{number}/").status_code == 404


def test_case_30_delete_several(world: World) -> None:
    """By a list of ids: all, or none."""

    def delete(**body: Any) -> httpx.Response:
        return world.alice.request("DELETE", S, **body)

    for wrong in ({}, {"json": {}}, {"json": [{"a": 1}]}, {"json": [[1]]}, {"json": [1.5]}, {"json": [None]}):
        assert refused(delete(**wrong)).keys() == {"detail"}, wrong
    assert delete(json=[]).status_code == 204
    one, two = world.made("bug_fixes", "development")
    body = refused(delete(json=[one, 99999]), 404)
    assert body == {"detail": "Not found.", "id_of_invalid_data": 99999}
    assert refused(delete(json=[True]), 404)["id_of_invalid_data"] is True
    assert refused(delete(json=[one, str(one)]), 404)["id_of_invalid_data"] == str(one)
    assert world.shown(one)["id"] == one
    assert delete(json=[one, one]).status_code == 204
    assert world.nobody.get(f"{S}{one}/").status_code == 404
    assert world.shown(two)["id"] == two


def test_case_31_a_method_that_is_not_there(world: World) -> None:
    """With those there are."""
    answer = world.alice.post(f"{S}{world.first}/", json={})
    assert "POST" in refused(answer, 405)["detail"]
    assert answer.headers["allow"] == "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"


def test_case_32_head_and_options(world: World) -> None:
    """The same length without a body; what the caller may do."""
    own = f"{S}?release=fedora-44"
    head, get = world.nobody.head(own), world.nobody.get(own)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    told = world.alice.options(f"{S}{world.first}/").json()
    assert told["name"] == "Release Schedule Instance"
    assert told["actions"].keys() == {"PUT"}
    assert told["actions"]["PUT"]["date"]["type"] == "date"
    told = world.alice.options(S).json()
    assert (told["name"], told["actions"].keys()) == ("Release Schedule List", {"POST", "PUT"})
    for asks in (world.nobody, world.clients["reader"]):
        answer = asks.options(f"{S}{world.first}/")
        assert (answer.status_code, "actions" in answer.json()) == (200, False)
    assert "actions" not in world.alice.options(f"{S}99999/").json()


def test_case_33_media_types(world: World) -> None:
    """What goes out, and what comes in."""
    assert refused(world.nobody.get(S, headers={"Accept": "application/xml"}), 406).keys() == {"detail"}
    assert world.nobody.get(S, headers={"Accept": ""}).status_code == 406
    page = world.nobody.get(S, headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
    assert "fedora-44" in page.text
    both = world.nobody.get(S, headers={"Accept": "text/html,application/json;q=0.5"})
    assert both.headers["content-type"] == "application/json"
    nice = world.nobody.get(S, headers={"Accept": "application/json; indent=4"})
    assert nice.text.startswith('{\n    "count"')
    form = {"release": world.spare(), "sla": "bug_fixes", "date": "2040-01-01"}
    assert world.alice.post(S, data=form).status_code == 201
    multipart = {key: (None, value) for key, value in (form | {"sla": "development"}).items()}
    assert world.alice.post(S, files=multipart).status_code == 201
    answer = world.alice.post(S, content="x", headers={"Content-Type": "text/plain"})
    assert refused(answer, 415).keys() == {"detail"}


def test_case_34_who_may(world: World) -> None:
    """Anybody reads; to write takes the right."""
    good = {"release": "fedora-45", "sla": "bug_fixes", "date": "2040-01-01"}
    answer = world.nobody.post(S, json=good)
    assert refused(answer, 401).keys() == {"detail"}
    assert answer.headers["www-authenticate"] == "Token"
    assert refused(world.clients["reader"].post(S, json=good), 403).keys() == {"detail"}
    assert refused(world.clients["reader"].delete("releases/fedora-44/"), 403).keys() == {"detail"}
    for wrong in ("Token nobody", "Token", "Token a b"):
        assert refused(world.nobody.get(S, headers={"Authorization": wrong}), 401).keys() == {"detail"}
    assert world.nobody.get(S).status_code == 200
    assert world.nobody.get(S, headers={"Authorization": "Digest x"}).status_code == 200


def test_case_35_changesets(world: World) -> None:
    """One for each request that changes something, with what the client said of it."""
    one, two = world.made("bug_fixes", "development")
    before = world.changesets()
    said = {"PDC-Change-Comment": "extend"}
    assert world.alice.patch(f"{S}{one}/", json={"date": "2041-01-01"}, headers=said).status_code == 200
    newest = world.alice.get("changesets/").json()["results"][0]
    assert (newest["comment"], newest["author"]) == ("extend", "alice")
    assert world.repo.git("log", "-1", "--format=%s") == "extend"
    _long_comment(world, one)
    (change,) = newest["changes"]
    assert (change["resource"], change["resource_id"]) == ("releaseschedule", str(one))
    assert json.loads(change["old_value"])["date"] == "2040-01-01"
    assert json.loads(change["new_value"]).keys() == {"release", "sla", "date"}
    both = {str(number): {"date": "2042-01-01"} for number in (one, two)}
    assert world.alice.patch(S, json=both).status_code == 200
    newest = world.alice.get("changesets/").json()["results"][0]
    assert (len(newest["changes"]), newest["comment"], world.changesets()) == (2, None, before + 3)
    assert world.repo.git("log", "-1", "--format=%s").startswith("productrelease ")
    head = world.repo.head()
    assert world.alice.patch(f"{S}{one}/", json={"date": "2042-01-01"}).status_code == 200
    assert (world.changesets(), world.repo.head()) == (before + 3, head)
    assert world.alice.get(f"changesets/{newest['id']}/").json() == newest
    assert found(world.nobody.get("changesets/?comment=exten"))
    assert refused(world.nobody.get("changesets/?changed_since=soon")).keys() == {"detail"}


def _long_comment(world: World, number: int) -> None:
    """It is kept as it is, and cut where it is the title of a commit."""
    comment = f"Steersman-Renamed: schedule a -> b\t{'x' * 90}"
    said = {"PDC-Change-Comment": comment}
    assert world.alice.patch(f"{S}{number}/", json={"date": "2041-01-02"}, headers=said).status_code == 200
    assert world.alice.get("changesets/").json()["results"][0]["comment"] == comment
    title = world.repo.git("log", "-1", "--format=%s")
    assert title == comment.replace("\t", "")[:71] + "…"


def test_case_36_a_new_token(world: World) -> None:
    """In place of the old one, which is of no use at once."""
    old = world.token("alice")
    with world.client(old) as client:
        assert client.get("auth/token/obtain/").json() == {"token": old}
        new = client.put("auth/token/refresh/").raise_for_status().json()["token"]
        assert new != old
        assert refused(client.get("auth/token/obtain/"), 401).keys() == {"detail"}
    address = f"{world.url}{BASE}auth/token/refresh/"
    assert refused(httpx.get(address, auth=("alice", new)), 403).keys() == {"detail"}
    with world.client(new) as client:
        assert client.get("auth/current-user/").json()["username"] == "alice"
        again = client.get("auth/token/refresh/").raise_for_status().json()["token"]
        assert client.get("auth/current-user/").status_code == 401
    assert httpx.put(address, auth=("alice", again)).status_code == 200
    first = world.native.headers["authorization"].rpartition(" ")[2]
    with world.client(first) as client:
        for method in ("GET", "PUT"):
            assert "`steersman token " in refused(client.request(method, "auth/token/refresh/"))["detail"]
        assert client.get("auth/current-user/").status_code == 200
    assert "www-authenticate" not in world.nobody.get("auth/current-user/").headers
    assert world.nobody.get("auth/token/obtain/").status_code == 401


def test_case_37_a_release_with_a_new_name(world: World) -> None:
    """Its schedule goes with it, and keeps its numbers; its document stays as somebody wrote it."""
    name = world.spare()
    version = name.removeprefix("spare-")
    path = f"spare/{version}.yaml"
    written = (
        "# Ours\napiVersion: steersman/v1\nkind: ProductRelease\n"
        f"metadata:\n  name: {name}  # the id\n  labels: {{team: x}}\n  annotations: {{a: b}}\n"
        f"spec:\n  short: 'spare'\n  version: '{version}'\n  display_name: \"Spare\"\n  release_type: ga\n"
        "  # ends\n  schedule:\n    bug_fixes: 2040-01-01  # as signed\n"
    )
    world.repo.commit({path: written}, "As people write")
    world.sync()
    (number,) = found(world.nobody.get(S, params={"release": name}))
    answer = world.alice.patch(f"releases/{name}/", json={"version": f"{version}.1"})
    shown = world.repo.git("show", "--format=%s", "--name-only").split("\n")
    assert shown == [f"productrelease {name}: rename to {name}.1", "", path]
    assert world.repo.path.joinpath(path).read_text() == written.replace(
        f"name: {name}", f"name: {name}.1"
    ).replace(f"'{version}'", f"'{version}.1'")
    assert (answer.status_code, answer.json()["release_id"]) == (200, f"{name}.1")
    row = world.shown(number)
    assert (row["release"], row["release_url"].endswith(f"/releases/{name}.1/")) == (f"{name}.1", True)
    assert world.nobody.get(f"releases/{name}/").status_code == 404
    assert httpx.get(row["release_url"]).json()["release_id"] == f"{name}.1"
    other = world.spare()
    (second,) = world.made("bug_fixes", release=other)
    names = {f"{name}.1": {"version": f"{version}.2"}, other: {"version": f"{version}.1"}}
    assert world.alice.patch("releases/", json=names).status_code == 200
    assert [world.shown(each)["release"] for each in (number, second)] == [f"{name}.2", f"{name}.1"]
    assert world.repo.git("show", "--format=", "--name-only").split("\n") == [
        path,
        f"{other.replace('-', '/')}.yaml",
    ]


def test_case_38_what_is_removed(world: World) -> None:
    """A release never; an SLA with its schedules, in one changeset."""
    assert refused(world.alice.delete("releases/fedora-45/"), 405).keys() == {"detail"}
    made = world.alice.post("component-sla-types/", json={"name": "to be removed"}).json()
    (number,) = world.made("to be removed")
    assert world.alice.delete(f"component-sla-types/{made['id']}/").status_code == 204
    assert world.nobody.get(f"{S}{number}/").status_code == 404
    changes = world.alice.get("changesets/").json()["results"][0]["changes"]
    assert {change["resource"] for change in changes} == {"sla", "releaseschedule"}
    assert {change["new_value"] for change in changes} == {"null"}
    _removal_of_what_holds(world)


def _removal_of_what_holds(world: World) -> None:
    """An SLA by which a release is held stays, and the release is named."""
    body = [{"name": name} for name in ("of no use", "holding")]
    free, holding = (each["id"] for each in world.alice.post("component-sla-types/", json=body).json())
    held = ", applications: [web], hold_when_inactive: [holding], schedule: {holding: '2099-01-01'}"
    declared = document("Application", "web") + "---\n" + release("hold", "1", held)
    world.repo.commit({"h.yaml": declared}, "A release that is held")
    world.sync()
    told = "SLA holding is used by ProductRelease/hold-1 (hold_when_inactive) at h.yaml:6"
    assert refused(world.alice.delete(f"component-sla-types/{holding}/")) == {"detail": told}
    several = world.alice.request("DELETE", "component-sla-types/", json=[free, holding])
    assert refused(several) == {"detail": told, "id_of_invalid_data": holding}
    assert world.nobody.get(f"component-sla-types/{free}/").status_code == 200


def test_case_39_the_name_of_an_sla_stays(world: World) -> None:
    """As it is."""
    address = f"component-sla-types/{world.slas['bug_fixes']}/"
    assert refused(world.alice.patch(address, json={"name": "x"})).keys() == {"name"}
    assert world.alice.patch(address, json={"name": "bug_fixes"}).status_code == 200


def test_case_40_midnight(world: World) -> None:
    """The same entry is over a second later, and nothing was written."""
    before, midnight = world.changesets(), datetime(2031, 4, 10, tzinfo=UTC)
    row = world.shown(world.second)
    try:
        world.at(midnight - timedelta(seconds=30))
        assert world.shown(world.second)["active"] is True
        world.at(midnight)
        after = _over(world)
        assert after == row | {"active": False}
        assert found(world.nobody.get(f"{S}?active=1&release=fedora-44&fields=id")) == []
    finally:
        world.at(TODAY)
    assert world.changesets() == before


def _over(world: World) -> dict[str, Any]:
    """The entry, once it is over."""

    def check() -> dict[str, Any] | None:
        row = world.shown(world.second)
        return None if row["active"] else row

    row: dict[str, Any] = world.once(check)
    return row


def test_case_41_the_same_commit_twice(world: World) -> None:
    """Numbers stay, and there is no second changeset."""
    before, rows = world.changesets(), world.nobody.get(f"{S}?page_size=-1").json()
    for _ in range(2):
        world.sync()
    assert world.nobody.get(f"{S}?page_size=-1").json() == rows
    world.repo.commit({"moved/f45.yaml": world.repo.path.joinpath("f45.yaml").read_text(), "f45.yaml": None})
    world.sync()
    assert (world.changesets(), world.nobody.get(f"{S}?page_size=-1").json()) == (before, rows)


def test_case_42_what_git_declares_is_changed_in_git(world: World) -> None:
    """By a commit of the caller with just that line; several are one commit (design 13.12)."""
    answer = world.alice.patch(f"{S}{world.second}/", json={"date": "2031-04-10"})
    assert answer.status_code == 200
    shown = world.repo.git("show", "--format=%an", "-U0").splitlines()
    changed = [line for line in shown if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")]
    assert shown[0] == "alice"
    assert ["2031-04-09" in changed[0], "2031-04-10" in changed[1]] == [True] * len(changed)
    assert world.repo.path.joinpath("f44.yaml").read_text().startswith("# kept\n")
    assert "2031-04-10" in world.repo.path.joinpath("f44.yaml").read_text()
    head = world.repo.head()
    both = {str(world.first): {"date": "2031-04-08"}, str(world.second): {"date": "2031-04-09"}}
    assert world.alice.patch(S, json=both).status_code == 200
    assert world.repo.git("rev-list", "--count", f"{head}..HEAD") == "1"
    assert world.shown(world.second)["date"] == "2031-04-09"
