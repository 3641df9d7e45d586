"""What is common to all of the API: forms of answers, pages, credentials, errors, other origins (cider-ci, 3)."""

from __future__ import annotations

import base64
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.cider.conftest import PLAIN, ROA, A, Cider
from tests.api.srht.conftest import World

NEGOTIATED = (
    (None, ROA),
    ("*/*", ROA),
    ("application/*", ROA),
    ("text/html", ROA),
    ("image/png", ROA),
    ("application/json", PLAIN),
    ("application/json-roa+json;q=0.4, application/json", PLAIN),
    ("application/json;q=0.9, */*;q=0.8", ROA),
    ("application/json, text/plain, */*", ROA),
    ("application/json-roa+json;q=0, application/json", PLAIN),
    ("application/json-roa+json;q=0, application/json;q=0", ROA),
    ("APPLICATION/JSON ; Q=0.1", PLAIN),
    ("application/json-roa+json;q=0.5, application/json;q=1", ROA),  # a tie
    ("application/json-roa+json;q=many, application/json", ROA),  # what cannot be read is 1
    ("application/json-roa+json;level=1;q=0.1, application/json", PLAIN),
    ("", ROA),
)


@pytest.mark.parametrize(("accept", "kind"), NEGOTIATED)
def test_the_form_of_an_answer(admin: Cider, accept: str | None, kind: str) -> None:
    """Row by row of 3.1; case 2, 3, 4, 5."""
    request = admin.client.build_request("GET", f"{A}/")
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    answer = admin.client.send(request)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers.get_list("vary") == ["Accept", "Origin"]
    assert ("_json-roa" in answer.json()) == (kind == ROA)
    assert {"message", "version"} <= answer.json().keys()


def test_the_forms_differ_in_one_key(admin: Cider, filled: dict[str, Any]) -> None:
    """In every resource and list."""
    job = admin.job(filled["files"]["number"])
    for path in (f"{A}/", f"{A}/jobs/", f"{A}/jobs/{job['id']}", f"{A}/jobs/{job['id']}/tasks/"):
        plain = admin.client.get(path, headers={"Accept": PLAIN}).json()
        linked = admin.client.get(path, headers={"Accept": ROA}).json()
        assert linked.keys() - plain.keys() == {"_json-roa"}
        assert {**plain, "_json-roa": linked["_json-roa"]} == linked


def test_the_root(world: World, admin: Cider) -> None:
    """4.1: its relations are those of the contract; without the slash it is elsewhere."""
    found = admin.get(f"{A}/")["_json-roa"]
    relations = {name: relation["href"].removeprefix(A) for name, relation in found["relations"].items()}
    assert relations == {
        "root": "/",
        "jobs": "/jobs/{?repository_url,branch_head,branch_descendants,key,state,tree_id,"
        "job_specification_id,page,after}",
        "job": "/jobs/{id}",
        "create_job": "/jobs/create",
        "job-specification": "/job-specifications/{id}",
        "tasks": "/tasks/{?job_id,state,task_specification_id,page,after}",
        "task": "/tasks/{id}",
        "task-specification": "/task-specifications/{id}",
        "trial": "/trials/{id}",
        "script": "/scripts/{id}",
        "commits": "/commits/{?repository_url,branch_head,branch_descendants,tree_id,page}",
        "tree-attachment-data-stream": "/cider-ci/storage/tree-attachments/{tree_id}/{+path}",
        "projects": "/cider-ci/repositories/projects/{?page,after}",
    }
    assert found["relations"]["create_job"]["methods"] == {"post": {}}
    answer = admin.client.get(A)
    assert (answer.status_code, answer.headers["location"]) == (302, f"{A}/")


def test_head_is_get_without_a_body(admin: Cider, filled: dict[str, Any]) -> None:
    """Case 35."""
    for path in (f"{A}/", f"{A}/jobs/", f"{A}/jobs/{admin.job(filled['files']['number'])['id']}"):
        get, head = admin.client.get(path), admin.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "vary"):
            assert head.headers[name] == get.headers[name]


def test_slashes_at_the_end_make_no_difference(admin: Cider, filled: dict[str, Any]) -> None:
    """3.2."""
    job = admin.job(filled["files"]["number"])["id"]
    for path in (f"{A}/jobs", f"{A}/tasks", f"{A}/commits", f"{A}/jobs/{job}/tasks"):
        assert admin.client.get(path).content == admin.client.get(f"{path}/").content


def test_no_credentials_and_wrong_ones(world: World) -> None:
    """Case 1: 401 with a challenge, whatever is asked for."""
    for headers in (
        {},
        {"Authorization": "token wrong"},
        {"Authorization": "Digest x"},
        {"Authorization": "token"},
        {"Authorization": f"Basic {base64.b64encode(b'jo:wrong').decode()}"},
        {"X-Escape-Token": world.secrets["jo"]},
    ):
        for path in (f"{A}/", f"{A}/jobs/", "/cider-ci/storage/tree-attachments/x/y"):
            answer = world.nobody.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert answer.headers["content-type"] == "application/json; charset=utf-8"
            assert answer.json().keys() == {"message"}


