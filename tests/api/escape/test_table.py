"""Every endpoint of `table`, over HTTP: who may and who may not, what succeeds, how it fails, what it commits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.api.escape.conftest import refused
from tests.api.escape.ground import IMAGE, SETTINGS, Ground, files, ground_in
from tests.api.escape.shapes import faults
from tests.api.escape.table import ADDED, CALLERS, ENDPOINTS, NO_BODY, PARAMETERS, Endpoint, Wrong
from tests.api.test_access import every_route
from tests.support import SpecRepository, process

PUBLISHED = Path(__file__).parent / "published.txt"
ABSENT = {"code": "x" * 43} | dict.fromkeys(
    ("build_execution_id", "execution_id", "pipeline_execution_id"), "0" * 26
)
TRIES = "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE"
NATIVE = ("IN1", "IN2")
"""Paths that are shared with the other APIs."""
_PARAMETER = re.compile(r"\{(\w+)[^}]*\}")


@pytest.fixture(scope="module")
def daemon_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Started once for all rows."""
    with ground_in(tmp_path_factory.mktemp("table")) as found:
        yield found


@pytest.fixture
def ground(daemon_ground: Ground) -> Ground:
    """The same specs for every test."""
    daemon_ground.reset()
    return daemon_ground


def request_of(
    ground: Ground, endpoint: Endpoint, who: str, parameters: dict[str, str], wrong: Wrong | None = None
) -> httpx.Response:
    """What a row asks for; `who` "": without a token."""
    body = endpoint.body if wrong is None or wrong.body is None else wrong.body
    more: dict[str, Any] = {"headers": {"Accept": "application/json"} | dict(wrong.headers if wrong else {})}
    if isinstance(body, bytes):
        more["content"] = body
    elif body is not NO_BODY:
        more["json"] = body
    query = endpoint.query if wrong is None or wrong.query is None else wrong.query
    address = place(endpoint, parameters) + (f"?{query}" if query else "")
    if not who:
        return httpx.request(endpoint.method, ground.url + address, timeout=60, **more)
    return ground[who].request(endpoint.method, address, **more)


def place(endpoint: Endpoint, parameters: dict[str, str]) -> str:
    """The path with these parameters."""
    whole = {**PARAMETERS, **parameters}
    return _PARAMETER.sub(lambda found: quote(whole[found[1]], safe=""), endpoint.path)


def prepared(ground: Ground, endpoint: Endpoint, wrong: Wrong | None = None) -> dict[str, str]:
    """The parameters of a path, once what it is about is so."""
    situation = endpoint.given if wrong is None or wrong.given is None else wrong.given
    found = {**endpoint.parameters, **(situation(ground) if situation else {})}
    return {**found, **(wrong.parameters if wrong else {})}


def anonymous(path: str) -> str:
    """A path whose parameters have no names and which ends in no slash."""
    return _PARAMETER.sub("{}", path).rstrip("/") or "/"


def test_the_table_is_the_published_page() -> None:
    """All 87 lines, in their order, and no other."""
    lines = [tuple(line.split(" ")) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    assert [(each.method, each.path) for each in ENDPOINTS] == lines
    assert Counter(method for method, _ in lines) == {"GET": 44, "POST": 27, "PUT": 8, "DELETE": 8}
    assert len({each.name for each in ENDPOINTS}) == 87


def test_the_routes_are_those_of_the_table() -> None:
    """The app serves what is published, and what the contract adds to it."""
    wanted = {(each.method, anonymous(each.path)) for each in ENDPOINTS if each.name not in NATIVE}
    wanted |= {(method, anonymous(path)) for method, path in ADDED}
    served = [(method, anonymous(path)) for method, path in every_route() if path.startswith("/api/v1")]
    assert set(served) == wanted
    assert len(served) == len(wanted)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: each.name)
def test_who_may_and_what_succeeds(ground: Ground, endpoint: Endpoint) -> None:
    """Refused without a token, without a role, with too small a one; then done by the least who may."""
    parameters, callers = prepared(ground, endpoint), CALLERS[endpoint.needs]
    before = ground.commits()
    if callers.token:
        refused(request_of(ground, endpoint, "", parameters), 401, "unauthorized")
        bad = {"X-Escape-Token": "nonsense", "Accept": "application/json"}
        answer = httpx.request(endpoint.method, ground.url + place(endpoint, parameters), headers=bad)
        refused(answer, 401, "unauthorized")
    for who, statuses in callers.refused.items():
        answer = request_of(ground, endpoint, who, parameters)
        assert answer.status_code in statuses, f"{who}: {answer.status_code} {answer.text}"
        refused(answer, answer.status_code, "not-found" if answer.status_code == 404 else "forbidden")
    if endpoint.needs == "any":
        answer = request_of(ground, endpoint, "nobody", parameters)
        assert (answer.status_code, answer.json()) in [(200, []), (200, {}), (200, {"namespaces": {}})]
    assert ground.commits() == before
    if endpoint.name in SHOWN:
        SHOWN[endpoint.name](ground, endpoint, parameters)
        return
    answer = request_of(ground, endpoint, callers.able, parameters)
    assert answer.status_code == 200, f"{callers.able}: {answer.text}"
    assert ground.commits() == before + endpoint.commits
    commit = ground.git("rev-parse", "main").strip() if endpoint.commits else None
    assert answer.headers.get("x-steersman-commit") == commit
    if endpoint.commits:
        assert answer.headers["x-steersman-reconciled"] == "true"
    if endpoint.shape == "":
        assert answer.content == b""
        return
    found = answer.json()
    assert faults(found, endpoint.shape) == []
    assert found or not isinstance(endpoint.shape, list)


CASES = [(endpoint, wrong) for endpoint in ENDPOINTS for wrong in endpoint.wrong]


