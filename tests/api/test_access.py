"""Who gets in: every route of the app, with no token, a wrong one, a small one, an ended one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from reconciler.credentials import token_hash
from reconciler.model.rights import INSTALLATION, Level
from reconciler.store import tokens
from reconciler.store.tokens import NewToken
from tests.api.conftest import SECRET, Api, app_of
from tests.support import PROJECT, SpecRepository, daemon, eventually, process, settings_for

# All that is open without a token (design 14.13); a new route that is not here must ask for one.
OPEN = {
    ("GET", "/"): 200,
    ("GET", "/api/v1/auth/login-methods"): 200,
    ("POST", "/api/v1/auth/login"): 401,
    ("GET", "/health"): 200,
    ("GET", "/reconciler/schema.json"): 200,
    ("GET", "/reconciler/sign-in"): 404,
    ("GET", "/reconciler/sign-in/callback"): 404,
    ("POST", "/reconciler/sign-in/token"): 400,
    ("POST", "/reconciler/webhook"): 401,
    ("POST", "/api/v1/pipelines/by-project/{project:str}/pipelines/webhook/{code:str}"): 404,
    ("POST", "/api/v1/state/{project:str}/environments/{environment:str}/builds/webhook/{code:str}"): 404,
    ("GET", "/api/jobs/{job:str}/artifacts/{mark:str}/{name:str}"): 404,
    ("GET", "/cider-ci/docs"): 200,
    ("GET", "/v1/about"): 200,
    ("POST", "/v1/auth/login"): 401,
    ("POST", "/v1/auth/refresh-token"): 401,
}
SAMPLES = {
    "number:int": "1",
    "path:path": "x",
    "key:path": "Build/shop/_/ok",
    "token:str": "nobody",
    "verb:str": "edit",
    "job:str": "1",
    "project:str": "shop",
    "environment:str": "dev",
    "code:str": "x" * 43,
    "mark:str": "0123456789abcdef",
    "name:str": "x",
}


BODIES = {"/reconciler/trigger": {"key": "Build/shop/_/ok"}}


def routes() -> list[tuple[str, str]]:
    """(method, path) of the native routes; the other served APIs have refusals, and tests, of their own."""
    others = ("/api/", "/cider-ci/", "/logs/", "/rest_api/", "/{owner:str}/job/", "/ui/", "/v1/")
    return [each for each in every_route() if each[1] != "/ui" and not each[1].startswith(others)]


def every_route() -> list[tuple[str, str]]:
    """(method, path) of all routes but those of OpenAPI."""

    class Nothing:
        settings = settings_for("/nowhere", Path("/nowhere"))
        database = SimpleNamespace(sqlite=True)

    app = app_of(Nothing())  # type: ignore[arg-type]
    found = {
        (method, route.path_format)
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS" and not route.path.startswith("/schema")
    }
    found = {(m, _typed(app, p)) for m, p in found}
    return sorted(found)


def _typed(app: Any, path: str) -> str:
    return next(route.path for route in app.routes if route.path_format == path)


def address(path: str) -> str:
    """A route with its parameters filled in."""
    return re.sub(r"\{([^}]+)\}", lambda found: SAMPLES[found[1]], path)


def ask(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """One request; a body where one is taken."""
    body = {"json": BODIES.get(path, {})} if method == "POST" else {}
    return client.request(method, address(path), **body, **more)


def is_problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer, checked for its form."""
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert "Traceback" not in answer.text
    return body


