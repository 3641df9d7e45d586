"""Requests that attackers and accidents make: a problem document for each, never a 500."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.api.test_access import address, is_problem, routes

POSTS = [path for method, path in routes() if method == "POST" and not path.endswith("webhook")]
GETS = [path for method, path in routes() if method == "GET" and not path.endswith("stream")]
FINITE = [path for path in GETS if path not in ("/health", "/reconciler/schema.json", "/metrics")]
JSON_POSTS = ["/reconciler/plan", "/reconciler/sync", "/reconciler/trigger", "/reconciler/tokens"]
DEEP = b'{"key":' + b"[" * 30_000 + b"]" * 30_000 + b"}"


def raw(api: Api, method: str, target: bytes, **more: Any) -> httpx.Response:
    """A request whose path and query are sent as they are."""
    request = api.client.build_request(method, "/", **more)
    request.url = request.url.copy_with(raw_path=target)
    return api.client.send(request)


def healthy(answer: httpx.Response) -> None:
    """No fault of the server, and a problem document where it refused."""
    assert answer.status_code < 500, (answer.request.url, answer.text)
    if answer.status_code >= 400:
        is_refusal(answer)


def is_refusal(answer: httpx.Response) -> None:
    """The error body of the API that was asked."""
    if not answer.request.url.path.startswith("/api/v1/"):
        is_problem(answer)
        return
    body = answer.json()
    assert body["error"]
    assert body["code"]
    assert body.keys() <= {"error", "code", "fields"}
    assert "Traceback" not in answer.text


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"key": "\xff\xfe"}',
    "a NUL": b'{"key": "\\u0000", "ref": "\\u0000", "name": "\\u0000", "confirm": "\\u0000"}',
    "half a surrogate pair": b'{"key": "\\ud800", "ref": "\\ud800", "name": "\\ud800", "confirm": "\\ud800"}',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "a word": b'"x"',
    "deep": DEEP,
    "too deep to be shown": b'{"key":' + b"[" * 955 + b"]" * 955 + b"}",
    "just too deep": b'{"key":' + b"[" * 100 + b"]" * 100 + b"}",
    "deep mappings": b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "a number of thirty digits": b'{"key": 1, "days": ' + b"9" * 30 + b', "name": "x"}',
    "a number of ten thousand digits": b'{"name": "x", "days": ' + b"9" * 10_000 + b"}",
    "a huge exponent": b'{"name": "x", "days": 1e999}',
    "NaN": b'{"name": "x", "days": NaN}',
    "keys twice": b'{"key": "a", "key": "b"}',
    "odd keys": b'{"": 1, "__class__": 2, "\\u0000": 3}',
    "texts as files": b'{"files": {"../../x.yaml": "a: b", "/x.yaml": "", "\\u0000.yaml": "", "x.yaml": "\\ud800"}}',
    "files that are no texts": b'{"files": {"a.yaml": 1}}',
    "a deep file": json.dumps({"files": {"a.yaml": "[" * 30_000}}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_poisoned_body_is_refused(api: Api, name: str) -> None:
    """Every route that takes a body, and every one that takes none."""
    for path in POSTS:
        if path == "/reconciler/sync" and name in ("nothing", "null"):
            continue
        answer = api.client.post(
            address(path), content=BODIES[name], headers={"Content-Type": "application/json"}
        )
        healthy(answer)


@pytest.mark.parametrize("path", JSON_POSTS)
@pytest.mark.parametrize("name", ["not JSON", "not UTF-8", "a list", "a number", "deep", "odd keys"])
def test_a_body_that_is_no_object_of_ours_is_400(api: Api, path: str, name: str) -> None:
    """Told as the fault of the caller, in a sentence."""
    answer = api.client.post(path, content=BODIES[name], headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert is_problem(answer)["detail"]


@pytest.mark.parametrize("path", JSON_POSTS)
@pytest.mark.parametrize("name", ["deep", "deep mappings", "too deep to be shown", "just too deep"])
def test_a_body_that_is_nested_too_deeply_is_400(api: Api, path: str, name: str) -> None:
    """By whatever opens the levels."""
    answer = api.client.post(path, content=BODIES[name], headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "nested" in is_problem(answer)["detail"]


@pytest.mark.parametrize("path", JSON_POSTS)
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "a/b"]
)
def test_a_body_of_another_type_is_415(api: Api, path: str, kind: str) -> None:
    """A form of another site cannot be mistaken for JSON."""
    answer = api.client.post(path, content=b'{"key": "x"}', headers={"Content-Type": kind})
    assert answer.status_code == 415, answer.text
    assert "application/json" in is_problem(answer)["detail"]


@pytest.mark.parametrize("path", JSON_POSTS)
def test_a_body_that_is_too_large_is_413(api: Api, path: str) -> None:
    """With its length said, and in chunks without it."""
    body = b'{"key": "' + b"x" * (2 << 20) + b'"}'
    headers = {"Content-Type": "application/json"}
    answer = api.client.post(path, content=body, headers=headers)
    assert answer.status_code == 413
    is_problem(answer)
    try:
        answer = api.client.post(path, content=iter([body[:65536]] * 40), headers=headers)
    except httpx.TransportError:
        return
    assert answer.status_code == 413


VALUES = (
    b"%00",
    b"%FF",
    b"%C3%28",
    b"9" * 30,
    b"-1",
    b"1e3",
    b"x" * 8000,
    b"%ED%A0%80",
    b"%27%22%3B--",
    b"",
    b"%0D%0A",
)
NAMES = (
    b"key",
    b"kind",
    b"project",
    b"environment",
    b"sync",
    b"health",
    b"state",
    b"after",
    b"limit",
    b"offset",
)
MORE = (b"task", b"trial", b"script", b"wait")


@pytest.mark.parametrize("path", FINITE)
def test_a_poisoned_query_is_refused_or_finds_nothing(api: Api, path: str) -> None:
    """Odd bytes and numbers in every parameter, known or not."""
    for value in VALUES:
        for name in NAMES + MORE:
            healthy(raw(api, "GET", address(path).encode() + b"?" + name + b"=" + value))
    healthy(raw(api, "GET", address(path).encode() + b"?%FF=%00&&==&a=1&a=2&limit=1&limit=2"))


@pytest.mark.parametrize("path", sorted({path for _, path in routes() if "{" in path}))
def test_a_poisoned_path_is_refused(api: Api, path: str) -> None:
    """Odd bytes and numbers where a number, a name or a path stands."""
    for method in ("GET", "POST", "DELETE"):
        for value in (*VALUES, b"9" * 6000, b"..", b"%2e%2e%2f", b"a%2fb", b"%", b"0"):
            target = re.sub(r"\{[^}]+\}", "@", path).encode().replace(b"@", value)
            healthy(raw(api, method, target))


@pytest.mark.parametrize("path", ["/reconciler/jobs", "/reconciler/events", "/reconciler/resources"])
@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1000000", "limit=" + "9" * 30])
def test_a_bad_number_is_400_and_named(api: Api, path: str, query: str) -> None:
    """The parameter is in the sentence and in `errors`."""
    answer = api.client.get(f"{path}?{query}")
    assert answer.status_code == 400
    problem = is_problem(answer)
    assert "limit" in problem["detail"]
    assert [fault["field"] for fault in problem["errors"]] == ["limit"]


def test_a_path_that_is_not_there_is_404(api: Api) -> None:
    """A problem document also where no route is."""
    for path in (
        "/nothing",
        "/reconciler",
        "/reconciler/nothing",
        "/reconciler/jobs/x",
        "/reconciler/jobs/1/nothing",
    ):
        answer = api.client.get(path)
        assert answer.status_code == 404
        assert is_problem(answer)["title"] == "NotFound"


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/reconciler/jobs"), ("PUT", "/reconciler/sync"), ("POST", "/health")]
)
def test_another_method_is_405(api: Api, method: str, path: str) -> None:
    """With the methods that there are in `Allow`."""
    answer = api.client.request(method, path)
    assert answer.status_code == 405
    assert is_problem(answer)["title"] == "MethodNotAllowed"
    assert answer.headers.get("allow")


def test_the_daemon_is_as_well_as_before(api: Api) -> None:
    """After all of that no pass fails, and the audit of the log is sound."""
    status = api.get("/reconciler/status")
    assert status["troubles"] == []
    assert api.get("/reconciler/audit")["sound"] is True
    assert "request-crashed" not in api.running.log()