def _case(case: tuple[Endpoint, Wrong]) -> str:
    endpoint, wrong = case
    same = [each for each in endpoint.wrong if (each.status, each.code) == (wrong.status, wrong.code)]
    return f"{endpoint.name}-{wrong.status}-{wrong.code}" + (f"-{same.index(wrong)}" if len(same) > 1 else "")


@pytest.mark.parametrize("case", CASES, ids=_case)
def test_how_it_fails(ground: Ground, case: tuple[Endpoint, Wrong]) -> None:
    """An error of the row, for an administrator or by the code; it changes no spec."""
    endpoint, wrong = case
    parameters = prepared(ground, endpoint, wrong)
    before = ground.commits()
    who = {"code": "", "asked": "rita"}.get(endpoint.needs, "admin")
    refused(request_of(ground, endpoint, who, parameters, wrong), wrong.status, wrong.code)
    assert ground.commits() == before


NAMED = [
    (endpoint, name)
    for endpoint in ENDPOINTS
    for name in _PARAMETER.findall(endpoint.path)
    if (endpoint.name, name) != ("PR6", "project")  # it makes that very project
]


@pytest.mark.parametrize(("endpoint", "name"), NAMED, ids=lambda each: getattr(each, "name", each))
def test_what_is_not_there(ground: Ground, endpoint: Endpoint, name: str) -> None:
    """404 for whatever the path names and there is not, for those who may everything; it changes no spec."""
    parameters = {**ABSENT, **prepared(ground, endpoint), name: ABSENT.get(name, "nope")}
    before = ground.commits()
    answer = request_of(ground, endpoint, "" if endpoint.needs == "code" else "admin", parameters)
    refused(answer, 404, "not-found")
    assert ground.commits() == before


PATHS = {each.path: each for each in ENDPOINTS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: PATHS[path].name)
def test_other_methods(ground: Ground, path: str) -> None:
    """405 names those that there are; OPTIONS does, too; HEAD is where GET is, and has no body."""
    methods = {each.method for each in ENDPOINTS if each.path == path}
    methods |= {method for method, added in ADDED if added == path}
    address = place(PATHS[path], {**ABSENT, "project": "nope"})
    answer = ground.admin.request("PATCH", address)
    assert answer.status_code == 405, answer.text
    assert methods <= set(answer.headers["allow"].split(", "))
    if PATHS[path].name not in NATIVE:
        refused(answer, 405, "method-not-allowed")
        options = ground.admin.request("OPTIONS", address)
        assert (options.status_code, options.content) == (204, b"")
        assert methods <= set(options.headers["allow"].split(", "))
    if "GET" in methods:
        head, get = (ground.admin.request(method, address) for method in ("HEAD", "GET"))
        assert (head.status_code, head.content) == (get.status_code, b"")


def shows_a_live_log(ground: Ground, endpoint: Endpoint, parameters: dict[str, str]) -> None:
    """101, and a finished execution's log to its end (12.3); who may not is told by a close code."""
    url = ground.url.replace("http", "ws") + place(endpoint, parameters)
    frames, code = _frames(url, ground.secrets["rita"])
    assert code == 1000
    assert frames[0] == {"type": "status", "status": "ok", "status_reason": ""}
    entries = [frame["seq"] for frame in frames if frame["type"] == "log"]
    assert entries == list(range(1, len(entries) + 1))
    assert frames[-1] == {"type": "end", "status": "ok", "last_seq": len(entries)}
    assert entries
    assert _frames(url, ground.secrets["nobody"]) == ([], 4404)
    assert _frames(url, "nonsense") == ([], 4401)


def _frames(url: str, token: str) -> tuple[list[dict[str, Any]], int]:
    found = []
    with connect(url, additional_headers={"X-Escape-Token": token}) as live:
        while True:
            try:
                found.append(json.loads(live.recv(timeout=30)))
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                return found, closed.rcvd.code


def shows_home(ground: Ground, endpoint: Endpoint, _parameters: dict[str, str]) -> None:
    """One line of text."""
    answer = httpx.get(ground.url + endpoint.path)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert re.fullmatch(r"Steersman \S+\n", answer.text)


def shows_an_image(ground: Ground, endpoint: Endpoint, parameters: dict[str, str]) -> None:
    """Its bytes, with the type that they are."""
    answer = request_of(ground, endpoint, "rita", parameters)
    assert (answer.status_code, answer.content) == (200, IMAGE)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"]


SHOWN = {"BX9": shows_a_live_log, "DX6": shows_a_live_log, "IN1": shows_home, "PR9": shows_an_image}
"""Successes that are no JSON."""


def test_who_guesses_is_slowed_down(tmp_path: Path) -> None:
    """429 with `Retry-After`, for BD9, PL8 and the client's login, whatever is tried next (3.5)."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(dict(files(tmp_path, "http://127.0.0.1:1/")))
    accept = {"Accept": "application/json"}
    by_code = [each for each in ENDPOINTS if each.needs == "code"]
    assert [each.name for each in by_code] == ["BD9", "PL8"]
    with process(repo.path, tmp_path / "data", **SETTINGS | {TRIES: "3"}) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        urls = [running.url + place(each, ABSENT) for each in by_code]
        for _ in range(3):
            refused(httpx.post(urls[0], headers=accept), 404, "not-found")
        for url in (*urls, f"{running.url}/api/v1/auth/login"):
            answer = httpx.post(url, headers=accept, json={"secret_token": "x"})
            refused(answer, 429, "rate-limited")
            assert int(answer.headers["retry-after"]) > 0


def test_what_is_shown_otherwise() -> None:
    """Exactly the rows without a shape."""
    assert {each.name for each in ENDPOINTS if each.shape is None} == set(SHOWN)