CLOSED = [route for route in routes() if route not in OPEN]


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_a_route_wants_a_good_token(api: Api, method: str, path: str) -> None:
    """None, a wrong one, and odd forms of the header: 401 with a challenge.

    One sentence for all that are none, one for all that are not known, whatever is wrong with them.
    """
    details = {}
    with httpx.Client(base_url=api.url, timeout=30) as client:
        for header in (
            None,
            "Bearer wrong",
            "Bearer",
            "",
            "Basic !!!",
            "Basic " + base64.b64encode(b"admin:admin").decode(),
            "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
            "Digest x",
            f"Bearer {api.running.token}x",
            f"Bearer {'x' * 5000}",
        ):
            headers = {} if header is None else {"Authorization": header}
            answer = ask(client, method, path, headers=headers)
            assert answer.status_code == 401, (header, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            details[header] = is_problem(answer)["detail"]
    wrong = {details.pop("Bearer wrong")}
    for header in [header for header in details if len(header or "") > 40 or (header or "").endswith("aW4=")]:
        wrong.add(details.pop(header))
    (none,) = set(details.values())
    (unknown,) = wrong
    assert none.startswith("give a token")
    assert unknown.startswith("this token is not known here")


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_an_open_route_needs_no_token(api: Api, method: str, path: str) -> None:
    """Health and schema answer; a webhook wants its signature instead, sign-in a provider, and what it gave."""
    with httpx.Client(base_url=api.url) as client:
        answer = ask(client, method, path)
    assert answer.status_code == OPEN[method, path]


@pytest.mark.parametrize("form", ["Bearer", "bearer", "token", "Token", "Basic"])
def test_the_forms_of_a_credential(api: Api, form: str) -> None:
    """Bearer and token in any case, and Basic with the token as password."""
    secret = api.running.token
    value = base64.b64encode(f"anybody:{secret}".encode()).decode() if form == "Basic" else secret
    headers = {"Authorization": f"{form} {value}"}
    assert httpx.get(f"{api.url}/reconciler/status", headers=headers).status_code == 200


@pytest.mark.parametrize(("level", "statuses"), [("read", (403, 403, 403)), ("write", (202, 200, 403))])
def test_a_token_narrows_what_its_owner_may(api: Api, level: str, statuses: tuple[int, ...]) -> None:
    """An administrator's token of a smaller level: it cannot write, or not administer, nor make one that can."""
    headers = {"Authorization": f"Bearer {api.token(level)['token']}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as client:
        found = (
            client.post("/reconciler/trigger", json={"key": "Build/shop/_/ok"}),
            client.post("/reconciler/sync", json={}),
            client.get("/reconciler/audit"),
        )
        assert tuple(answer.status_code for answer in found) == statuses
        wider = client.post("/reconciler/tokens", json={"name": "wider", "level": "owner"})
        assert (wider.status_code, f"level {level}" in is_problem(wider)["detail"]) == (403, True)
        assert {role["role"] for role in client.get("/reconciler/whoami").json()["roles"]} == {level}


def test_a_token_of_one_environment(api: Api) -> None:
    """It sees its project and what is in there, and nothing beside it."""
    scope = {"project": "shop", "environment": "staging"}
    headers = {"Authorization": f"Bearer {api.token('owner', **scope)['token']}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as client:
        keys = {item["key"] for item in client.get("/reconciler/resources").json()["items"]}
        assert keys == {"Project/shop", "Environment/shop/staging"}
        assert client.get("/reconciler/jobs").json()["items"] == []
        assert client.get("/reconciler/resources/Build/shop/_/ok").status_code == 404
        assert client.get("/reconciler/can/edit/Environment/shop/staging").json()["allowed"]
        assert not client.get("/reconciler/can/edit/Project/shop").json()["allowed"]


def test_a_revoked_token_is_refused_at_once(api: Api) -> None:
    """Used, revoked, refused; revoked again it is 404; its secret is in no list."""
    made = api.token("owner")
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert httpx.get(f"{api.url}/reconciler/tokens", headers=headers).status_code == 200
    assert api.client.delete(f"/reconciler/tokens/{made['id']}").status_code == 204
    assert httpx.get(f"{api.url}/reconciler/tokens", headers=headers).status_code == 401
    assert is_problem(api.client.delete(f"/reconciler/tokens/{made['id']}"))["title"] == "NoSuchToken"
    listed = api.get("/reconciler/tokens")
    assert made["token"] not in json.dumps(listed)
    mine = next(item for item in listed["items"] if item["id"] == made["id"])
    assert mine["revoked_at"]
    assert mine["last_used"]


def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    """Its time is over while the daemon runs, and also when it was remembered before."""

    async def work() -> None:
        repo = SpecRepository(tmp_path / "specs")
        repo.commit({"project.yaml": PROJECT})
        async with daemon(settings_for(repo, tmp_path / "data")) as running:
            now = datetime.now(UTC)
            marks = {"old": now - timedelta(seconds=1), "soon": now + timedelta(seconds=8)}
            for secret, expires in marks.items():
                token = NewToken("User/admin", secret, Level.READ, INSTALLATION, now, expires)
                await running.installation.database.write(
                    lambda w, s=secret, t=token: tokens.add(w.connection, token_hash(s), t)
                )
            transport = httpx.ASGITransport(app=app_of(running.installation))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

                async def ask(secret: str) -> int:
                    headers = {"Authorization": f"Bearer {secret}"}
                    return (await client.get("/reconciler/status", headers=headers)).status_code

                assert (await ask("old"), await ask("soon")) == (401, 200)
                await eventually(lambda: datetime.now(UTC) > marks["soon"], 30)
                assert await ask("soon") == 401

    asyncio.run(work())


def test_who_guesses_is_slowed_down(tmp_path: Path) -> None:
    """Beyond so many wrong ones a minute nothing new is looked up from there; a token in use goes on."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT})
    with (
        process(repo.path, tmp_path / "data", STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE="5") as running,
        running.client() as client,
    ):
        url = f"{running.url}/reconciler/status"
        fresh = client.post("/reconciler/tokens", json={"name": "fresh"}).json()["token"]
        found = [
            httpx.get(url, headers={"Authorization": f"Bearer {number}"}).status_code for number in range(6)
        ]
        assert found == [401] * 5 + [429]
        slowed = httpx.get(url, headers={"Authorization": f"Bearer {fresh}"})
        assert is_problem(slowed)["title"] == "TooManyRequests"
        assert 1 <= int(slowed.headers["retry-after"]) <= 61
        assert client.get(url).status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x", "level": "admin"}, "level must be one of"),
        ({"name": "x", "days": 0}, "1 to 365 days"),
        ({"name": "x", "days": 366}, "1 to 365 days"),
        ({"name": ""}, "name"),
        ({"level": "read"}, "name"),
        ({"name": "x", "expires": "never"}, "expires"),
    ],
)
def test_a_token_that_cannot_be_made_is_refused(api: Api, body: dict[str, Any], words: str) -> None:
    """Every token has a known level and expires."""
    answer = api.client.post("/reconciler/tokens", json=body)
    assert answer.status_code in (400, 422)
    assert words in is_problem(answer)["detail"]


def _signed(kind: str, body: bytes, secret: str, delivery: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "github": {
            "X-Hub-Signature-256": f"sha256={signature}",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery,
        },
        "gitea": {"X-Gitea-Signature": signature, "X-Gitea-Event": "push", "X-Gitea-Delivery": delivery},
        "gitlab": {
            "X-Gitlab-Token": secret,
            "X-Gitlab-Event": "Push Hook",
            "X-Gitlab-Event-UUID": delivery,
        },
    }[kind] | {"Content-Type": "application/json"}


@pytest.mark.parametrize("kind", ["github", "gitea", "gitlab"])
def test_a_webhook_wakes_only_with_its_signature(api: Api, kind: str) -> None:
    """Good: 202 and what it woke, once. Wrong secret, changed body, or none: 401, nothing woken."""
    body = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": str(api.repo.path)}}).encode()
    url = f"{api.url}/reconciler/webhook"
    wrong = httpx.post(url, content=body, headers=_signed(kind, body, "guess", f"{kind}-1"))
    assert wrong.status_code == 401
    assert is_problem(wrong)["title"] == "BadSignature"
    if kind != "gitlab":
        changed = httpx.post(url, content=body + b" ", headers=_signed(kind, body, SECRET, f"{kind}-1"))
        assert changed.status_code == 401
    assert httpx.post(url, content=body).status_code == 401
    good = httpx.post(url, content=body, headers=_signed(kind, body, SECRET, f"{kind}-1"))
    assert (good.status_code, good.json()) == (202, {"woken": ["source"], "repeated": False})
    again = httpx.post(url, content=body, headers=_signed(kind, body, SECRET, f"{kind}-1"))
    assert (again.status_code, again.json()) == (202, {"woken": [], "repeated": True})


def test_a_webhook_that_is_too_large_is_413(api: Api) -> None:
    """Nobody needs to be known to send one, so there is a limit of its own."""
    body = b"x" * (1 << 17)
    answer = httpx.post(f"{api.url}/reconciler/webhook", content=body)
    assert answer.status_code == 413
    is_problem(answer)


def test_a_signed_webhook_with_nonsense_in_it_is_harmless(api: Api) -> None:
    """Deep, binary, empty, another shape: taken, nothing woken."""
    for number, body in enumerate((b"", b"\xff\x00", b"[" * 30_000, b"[]", b'{"repository": 7}')):
        headers = _signed("github", body, SECRET, f"odd-{number}")
        answer = httpx.post(f"{api.url}/reconciler/webhook", content=body, headers=headers)
        assert (answer.status_code, answer.json()["woken"]) == (202, [])
