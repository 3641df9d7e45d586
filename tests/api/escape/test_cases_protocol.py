"""The numbered edge cases of the contract about access and protocol (escape-state, 17)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.escape.conftest import DEV, SHOP, WEB, World, document, refused


def test_case_01_without_credential(world: World) -> None:
    """401, with a challenge."""
    answer = httpx.get(f"{world.url}{SHOP}/", headers={"Accept": "application/json"})
    refused(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_case_02_with_a_token_that_is_none(world: World) -> None:
    """401, not 403."""
    with world.client("nonsense") as client:
        refused(client.get(f"{SHOP}/"), 401, "unauthorized")


def test_case_03_as_a_user_without_a_role(world: World) -> None:
    """What is hidden and what is not there answer alike; so do things inside."""
    nobody = world["nobody"]
    hidden = refused(nobody.get(f"{SHOP}/"), 404, "not-found")
    absent = refused(nobody.get("/api/v1/state/nope/"), 404, "not-found")
    assert hidden == {**absent, "error": absent["error"].replace("nope", "shop")}
    for path in (WEB, f"{DEV}/", f"{SHOP}/builds/", f"{SHOP}/repositories/", f"{SHOP}/service-accounts/"):
        there, other = nobody.get(path), nobody.get(path.replace("shop", "nope"))
        assert there.json() == {**other.json(), "error": other.json()["error"].replace("nope", "shop")}
        refused(there, 404, "not-found")


def test_case_05_a_reader_is_shown_no_code(world: World) -> None:
    """`webhook_token` and `private_key` are empty; a writer is shown the code, which is always the same."""
    found = world["rita"].get(WEB).raise_for_status().json()
    assert (found["webhook_token"], found["private_key"], found["permission"]) == ("", "", "read")
    codes = {world[name].get(WEB).json()["webhook_token"] for name in ("wendy", "alice", "admin")}
    assert len(codes) == 1
    assert len(codes.pop()) == 43


def test_case_06_a_writer_cannot_delete_an_environment(world: World) -> None:
    """403, no commit."""
    before = world.commits()
    refused(world["wendy"].delete(f"{DEV}/"), 403, "forbidden")
    assert world.commits() == before


def test_case_07_a_role_on_one_environment(world: World) -> None:
    """The project shows that one only, in all lists; the others are not there."""
    pia = world["pia"]
    found = pia.get(f"{SHOP}/").raise_for_status().json()
    assert list(found["environments"]) == found["environment_order"] == ["prod"]
    assert (found["permission"], found["environments"]["prod"]["permission"]) == ("read", "write")
    assert pia.get(f"{SHOP}/builds/").json() == {"prod": {}}
    assert pia.get("/api/v1/builds/").json() == {"shop": {"prod": {}}}
    refused(pia.get(f"{DEV}/"), 404, "not-found")
    refused(pia.put(f"{SHOP}/", json={"description": "x"}), 403, "forbidden")


def test_case_08_a_trailing_slash_makes_no_difference(world: World) -> None:
    """The same answer, no redirect."""
    rita = world["rita"]
    for path in (f"{SHOP}/", WEB, f"{DEV}/", f"{SHOP}/builds/", "/api/v1/state/", f"{SHOP}/repositories/"):
        one, other = rita.get(path), rita.get(path.rstrip("/"))
        assert (one.status_code, other.status_code) == (200, 200)
        assert one.content == other.content


def test_case_09_namespaces_is_no_project(world: World) -> None:
    """The payload of the caller's namespaces."""
    found = world["rita"].get("/api/v1/state/namespaces").raise_for_status().json()
    assert found == {"namespaces": {"shop": {"permission": "read", "project": "shop"}}}
    everything = world["admin"].get("/api/v1/state/namespaces/").raise_for_status().json()
    assert list(everything["namespaces"]) == ["shop", "tools"]
    assert world["nobody"].get("/api/v1/state/namespaces").json() == {"namespaces": {}}


@pytest.mark.parametrize("name", ["namespaces", "__get_projects_by_group", "__other"])
def test_case_10_reserved_names(world: World, name: str) -> None:
    """400, no commit."""
    before = world.commits()
    body = refused(world["admin"].post(f"/api/v1/state/{name}/add-project"), 400, "invalid-field")
    assert "reserved" in body["fields"]["name"]
    assert world.commits() == before