def test_all_forms_of_a_token(world: World) -> None:
    """As name and as password of Basic, in either scheme, whatever their case."""
    secret = world.secrets["jo"]
    basic = [
        f"{secret}:",
        f"jo:{secret}",
        f"{secret}:x-oauth-basic",
        f"JO@EXAMPLE.ORG:{secret}",
        f":{secret}",
    ]
    forms = [f"bAsIc {base64.b64encode(each.encode()).decode()}" for each in basic]
    for form in (f"token {secret}", f"TOKEN {secret}", f"Bearer {secret}", *forms):
        assert world.nobody.get(f"{A}/", headers={"Authorization": form}).status_code == 200, form


@pytest.mark.parametrize(
    "header", ["Basic %%%", "Basic YQ", f"Basic {base64.b64encode(bytes([255])).decode()}"]
)
def test_a_header_that_cannot_be_decoded(world: World, header: str) -> None:
    """422 (3.4)."""
    answer = world.nobody.get(f"{A}/", headers={"Authorization": header})
    assert (answer.status_code, answer.json().keys()) == (422, {"message"})


def test_a_cookie_counts_for_our_own_pages_only(world: World) -> None:
    """What a browser sends by itself does not count from elsewhere: neither cookies nor remembered Basic."""
    cookie = {"Cookie": f"X-Escape-Token={world.secrets['jo']}"}
    basic = {"Authorization": f"Basic {base64.b64encode(('jo:' + world.secrets['jo']).encode()).decode()}"}
    own, other = {"Origin": world.url}, {"Origin": "https://evil.example"}
    for given in (cookie, basic):
        for more, status in (({}, 200), (own, 200), (other, 401), ({"Origin": "null"}, 401)):
            answer = world.nobody.get(f"{A}/", headers=given | more)
            assert answer.status_code == status, (given, more)
    path = f"{A}/jobs/{uuid4()}/abort"
    assert world.nobody.post(path, headers=cookie | other).status_code == 401
    assert world.nobody.post(path, headers=cookie).status_code == 403
    assert world.nobody.post(path, headers=cookie | own).status_code == 404
    token = {"Authorization": f"token {world.secrets['jo']}"}
    assert world.nobody.get(f"{A}/", headers=token | other).status_code == 200


def test_a_token_that_may_only_read_changes_nothing(world: World, filled: dict[str, Any]) -> None:
    """403 for POST, PUT and DELETE (3.4), also where nothing is."""
    with world.client(world.token("bob", "read")) as reader:
        assert reader.get(f"{A}/jobs/").status_code == 200
        job = filled["files"]["id"]
        tree = reader.get(f"{A}/jobs/{job}").json()["tree_id"]
        for method, path in (
            ("POST", f"{A}/jobs/create"),
            ("POST", f"{A}/jobs/{job}/abort"),
            ("POST", f"/cider-ci/dispatcher/jobs/{job}/retry-and-resume"),
            ("POST", f"{A}/tasks/{uuid4()}/trials/retry"),
            ("PUT", f"/cider-ci/storage/tree-attachments/{tree}/a"),
            ("DELETE", f"/cider-ci/storage/tree-attachments/{tree}/a"),
        ):
            answer = reader.request(method, path)
            assert (answer.status_code, answer.json().keys()) == (403, {"message"}), (method, path)