@pytest.mark.parametrize("name", ["p", "-shop", "a b", "a%2Fb", "a.b", "%C3%A9%C3%A9"])
def test_case_11_names_that_are_none(world: World, name: str) -> None:
    """One character is too short; no commit."""
    before = world.commits()
    refused(world["admin"].post(f"/api/v1/state/{name}/add-project"), 400, "invalid-field")
    assert world.commits() == before


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (WEB, {"GET", "PUT", "DELETE", "OPTIONS"}),
        (f"{DEV}/builds/", {"GET", "POST", "OPTIONS"}),
        (f"{SHOP}/", {"GET", "PUT", "DELETE", "OPTIONS"}),
        ("/api/v1/builds/", {"GET", "OPTIONS"}),
        (f"{SHOP}/add-namespace", {"POST", "OPTIONS"}),
    ],
)
def test_case_12_another_method(world: World, path: str, allowed: set[str]) -> None:
    """405 with Allow; OPTIONS says the same."""
    answer = world["alice"].patch(path)
    refused(answer, 405, "method-not-allowed")
    assert {each.strip() for each in answer.headers["allow"].split(",")} == allowed
    asked = world["alice"].options(path)
    assert (asked.status_code, asked.content) == (204, b"")
    assert {each.strip() for each in asked.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize(
    "body", [b"{", b"", b"null", b"[]", b'"x"', b"\xff", b"[" * 60_000, b'{"a": NaN}', b'{"name": "\\ud800"}']
)
def test_case_14_a_body_that_is_no_json_object(world: World, body: bytes) -> None:
    """400, no commit."""
    before = world.commits()
    refused(world["wendy"].put(WEB, content=body), 400, "invalid-json")
    assert world.commits() == before


def test_case_16_without_accept_an_error_is_a_sentence(world: World) -> None:
    """Plain text; the same for who prefers it. Any other type gets JSON."""
    headers = {"X-Escape-Token": world.secrets["rita"]}
    with httpx.Client(base_url=world.url) as client:
        request = client.build_request("GET", "/api/v1/state/nope/", headers=headers)
        del request.headers["accept"]
        answers = [client.send(request)]
        answers += [
            client.get("/api/v1/state/nope/", headers=headers | {"Accept": accept})
            for accept in ("text/plain", "text/plain, application/json;q=0.5")
        ]
        for answer in answers:
            assert answer.status_code == 404
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.text == "There is no project 'nope'."
        for accept in ("*/*", "application/json", "text/html", "text/plain;q=0.1, */*"):
            other = client.get("/api/v1/state/nope/", headers=headers | {"Accept": accept})
            assert other.json() == {"error": "There is no project 'nope'.", "code": "not-found"}


def test_a_body_is_json_whatever_its_type_says(world: World) -> None:
    """Form, text, none."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        answer = world["wendy"].put(WEB, content=b"{", headers={"Content-Type": kind})
        refused(answer, 400, "invalid-json")


def test_a_body_beyond_the_limit_is_413(world: World) -> None:
    """1 MiB is taken, a byte more is not."""
    large = b'{"description": "' + b"x" * (1 << 20) + b'"}'
    refused(world["alice"].put(f"{SHOP}/", content=large), 413, "too-large")


def test_head_is_get_without_a_body(world: World) -> None:
    """Also for errors."""
    for path in (WEB, f"{SHOP}/", "/api/v1/state/nope"):
        head, get = world["rita"].head(path), world["rita"].get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.headers.get("etag") == get.headers.get("etag")


def test_an_encoded_slash_stays_in_its_segment(world: World) -> None:
    """No such name, rather than no such path."""
    for name in ("a%2Fb", "a%2fb", "a%252Fb", "%00", "%FF"):
        body = refused(world["rita"].get(f"{DEV}/builds/by-name/{name}/"), 404, "not-found")
        assert body["error"].startswith("There is no build"), body


@pytest.mark.parametrize("form", ["X-Escape-Token", "Bearer", "Basic", "cookie"])
def test_the_forms_of_a_credential(world: World, form: str) -> None:
    """Header, Bearer, Basic with the token as password, cookie."""
    secret = world.secrets["rita"]
    more: dict[str, object] = {
        "X-Escape-Token": {"headers": {"X-Escape-Token": secret}},
        "Bearer": {"headers": {"Authorization": f"Bearer {secret}"}},
        "Basic": {"auth": ("rita", secret)},
        "cookie": {"headers": {"Cookie": f"a=b; X-Escape-Token={secret}"}},
    }[form]
    assert httpx.get(f"{world.url}{SHOP}/", **more).status_code == 200  # type: ignore[arg-type]


def test_the_header_is_no_credential_elsewhere(world: World) -> None:
    """Each dialect takes its own forms; the cookie is that of sign-in, and good everywhere."""
    headers = {"X-Escape-Token": world.secrets["alice"]}
    assert httpx.get(f"{world.url}/reconciler/status", headers=headers).status_code == 401


def test_a_cookie_writes_only_from_our_own_pages(world: World) -> None:
    """Without Origin, or with another one: 403, no commit. Reading needs none."""
    before = world.commits()
    cookie = {"Cookie": f"X-Escape-Token={world.secrets['alice']}", "Accept": "application/json"}
    body = {"description": "by cookie"}
    for origin in (None, "null", "http://evil.example", f"{world.url}.evil.example", world.url + "/"):
        headers = cookie if origin is None else cookie | {"Origin": origin}
        refused(httpx.put(f"{world.url}{SHOP}/", json=body, headers=headers), 403, "forbidden")
    assert world.commits() == before
    assert httpx.head(f"{world.url}{SHOP}/", headers=cookie).status_code == 200
    good = httpx.put(f"{world.url}{SHOP}/", json=body, headers=cookie | {"Origin": world.url}, timeout=60)
    assert good.status_code == 200, good.text
    assert world.commits() == before + 1


def test_a_wait_that_is_none(world: World) -> None:
    """400 naming the parameter."""
    body = refused(world["alice"].put(f"{SHOP}/?wait=soon", json={}), 400, "invalid-field")
    assert "wait" in body["fields"]


def test_wait_commit_answers_before_it_is_applied(world: World) -> None:
    """The answer shows what was wished for, and says that it is not applied yet."""
    answer = world["alice"].put(f"{SHOP}/?wait=commit", json={"description": "soon"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-steersman-reconciled"] == "false"
    assert answer.headers["x-steersman-commit"] == world.repo.head()
    assert answer.json()["description"] == "soon"
    world.applied()
    assert world["rita"].get(f"{SHOP}/").json()["description"] == "soon"
    made = world["wendy"].post(
        f"{DEV}/builds/?wait=commit", json={"name": "api", "repo": "web", "steps": [{}]}
    )
    assert (made.status_code, made.json()["steps"][0]["run_build"]) == (200, True)
    world.applied()
    known = world["wendy"].get(f"{DEV}/builds/by-name/api/").json()["id"]
    assert made.json()["id"] in ("", known)  # the loop may be quicker


def test_a_broken_file_elsewhere_harms_nobody(world: World) -> None:
    """Reading and writing go on; what it declared stays in force, and cannot be written."""
    world.commit({"web.yaml": "kind: [", "other.yaml": document("Project", "name: tools")})
    assert world["rita"].get(WEB).status_code == 200
    assert world["alice"].put(f"{SHOP}/", json={"description": "new"}).status_code == 200
    body = refused(world["wendy"].put(WEB, json=world["wendy"].get(WEB).json()), 409, "spec-invalid")
    assert "web.yaml" in body["error"]
    refused(world["wendy"].delete(WEB), 409, "spec-invalid")
    refused(world["alice"].delete(f"{DEV}/"), 409, "spec-invalid")


def nested(levels: int) -> Any:
    """So many mappings in each other."""
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


UNHELD: dict[str, tuple[Any, str, str]] = {
    "just too deep": ({"x": nested(48)}, "inputs.x", "is nested deeper than 50 levels"),
    "deep": ({"x": nested(60)}, "inputs.x", "is nested deeper than 50 levels"),
    "a large number": ({"x": [2**63]}, "inputs.x[0]", "more than 64 bits"),
}


@pytest.mark.parametrize("case", UNHELD)
@pytest.mark.parametrize("declared", [True, False])
def test_a_value_that_no_document_can_hold_is_the_callers_fault(
    world: World, case: str, *, declared: bool
) -> None:
    """400 with the field, and nothing is committed; whether the resource stands in Git already or not."""
    inputs, field, told = UNHELD[case]
    before = world.commits()
    if declared:
        answer = world["alice"].put(f"{DEV}/", json={"inputs": inputs})
    else:
        answer = world["alice"].post(f"{SHOP}/environments/", json={"name": "other", "inputs": inputs})
    body = refused(answer, 400, "invalid-field")
    assert told in body["fields"][field]
    assert told in body["error"]
    assert world.commits() == before


def test_a_value_as_deep_as_a_document_can_hold_is_written(world: World) -> None:
    """And read again."""
    answer = world["alice"].put(f"{DEV}/", json={"inputs": {"x": nested(47)}})
    assert answer.status_code == 200, answer.text
    assert world["alice"].get(f"{DEV}/").json()["inputs"] == {"x": nested(47)}