def test_other_origins(world: World) -> None:
    """3.6, case 35; also on refusals."""
    for method, path, status in (
        ("OPTIONS", f"{A}/jobs/", 204),
        ("OPTIONS", f"{A}/jobs/create", 204),
        ("GET", f"{A}/jobs/", 401),
        ("GET", f"{A}/nowhere", 404),
    ):
        for origin in (None, "https://app.example"):
            headers = {} if origin is None else {"Origin": origin}
            answer = world.nobody.request(method, path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == (origin or "*")
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert answer.headers["access-control-allow-headers"] == "Content-Type, Accept, Authorization"
            assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in world.nobody.get("/health").headers
    assert "access-control-allow-origin" not in world.nobody.get("/cider-cix").headers


def test_what_is_not_there(admin: Cider) -> None:
    """Case 19 and 25: unknown and malformed ids, unknown paths, methods that are not offered."""
    unknown = str(uuid4())
    for noun in ("jobs", "tasks", "trials", "scripts", "tree-attachments", "trial-attachments"):
        for value in (unknown, "abc", "1", "%00", "x" * 300, unknown.upper(), "%2F"):
            refused(admin.client.get(f"{A}/{noun}/{value}"), 404)
    for path in (
        f"/jobs/{unknown}/tasks/",
        f"/jobs/{unknown}/stats",
        f"/job/{unknown}/stats",
        f"/jobs/{unknown}/attachments/",
        f"/tasks/{unknown}/trials/",
        f"/trials/{unknown}/scripts/",
        f"/trials/{unknown}/trial-attachments/",
        f"/job-specifications/{unknown}",
        f"/task-specifications/{unknown}",
        f"/commits/{'0' * 40}",
        "/nowhere",
        "/jobs/x/y/z",
    ):
        refused(admin.client.get(A + path), 404)
    for path in (f"/tasks/{unknown}/trials/retry", f"/jobs/{unknown}/abort"):
        refused(admin.client.post(A + path), 404)
    refused(admin.client.post(f"/cider-ci/dispatcher/jobs/{unknown}/abort"), 404)
    for method, path, allowed in (
        ("GET", f"/tasks/{unknown}/trials/retry", {"POST", "OPTIONS"}),
        ("GET", "/jobs/create", {"POST", "OPTIONS"}),
        ("POST", "/jobs/", {"GET", "OPTIONS"}),
        ("DELETE", f"/jobs/{unknown}", {"GET", "OPTIONS"}),
    ):
        answer = refused(admin.client.request(method, A + path), 405)
        assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("page", ["-1", "x", "1.0", "٣", " 1", "0x1"])
def test_pages_that_are_no_numbers(admin: Cider, page: str) -> None:
    """Case 7."""
    refused(admin.client.get(f"{A}/jobs/", params={"page": page}), 422)


def test_odd_queries(admin: Cider, filled: dict[str, Any]) -> None:
    """Unknown parameters, empty ones, several, and pages far away (3.2)."""
    everything = [job["id"] for job in admin.every(f"{A}/jobs/", "jobs")]
    assert len(everything) >= 4
    first = admin.get(f"{A}/jobs/")["jobs"]
    assert admin.get(f"{A}/jobs/?foo=1&state=&key=")["jobs"] == first
    assert admin.get(f"{A}/jobs/?state=failed&state=")["jobs"] == first
    assert admin.get(f"{A}/jobs/?page=99999999999999999999999999")["jobs"] == []
    failed = admin.get(f"{A}/jobs/?state=passed&state=failed")["jobs"]
    assert {admin.get(f"{A}/jobs/{job['id']}")["state"] for job in failed} == {"failed"}
    for odd in ("state=nonsense", "job_specification_id=zzz", "tree_id=x", "key=%00", "branch_head=%00"):
        found = admin.get(f"{A}/jobs/?{odd}")
        assert (found["jobs"], found["_json-roa"]["collection"]) == ([], {"relations": {}})
    same = [admin.get(f"{A}/jobs/", state=word)["jobs"] for word in ("success", "passed")]
    assert same[0] == same[1] != []
    assert "%7B" in admin.get(f"{A}/jobs/?key=%7Bx%7D")["_json-roa"]["self-relation"]["href"]


BAD_BODIES: tuple[tuple[Any, int], ...] = (
    (b"{}", 422),
    (b"[]", 422),
    (b"null", 422),
    (b'{"tree_id": "T"}', 422),
    (b'{"tree_id": "T", "key": "unit", "x": 1}', 422),
    (b'{"tree_id": "T", "key": ""}', 422),
    (b'{"tree_id": "", "key": "unit"}', 422),
    (b'{"tree_id": 1, "key": ["unit"]}', 422),
    (b'{"tree_id": "zz", "key": "unit"}', 422),
    (b"not json", 422),
    (b"", 422),
    (b"\xff", 422),
    (b"[" * 50_000, 422),
)


@pytest.mark.parametrize(("content", "status"), BAD_BODIES)
def test_bodies_that_make_no_job(admin: Cider, content: bytes, status: int) -> None:
    """Case 15; the message stands there twice (3.5)."""
    content = content.replace(b'"T"', b'"' + b"0" * 40 + b'"')
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = admin.client.post(f"{A}/jobs/create", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"] == answer.json()["message"] != ""


def test_a_body_of_another_type(admin: Cider) -> None:
    """415 (3.5); 413 for one that is too large."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        answer = admin.client.post(f"{A}/jobs/create", content=b"{}", headers={"Content-Type": kind})
        refused(answer, 415)
    big = {"tree_id": "0" * 40, "key": "x" * (1 << 20)}
    refused(admin.client.post(f"{A}/jobs/create", json=big), 413)


def test_an_unknown_tree(admin: Cider) -> None:
    """Case 16."""
    answer = admin.client.post(f"{A}/jobs/create", json={"tree_id": "0" * 40, "key": "unit"})
    assert (answer.status_code, "tree" in answer.json()["message"]) == (422, True)


def test_the_documentation(world: World, admin: Cider) -> None:
    """Every `api-doc` leads to a place that is there; the page is open."""
    answer = world.nobody.get("/cider-ci/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for relation in admin.get(f"{A}/")["_json-roa"]["relations"].values():
        path, _, anchor = relation["relations"]["api-doc"]["href"].partition("#")
        assert path == "/cider-ci/docs"
        assert f'id="{anchor}"' in answer.text


def refused(answer: httpx.Response, status: int) -> httpx.Response:
    """A refusal with a message."""
    assert answer.status_code == status, (answer.request.url, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert isinstance(answer.json()["message"], str)
    assert answer.json()["message"]
    return answer
