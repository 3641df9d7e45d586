"""Sign-in of people: a real daemon and a real identity provider, then one that does all wrong that can be done."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from pydantic import ValidationError

from api.native import identity_provider, vouchers
from api.native.identity_provider import IdentityProvider, SignInError, Visit
from reconciler import sealing
from reconciler.settings import OidcProvider, Settings
from tests.api.conftest import Api, app_of, steersman
from tests.api.test_access import is_problem
from tests.support import PROJECT, Process, SpecRepository, daemon, process, settings_for

CLIENT = "steersman"
PROVIDER = """
import sys, warnings
warnings.simplefilter("ignore")
from oidc_provider_mock import User, run_server_in_thread
with run_server_in_thread(0) as server:
    print(server.server_port, flush=True)
    sys.stdin.read()
"""


def person(name: str, spec: str) -> str:
    """A declared User."""
    return f"---\napiVersion: steersman/v1\nkind: User\nmetadata: {{name: {name}}}\nspec: {spec}\n"


PEOPLE = (
    PROJECT
    + person("alice", "{oidc_subject: sub-alice}")
    + person("bob", "{email: bob@example.org}")
    + person("carol", "{oidc_subject: sub-carol, disabled: true}")
    + person("dave", "{email: twice@example.org}")
    + person("dave2", "{email: twice@example.org}")
    + person("erin", "{email: erin@example.org, oidc_subject: sub-erin}")
    + "---\napiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {name: writers, project: shop}\n"
    "spec: {role: write, subjects: [{kind: User, name: alice}]}\n"
)


def ready(folder: Path) -> SpecRepository:
    """A spec repository with these people."""
    repo = SpecRepository(folder / "specs")
    repo.commit({"people.yaml": PEOPLE})
    return repo


def wait(running: Process, head: str) -> None:
    """Until the daemon has applied a commit."""
    running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head)


@contextmanager
def real_provider() -> Iterator[str]:
    """The issuer of a real provider, which lets anybody in as whomever they say."""
    with subprocess.Popen(
        [sys.executable, "-c", PROVIDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as popen:
        assert popen.stdout is not None
        try:
            yield f"http://localhost:{popen.stdout.readline().strip()}"
        finally:
            popen.kill()


def environment(issuer: str, **more: str) -> dict[str, str]:
    """The settings of a daemon with this provider."""
    return {
        "STEERSMAN_OIDC__ISSUER": issuer,
        "STEERSMAN_OIDC__CLIENT_ID": CLIENT,
        "STEERSMAN_OIDC__CLIENT_SECRET": "hush",
        "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
        **more,
    }


class World:
    """A daemon and its provider."""

    def __init__(self, running: Process, issuer: str) -> None:
        self.running = running
        self.url = running.url
        self.issuer = issuer

    def browser(self) -> httpx.Client:
        """One that keeps cookies, asks for pages, and leaves redirects to the test."""
        return httpx.Client(base_url=self.url, headers={"Accept": "text/html,*/*"}, timeout=30)

    def at_provider(self, browser: httpx.Client, subject: str, **params: Any) -> str:
        """Begin a sign-in and say at the provider who one is; the address to which it sends back."""
        begun = browser.get("/reconciler/sign-in", params=params)
        assert begun.status_code == 302, begun.text
        form = {"sub": subject} if subject else {"action": "deny"}
        answer = httpx.post(begun.headers["location"], data=form)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    def knows(self, subject: str, **claims: Any) -> None:
        """Tell the provider more about somebody."""
        httpx.put(f"{self.issuer}/users/{subject}", json=claims).raise_for_status()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With the real provider."""
    folder = tmp_path_factory.mktemp("sign-in")
    repo = ready(folder)
    with (
        real_provider() as issuer,
        process(
            repo.path, folder / "data", **environment(issuer, STEERSMAN_OIDC__MATCH_EMAIL="true")
        ) as running,
    ):
        wait(running, repo.head())
        yield World(running, issuer)


def test_somebody_signs_in_works_and_signs_out(world: World) -> None:
    """The cookie is good everywhere, for what changes something only from a page of this server; then it is over."""
    with world.browser() as browser:
        back = world.at_provider(browser, "sub-alice", to="/reconciler/whoami?x=%41")
        (begun,) = browser.cookies.jar
        assert (begun.path, begun.has_nonstandard_attr("HttpOnly")) == ("/reconciler/sign-in", True)
        done = browser.get(back)
        assert (done.status_code, done.headers["location"]) == (303, "/reconciler/whoami?x=%41")
        set_cookie = next(c for c in done.headers.get_list("set-cookie") if c.startswith("X-Escape-Token="))
        flags = {part.strip().lower() for part in set_cookie.split(";")[1:]}
        assert flags == {"httponly", "samesite=lax", "path=/", "max-age=43200"}
        assert [cookie.name for cookie in browser.cookies.jar] == ["X-Escape-Token"]

        me = browser.get("/reconciler/whoami").json()
        assert me["subject"] == "User/alice"
        assert browser.get("/api/v1/state/shop").status_code == 200
        (token,) = browser.get("/reconciler/tokens").json()["items"]
        life = datetime.fromisoformat(token["expires"]) - datetime.now(UTC)
        assert (token["name"], token["level"], round(life / timedelta(hours=1))) == ("sign-in", "owner", 12)
        events = browser.get("/reconciler/events").json()["items"]
        assert events == []  # tokens are for administrators to see
        for origin in (None, "https://evil.example", "null", world.url + "0"):
            headers = {} if origin is None else {"Origin": origin}
            refused = browser.post("/reconciler/sync", json={}, headers=headers)
            assert (refused.status_code, "Origin" in is_problem(refused)["detail"]) == (403, True)
        assert browser.post("/reconciler/sync", json={}, headers={"Origin": world.url}).status_code == 200
        assert browser.post("/reconciler/sign-out").status_code == 403

        kept = browser.cookies["X-Escape-Token"]
        out = browser.post("/reconciler/sign-out", headers={"Origin": world.url})
        assert (out.status_code, out.content, len(browser.cookies)) == (204, b"", 0)
    again = httpx.get(f"{world.url}/reconciler/whoami", headers={"Authorization": f"Bearer {kept}"})
    assert again.status_code == 401
    with world.running.client() as client:
        made = client.get("/reconciler/events", params={"kind": "token-created", "limit": 1000}).json()
        (event,) = [e for e in made["items"] if e["body"]["id"] == token["id"]]
        assert (event["actor"], event["address"], event["body"]["subject"]) == (
            "User/alice",
            "127.0.0.1",
            "User/alice",
        )


def test_who_comes_without_an_aim_is_told_so(world: World) -> None:
    """A page without scripts, under a strict policy, that names the person and is kept nowhere."""
    with world.browser() as browser:
        page = browser.get(world.at_provider(browser, "sub-alice"))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Signed in as alice" in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (page.headers["cache-control"], page.headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "\\x",
        "x",
        "",
        "/ä",
        "/a\nb",
    ],
)
def test_nobody_is_sent_to_another_server(world: World, to: str) -> None:
    """`to` is a path of this server, or nothing is begun."""
    answer = httpx.get(f"{world.url}/reconciler/sign-in", params={"to": to})
    assert (answer.status_code, "path of this server" in is_problem(answer)["detail"]) == (400, True)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "params",
    [
        {"port": "8000"},
        {"challenge": "x" * 43},
        {"port": "0", "challenge": "x" * 43},
        {"port": "70000", "challenge": "x" * 43},
        {"port": "8000", "challenge": "x" * 42},
        {"port": "8000", "challenge": "x" * 43, "to": "/"},
        {"port": "evil.example", "challenge": "x" * 43},
    ],
)
def test_what_a_command_line_must_give(world: World, params: dict[str, str]) -> None:
    """A port and a challenge, and nothing beside them."""
    answer = httpx.get(f"{world.url}/reconciler/sign-in", params=params)
    assert answer.status_code == 400
    is_problem(answer)


@pytest.mark.parametrize(
    ("subject", "claims", "user"),
    [
        ("b1", {"email": "BOB@example.org", "email_verified": True}, "User/bob"),
        ("b2", {"email": "bob@example.org", "email_verified": "true"}, "User/bob"),
        ("b3", {"email": "bob@example.org", "email_verified": False}, None),
        ("b4", {"email": "bob@example.org", "email_verified": "false"}, None),
        ("b5", {"email": "bob@example.org"}, None),
        ("b6", {"email": "twice@example.org", "email_verified": True}, None),
        ("b7", {"email": "erin@example.org", "email_verified": True}, None),
        ("sub-erin", {"email": "bob@example.org", "email_verified": True}, "User/erin"),
        ("sub-carol", {"email": "bob@example.org", "email_verified": True}, None),
        ("b8", {"email": "", "email_verified": True}, None),
        ("b9", {"email": ["bob@example.org"], "email_verified": True}, None),
    ],
)
def test_whose_user_somebody_is(world: World, subject: str, claims: dict[str, Any], user: str | None) -> None:
    """By the subject before all; by a verified address only where one User without a subject has it."""
    world.knows(subject, **claims)
    with world.browser() as browser:
        answer = browser.get(world.at_provider(browser, subject))
        if user is None:
            assert answer.status_code == 403
            assert "X-Escape-Token" not in browser.cookies
        else:
            assert answer.status_code == 200, answer.text
            assert browser.get("/reconciler/whoami").json()["subject"] == user


@pytest.mark.parametrize("subject", ["sub-carol", "sub-mallory", '<script>alert("x")</script>'])
def test_who_is_no_user_is_told_what_to_commit(world: World, subject: str) -> None:
    """A page with the subject as the User's spec wants it; the same for who is disabled; a program gets a problem."""

    with world.browser() as browser:
        page = browser.get(world.at_provider(browser, subject))
        assert (page.status_code, "X-Escape-Token" in browser.cookies) == (403, False)
        (told,) = re.findall(r"<pre>(.*?)</pre>", page.text)
        assert html.unescape(told) == f"oidc_subject: {json.dumps(subject)}"
        assert "<script" not in page.text
        assert "carol" not in page.text.replace("sub-carol", "")
        problem = browser.get(world.at_provider(browser, subject), headers={"Accept": "*/*"})
        assert (problem.status_code, is_problem(problem)["title"]) == (403, "NotDeclared")


def test_a_sign_in_ends_in_the_browser_that_began_it(world: World) -> None:
    """Another browser, one that has just done it, a changed cookie, an old one: 400, and nobody is signed in."""
    keys = sealing.load(world.running.data / "server.key")
    with world.browser() as browser, world.browser() as other:
        back = world.at_provider(browser, "sub-alice")
        state = parse_qs(urlsplit(back).query)["state"][0]
        (begun,) = browser.cookies.jar
        assert begun.value is not None
        path = f"{urlsplit(back).path}?{urlsplit(back).query}"

        def refused(cookie: str | None, words: str = "not begun in this browser") -> None:
            headers = {} if cookie is None else {"Cookie": f"{begun.name}={cookie}".encode("latin-1")}
            answer = other.get(path, headers=headers)
            assert (answer.status_code, "X-Escape-Token" in other.cookies) == (400, False), answer.text
            assert words in answer.text

        refused(None)
        text, _, mark = begun.value.partition(".")
        refused(f"{text}.{mark[:-1]}{'0' if mark[-1] != '0' else '1'}")
        refused(text)
        refused("")
        refused("\xe4.\xe4")
        now = datetime.now(UTC)
        refused(vouchers.issue(keys, "sign-in", {"state": state}, now - timedelta(seconds=1)))
        refused(vouchers.issue(keys, "sign-in", {"state": "another"}, now + timedelta(hours=1)))
        refused(vouchers.issue(keys, "sign-in-code", {"state": state}, now + timedelta(hours=1)))
        assert browser.get(path).status_code == 200
        assert "not begun in this browser" in browser.get(path).text
        refused(begun.value, "does not take its code")  # whoever kept all of it: a code is good once


def test_several_sign_ins_of_one_browser_are_side_by_side(world: World) -> None:
    """As when a browser opens its windows of yesterday again."""
    with world.browser() as browser:
        addresses = [world.at_provider(browser, "sub-alice", to=f"/{number}") for number in range(3)]
        assert [browser.get(address).headers["location"] for address in addresses] == ["/0", "/1", "/2"]


def test_who_says_no_at_the_provider_is_not_signed_in(world: World) -> None:
    """A page with the provider's word, which is not taken as anything but text, and a way to begin again."""
    with world.browser() as browser:
        begun = browser.get("/reconciler/sign-in")
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        page = browser.get(
            "/reconciler/sign-in/callback", params={"state": state, "error": "<b>access_denied"}
        )
        assert (page.status_code, "&lt;b&gt;access_denied" in page.text) == (403, True)
        assert f'href="{world.url}/reconciler/sign-in"' in page.text
        assert len(browser.cookies) == 0


def login(world: World, config: Path, **more: str) -> subprocess.Popen[str]:
    """`steersman login` as somebody runs it."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("STEERSMAN_")}
    own |= {"STEERSMAN_SERVER": world.url, "XDG_CONFIG_HOME": str(config), **more}
    return subprocess.Popen(
        [sys.executable, "-c", "from api.cli import main; main()", "login"],
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_line_signs_in_once_for_all_verbs(world: World, tmp_path: Path) -> None:
    """It opens a browser and prints the address; the token is kept for this server, readable by its owner only."""
    config, opened = tmp_path / "config", tmp_path / "opened"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" >{opened}\n')
    program.chmod(0o755)
    with login(world, config, BROWSER=str(program)) as running, world.browser() as browser:
        assert running.stdout is not None
        address = running.stdout.readline().split()[-1]
        assert address.startswith(f"{world.url}/reconciler/sign-in?port=")
        begun = browser.get(address)
        form = httpx.post(begun.headers["location"], data={"sub": "sub-alice"})
        code = browser.get(form.headers["location"])
        assert code.status_code == 302
        parts = urlsplit(code.headers["location"])
        assert (parts.scheme, parts.hostname, parts.path) == ("http", "127.0.0.1", "/")
        assert "X-Escape-Token" not in browser.cookies
        assert httpx.get(f"http://{parts.netloc}/favicon.ico").status_code == 404
        assert httpx.get(f"http://{parts.netloc}/").status_code == 404
        page = httpx.get(code.headers["location"])
        assert (page.status_code, "Back to the terminal" in page.text) == (200, True)
        output, errors = running.communicate(timeout=30)
        assert (running.returncode, errors) == (0, "")
        assert "as User/alice" in output
    assert opened.read_text() == address
    file = config / "steersman" / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    kept = json.loads(file.read_text())[world.url]["token"]
    own = {"STEERSMAN_SERVER": world.url, "XDG_CONFIG_HOME": str(config)}
    assert "User/alice" in steersman("whoami", cwd=tmp_path, **own).stdout
    assert steersman("whoami", cwd=tmp_path, **own, STEERSMAN_TOKEN=world.running.token).stdout.count("admin")
    file.chmod(0o640)
    refused = steersman("whoami", cwd=tmp_path, **own)
    assert (refused.returncode, "chmod 600" in refused.stderr) == (1, True)
    file.chmod(0o600)
    assert steersman("logout", cwd=tmp_path, **own).returncode == 0
    assert json.loads(file.read_text()) == {}
    after = httpx.get(f"{world.url}/reconciler/whoami", headers={"Authorization": f"Bearer {kept}"})
    assert after.status_code == 401
    assert "steersman login" in steersman("whoami", cwd=tmp_path, **own).stderr
    assert "nobody is signed in" in steersman("logout", cwd=tmp_path, **own).stdout
    file.write_text("{")
    spoilt = steersman("whoami", cwd=tmp_path, **own)
    assert (spoilt.returncode, spoilt.stderr.count("\n"), str(file) in spoilt.stderr) == (1, 1, True)


def test_the_code_of_a_command_line_is_good_with_its_verifier_for_a_minute(world: World) -> None:
    """Who sees it on its way has nothing; nor does who has one for another purpose, or of somebody who is gone."""
    keys = sealing.load(world.running.data / "server.key")
    verifier = "v" * 43
    shown = vouchers.challenge_of(verifier)
    now = datetime.now(UTC)

    def ask(code: str, told: str = verifier) -> httpx.Response:
        body = {"code": code, "verifier": told}
        return httpx.post(f"{world.url}/reconciler/sign-in/token", json=body)

    def code(purpose: str = "sign-in-code", seconds: int = 60, user: str = "User/alice") -> str:
        fields = {"user": user, "challenge": shown}
        return vouchers.issue(keys, purpose, fields, now + timedelta(seconds=seconds))

    assert ask(code()).json()["subject"] == "User/alice"
    for answer in (
        ask(code(), "w" * 43),
        ask(code(), shown),
        ask(code(seconds=0)),
        ask(code("sign-in")),
        ask(code()[:-1]),
        ask(""),
        ask("."),
        ask("\xe4"),
        ask(code(user="User/carol")),
        ask(code(user="User/nobody")),
    ):
        assert answer.status_code == 403, answer.text
        is_problem(answer)
    assert ask(code(), "short").status_code == 400


def test_a_server_without_a_provider_says_how_to_go_on(api: Api, tmp_path: Path) -> None:
    """404, and a sentence in the command line."""
    for path in ("/reconciler/sign-in", "/reconciler/sign-in/callback?state=x&code=y"):
        answer = httpx.get(api.url + path)
        assert (answer.status_code, is_problem(answer)["title"]) == (404, "NoProvider")
    done = steersman("login", "--no-browser", STEERSMAN_SERVER=api.url, XDG_CONFIG_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "STEERSMAN_TOKEN" in done.stderr


def test_who_guesses_codes_is_slowed_down(tmp_path: Path) -> None:
    """As who guesses tokens: both count together."""

    async def work() -> list[int]:
        oidc = {"issuer": "http://127.0.0.1:9", "client_id": CLIENT}
        own = settings_for(ready(tmp_path), tmp_path / "data", oidc=oidc, wrong_credentials_per_minute=5)
        async with daemon(own) as running:
            transport = httpx.ASGITransport(app=app_of(running.installation))
            async with httpx.AsyncClient(transport=transport, base_url="http://test/reconciler") as client:
                body = {"code": "x", "verifier": "v" * 43}
                found = [await client.post("/sign-in/token", json=body) for _ in range(3)]
                found += [await client.get("/sign-in/callback?state=x&code=y") for _ in range(2)]
                found += [await client.post("/sign-in/token", json=body)]
                found += [await client.get("/sign-in/callback?state=x&code=y")]
                headers = {"Authorization": "Bearer guess"}
                found += [await client.get("/status", headers=headers)]
                return [is_problem(answer)["status"] for answer in found]

    assert asyncio.run(work()) == [403, 403, 403, 400, 400, 429, 429, 429]


class Rogue:
    """A provider on the loopback that can be told to do wrong; it signs with keys of its own."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})]
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: Any = None
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.metadata: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.nonce = ""
        rogue = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                rogue._answer(self, "")

            def do_POST(self) -> None:
                rogue._answer(self, self.rfile.read(int(self.headers["content-length"])).decode())

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"

    def reset(self) -> None:
        """Do right again."""
        self.claims, self.header, self.key, self.answers, self.metadata = {}, {}, None, {}, {}
        self.asked.clear()

    def token(self) -> str:
        """An id token for alice, but for what is told otherwise."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "sub-alice", "nonce": self.nonce}
        claims |= {"iat": now, "exp": now + 60, **self.claims}
        key = self.key or self.keys[-1]
        header = {"alg": "RS256", "kid": key.kid, **self.header}
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])

    def _answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        path = urlsplit(handler.path).path
        self.asked.append((path, dict(parse_qsl(body)), handler.headers.get("authorization", "")))
        status, data = self.answers.get(path) or (200, json.dumps(self._right(path)).encode())
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _right(self, path: str) -> Any:
        if path == "/jwks":
            return KeySet(self.keys).as_dict(private=False)
        if path == "/token":
            return {"access_token": "a", "token_type": "Bearer", "id_token": self.token()}
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=7",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            **self.metadata,
        }


@contextmanager
def rogue_provider() -> Iterator[Rogue]:
    """Until the end of the block."""
    rogue = Rogue()
    thread = threading.Thread(target=rogue.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield rogue
    finally:
        rogue.server.shutdown()
        thread.join()
        rogue.server.server_close()


@pytest.fixture(scope="module")
def rogues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Rogue, SpecRepository]]:
    """A daemon whose provider can be told to do wrong; people reach it by another address than its own."""
    folder = tmp_path_factory.mktemp("rogue")
    repo = ready(folder)
    with (
        rogue_provider() as rogue,
        process(repo.path, folder / "data", **environment(rogue.issuer)) as running,
    ):
        wait(running, repo.head())
        yield World(running, rogue.issuer), rogue, repo


@pytest.fixture
def wrong(rogues: tuple[World, Rogue, SpecRepository]) -> Iterator[tuple[World, Rogue, SpecRepository]]:
    """The same, doing right until it is told."""
    rogues[1].reset()
    yield rogues
    rogues[1].reset()


def come_back(world: World, rogue: Rogue, browser: httpx.Client) -> httpx.Response:
    """Begin, and come back with a code."""
    begun = browser.get("/reconciler/sign-in")
    assert begun.status_code == 302, begun.text
    query = parse_qs(urlsplit(begun.headers["location"]).query)
    rogue.nonce = query["nonce"][0]
    return browser.get("/reconciler/sign-in/callback", params={"state": query["state"][0], "code": "one"})


def test_what_the_provider_is_asked(wrong: tuple[World, Rogue, SpecRepository]) -> None:
    """State, nonce and an S256 challenge go with the browser; secret and verifier from server to server only."""
    world, rogue, _ = wrong
    with world.browser() as browser:
        begun = browser.get("/reconciler/sign-in")
        query = {
            name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()
        }
        done = come_back(world, rogue, browser)
        assert done.status_code == 200, done.text
    back = f"{world.url}/reconciler/sign-in/callback"
    assert query.pop("tenant") == "7"
    assert (query.pop("client_id"), query.pop("redirect_uri"), query.pop("response_type")) == (
        CLIENT,
        back,
        "code",
    )
    assert (query.pop("scope"), query.pop("code_challenge_method")) == ("openid email profile", "S256")
    assert query.keys() == {"state", "nonce", "code_challenge"}
    (token,) = [asked for asked in rogue.asked if asked[0] == "/token"]
    assert (
        token[1].items() >= {"grant_type": "authorization_code", "code": "one", "redirect_uri": back}.items()
    )
    assert token[2].startswith("Basic ")
    with world.browser() as browser:
        begun = browser.get("/reconciler/sign-in")
        query = {
            name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()
        }
        rogue.nonce = query["nonce"]
        browser.get("/reconciler/sign-in/callback", params={"state": query["state"], "code": "two"})
    verifier = next(asked[1]["code_verifier"] for asked in rogue.asked if asked[1].get("code") == "two")
    assert vouchers.challenge_of(verifier) == query["code_challenge"]


NOW = time.time()
CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another nonce": ({"nonce": "other"}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "another audience": ({"aud": "someone"}, "aud"),
    "no audience": ({"aud": None}, "aud"),
    "several audiences, nobody's": ({"aud": [CLIENT, "someone"]}, "azp"),
    "made for another": ({"azp": "someone"}, "azp"),
    "another issuer": ({"iss": "https://evil.example"}, "iss"),
    "expired": ({"exp": NOW - 3600}, "expired"),
    "no end": ({"exp": None}, "exp"),
    "an end that is none": ({"exp": "tomorrow"}, "exp"),
    "of the future": ({"iat": NOW + 3600}, "iat"),
    "not yet good": ({"nbf": NOW + 3600}, "nbf"),
    "nobody": ({"sub": None}, "sub"),
    "an empty name": ({"sub": ""}, "sub"),
    "a number": ({"sub": 7}, "sub"),
    "a long name": ({"sub": "x" * 256}, "sub"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_an_id_token_that_says_wrong_is_refused(
    wrong: tuple[World, Rogue, SpecRepository], name: str
) -> None:
    """403, with what is wrong about it; nobody is signed in."""
    world, rogue, _ = wrong
    rogue.claims, words = CLAIMS[name]
    with world.browser() as browser:
        page = come_back(world, rogue, browser)
        assert (page.status_code, "X-Escape-Token" in browser.cookies) == (403, False), page.text
        assert words in page.text
        assert "Sign in again" in page.text


def unsigned(rogue: Rogue) -> None:
    """Signed by nobody."""
    head, body, _ = rogue.token().split(".")
    plain = vouchers._encoded(b'{"alg":"none","kid":"first"}')
    assert head != plain
    rogue.answers["/token"] = 200, json.dumps({"id_token": f"{plain}.{body}."}).encode()


def told(rogue: Rogue, path: str, status: int, body: Any) -> None:
    """An answer to be given there."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    rogue.answers[path] = status, data


def by_secret(rogue: Rogue) -> None:
    """Signed with what the provider and we both know."""
    rogue.key = OctKey.import_key("hush" * 10, {"kid": "first"})
    rogue.header = {"alg": "HS256"}


def by_another_key(rogue: Rogue) -> None:
    """Signed with a key of the same name."""
    rogue.key = RSAKey.generate_key(2048, {"kid": "first"})


def by_an_unknown_key(rogue: Rogue) -> None:
    """Signed with a key that is not published."""
    rogue.key = RSAKey.generate_key(2048, {"kid": "unknown"})


TOKENS: dict[str, tuple[Any, int, str]] = {
    "wrong signature": (by_another_key, 403, "signature is wrong"),
    "unknown key": (by_an_unknown_key, 403, "does not publish"),
    "symmetric": (by_secret, 403, "not accepted"),
    "unsigned": (unsigned, 403, "not accepted"),
    "no token": (lambda r: told(r, "/token", 200, {"access_token": "a"}), 502, "no id token"),
    "no text": (lambda r: told(r, "/token", 200, {"id_token": 7}), 502, "no id token"),
    "rubbish": (lambda r: told(r, "/token", 200, {"id_token": "a.b.c"}), 403, "cannot be read"),
    "odd letters": (lambda r: told(r, "/token", 200, {"id_token": "ä\ud800"}), 403, "cannot be read"),
    "not JSON": (lambda r: told(r, "/token", 200, b"<html>"), 502, "no JSON"),
    "not UTF-8": (lambda r: told(r, "/token", 200, b'{"a": "\xff"}'), 502, "no JSON"),
    "deep": (lambda r: told(r, "/token", 200, b"[" * 100_000), 502, "no JSON"),
    "a list": (lambda r: told(r, "/token", 200, []), 502, "no JSON object"),
    "a used code": (lambda r: told(r, "/token", 400, {"error": "invalid_grant"}), 400, "used before"),
    "a wrong secret": (lambda r: told(r, "/token", 401, {"error": "invalid_client"}), 502, "invalid_client"),
    "an error as 200": (lambda r: told(r, "/token", 200, {"error": "x"}), 502, "refuses this server"),
    "a redirect": (lambda r: told(r, "/token", 302, {}), 502, "302"),
    "a fault": (lambda r: told(r, "/token", 500, b""), 503, "500"),
    "too busy": (lambda r: told(r, "/token", 503, b""), 503, "503"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_provider_that_does_wrong_lets_nobody_in(
    wrong: tuple[World, Rogue, SpecRepository], name: str
) -> None:
    """Whatever it answers to the code: a page with a sentence, no 500."""
    world, rogue, _ = wrong
    fault, status, words = TOKENS[name]
    with world.browser() as browser:
        assert come_back(world, rogue, browser).status_code == 200
    with world.browser() as browser:
        rogue.nonce = "-"
        fault(rogue)
        page = come_back(world, rogue, browser)
        assert (page.status_code, "X-Escape-Token" in browser.cookies) == (status, False), page.text
        assert words in page.text
        assert "hush" not in page.text


def test_who_is_let_in_later_just_signs_in_again(wrong: tuple[World, Rogue, SpecRepository]) -> None:
    """After the commit that the page asks for; not by the address, where the operator does not want that."""
    world, rogue, repo = wrong
    rogue.claims = {"sub": "sub-bob", "email": "bob@example.org", "email_verified": True}
    with world.browser() as browser:
        page = come_back(world, rogue, browser)
        assert (page.status_code, "oidc_subject: &#34;sub-bob&#34;" in page.text) == (403, True)
        known = PEOPLE.replace("{email: bob@example.org}", "{oidc_subject: sub-bob}")
        wait(world.running, repo.commit({"people.yaml": known}))
        assert come_back(world, rogue, browser).status_code == 200
        assert browser.get("/reconciler/whoami").json()["subject"] == "User/bob"
        gone = PEOPLE.replace("{email: bob@example.org}", "{oidc_subject: sub-bob, disabled: true}")
        wait(world.running, repo.commit({"people.yaml": gone}))
        assert browser.get("/reconciler/whoami").status_code == 401
        assert come_back(world, rogue, browser).status_code == 403


def test_new_keys_are_asked_for(wrong: tuple[World, Rogue, SpecRepository]) -> None:
    """Once: when a token names one that is not known yet."""
    world, rogue, _ = wrong
    with world.browser() as browser:
        assert come_back(world, rogue, browser).status_code == 200
        rogue.keys.append(RSAKey.generate_key(2048, {"kid": f"key-{len(rogue.keys)}", "use": "sig"}))
        rogue.asked.clear()
        assert come_back(world, rogue, browser).status_code == 200
        assert [path for path, _, _ in rogue.asked if path == "/jwks"] == ["/jwks"]
        rogue.asked.clear()
        assert come_back(world, rogue, browser).status_code == 200
        assert [path for path, _, _ in rogue.asked] == ["/token"]


def test_a_sign_in_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Nothing of it is in the daemon's memory; and behind TLS its cookies are for TLS only."""
    repo = ready(tmp_path)
    with rogue_provider() as rogue:
        own = environment(rogue.issuer, STEERSMAN_EXTERNAL_URL="https://ci.example.org")
        with process(repo.path, tmp_path / "data", **own) as running:
            wait(running, repo.head())
            begun = httpx.get(f"{running.url}/reconciler/sign-in", params={"to": "/x"})
            assert "redirect_uri=https%3A%2F%2Fci.example.org%2F" in begun.headers["location"]
            cookie = begun.headers["set-cookie"]
            assert "Secure" in cookie
        query = parse_qs(urlsplit(begun.headers["location"]).query)
        rogue.nonce = query["nonce"][0]
        with process(repo.path, tmp_path / "data", **own) as running:
            headers = {"Cookie": cookie.partition(";")[0]}
            params = {"state": query["state"][0], "code": "one"}
            done = httpx.get(f"{running.url}/reconciler/sign-in/callback", params=params, headers=headers)
            assert (done.status_code, done.headers["location"]) == (303, "/x")
            session = next(c for c in done.headers.get_list("set-cookie") if c.startswith("X-Escape-Token"))
            assert "Secure" in session
            headers = {"Cookie": session.partition(";")[0]}
            url = f"{running.url}/reconciler/sync"
            for origin, status in ((running.url, 403), ("https://ci.example.org", 200)):
                assert httpx.post(url, json={}, headers=headers | {"Origin": origin}).status_code == status


def provider_of(issuer: str, **more: Any) -> IdentityProvider:
    """In this process."""
    return IdentityProvider(OidcProvider(issuer=issuer, client_id=CLIENT, **more))


VISIT = Visit("state", "nonce", "v" * 43, "http://127.0.0.1/back")


async def _address(provider: IdentityProvider) -> str:
    return await provider.address(VISIT)


@pytest.mark.parametrize(
    ("path", "status", "body", "code", "words"),
    [
        ("/.well-known/openid-configuration", 404, {}, 502, "answers 404"),
        ("/.well-known/openid-configuration", 301, {}, 502, "answers 301"),
        ("/.well-known/openid-configuration", 503, {}, 503, "503"),
        ("/.well-known/openid-configuration", 200, b"{", 502, "no JSON"),
        ("/.well-known/openid-configuration", 200, [], 502, "no JSON object"),
        ("/.well-known/openid-configuration", 200, {"issuer": "http://127.0.0.1:1"}, 502, "calls itself"),
        ("/.well-known/openid-configuration", 200, {"issuer": 7}, 502, "calls itself"),
        ("/jwks", 404, {}, 502, "answers 404"),
        ("/jwks", 200, {"keys": 7}, 502, "no key"),
        ("/jwks", 200, {"keys": [7, {}, {"kty": "?"}, {"kty": "RSA", "n": "x"}]}, 502, "no key"),
        ("/jwks", 200, {"keys": [{"kty": "oct", "k": "aHVzaA"}]}, 502, "no key"),
    ],
)
def test_what_a_provider_publishes_must_be_right(
    path: str, status: int, body: Any, code: int, words: str
) -> None:
    """Else a sentence that names what is wrong."""
    with rogue_provider() as rogue:
        told(rogue, path, status, body)
        with pytest.raises(SignInError) as refused:
            asyncio.run(_address(provider_of(rogue.issuer)))
    assert (refused.value.status, words in refused.value.message) == (code, True), refused.value.message


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"]
)
@pytest.mark.parametrize(
    "url", [None, 7, "", "x", "http://evil.example/x", "javascript:x", "http://[", "file:///x"]
)
def test_an_address_of_the_provider_must_be_safe(name: str, url: Any) -> None:
    """https, or on the loopback: nothing goes where others can read it."""
    with rogue_provider() as rogue:
        rogue.metadata = {name: url}
        with pytest.raises(SignInError, match=name):
            asyncio.run(_address(provider_of(rogue.issuer)))


def connections(listener: socket.socket) -> int:
    """How many were made to it and wait to be accepted."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def test_a_provider_that_hangs_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 after ten seconds, or at once; for a while after it is not asked again, so that nobody waits in a queue."""
    monkeypatch.setattr(identity_provider, "TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = provider_of(f"http://127.0.0.1:{silent.getsockname()[1]}")

        async def thrice() -> list[Any]:
            return await asyncio.gather(*(_address(provider) for _ in range(3)), return_exceptions=True)

        found = asyncio.run(thrice())
        assert connections(silent) == 1
    assert {(error.status, "not answered" in error.message) for error in found} == {(503, True)}
    with pytest.raises(SignInError, match="cannot be reached") as refused:
        asyncio.run(_address(provider_of("http://127.0.0.1:9")))
    assert refused.value.status == 503


@pytest.mark.parametrize(
    ("more", "methods", "form"),
    [
        ({}, ["client_secret_basic"], {"client_id": CLIENT}),
        ({"client_secret": "hush"}, ["client_secret_post"], {"client_id": CLIENT, "client_secret": "hush"}),
        ({"client_secret": "hush"}, ["client_secret_post", "client_secret_basic"], {}),
    ],
)
def test_how_we_prove_who_we_are(more: dict[str, str], methods: list[str], form: dict[str, str]) -> None:
    """Without a secret as a public client; with one as the provider takes it, best in the header."""
    with rogue_provider() as rogue:
        rogue.nonce = VISIT.nonce
        rogue.metadata = {"token_endpoint_auth_methods_supported": methods}
        who = asyncio.run(provider_of(rogue.issuer, **more).identity(VISIT, "one"))
        asked, authorization = next((form, auth) for path, form, auth in rogue.asked if path == "/token")
    assert who.subject == "sub-alice"
    proof = {name: value for name, value in asked.items() if name.startswith("client")}
    assert (proof, bool(authorization)) == (form, not form)


def test_an_address_may_come_from_userinfo(tmp_path: Path) -> None:
    """As the standard has it with a code; of the same person only. A secret may be in a file."""
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    with rogue_provider() as rogue:
        rogue.nonce = VISIT.nonce
        rogue.metadata = {"userinfo_endpoint": f"{rogue.issuer}/userinfo"}
        told(rogue, "/userinfo", 200, {"sub": "sub-alice", "email": "a@b", "email_verified": True})
        provider = provider_of(rogue.issuer, client_secret_file=secret, match_email=True)
        assert asyncio.run(provider.identity(VISIT, "one")).email == "a@b"
        told(rogue, "/userinfo", 200, {"sub": "sub-bob", "email": "a@b", "email_verified": True})
        with pytest.raises(SignInError, match="somebody else"):
            asyncio.run(provider.identity(VISIT, "one"))
        secret.unlink()
        with pytest.raises(SignInError, match="client_secret_file"):
            asyncio.run(provider.identity(VISIT, "one"))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"issuer": "http://idp.example.org"}, "https"),
        ({"issuer": "idp.example.org"}, "https"),
        ({"issuer": "https://idp.example.org?x=1"}, "https"),
        ({"issuer": "https://me:pw@idp.example.org"}, "https"),
        ({"issuer": "http://["}, "https"),
        ({"client_id": ""}, "client_id"),
        ({"scopes": "email"}, "openid"),
        ({"client_secret": "x", "client_secret_file": "/dev/null"}, "client_secret_file"),
        ({"client_secret_file": "/nowhere/x"}, "client_secret_file"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, wish: dict[str, str], words: str) -> None:
    """At the start, in a sentence that names the field."""
    whole = {"issuer": "https://idp.example.org", "client_id": "x"} | wish
    with pytest.raises(ValidationError, match=words):
        Settings(data=tmp_path, oidc=whole)


def test_a_daemon_without_a_provider_does_not_pay_for_it() -> None:
    """What signs in and shows pages is loaded when somebody does."""
    code = "import api.serve, api.cli, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(done.stdout.split()) & {"authlib", "joserfc", "cryptography", "jinja2"}


def test_settings_that_can_be() -> None:
    """Off by default; http on the loopback."""
    assert Settings().oidc is None
    for issuer in (
        "http://localhost:1/realms/x",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "https://x.example/y/",
    ):
        found = Settings(oidc={"issuer": issuer, "client_id": "x"}).oidc
        assert found is not None
        assert (found.issuer, found.secret(), found.match_email) == (issuer, None, False)


KEYS = sealing.Keys((sealing.Identity.generate(),))
THEN = datetime(2026, 1, 1, tzinfo=UTC)


@settings(max_examples=100)
@given(st.text(), st.integers(0, 400), st.text(max_size=1))
def test_a_voucher_that_was_changed_is_none(value: str, at: int, put: str) -> None:
    """Whatever character becomes whatever; as it was issued, it is read until its end."""
    made = vouchers.issue(KEYS, "test", {"value": value}, THEN + timedelta(seconds=1))
    assert vouchers.read(KEYS, "test", made, THEN) == {"value": value}
    assert vouchers.read(KEYS, "test", made, THEN + timedelta(seconds=1)) is None
    assert vouchers.read(KEYS, "other", made, THEN) is None
    at %= len(made)
    changed = made[:at] + put + made[at + 1 :]
    assert changed == made or vouchers.read(KEYS, "test", changed, THEN) is None


@settings(max_examples=100)
@given(st.text())
def test_what_was_never_a_voucher_is_none(text: str) -> None:
    """Never an error."""
    assert vouchers.read(KEYS, "test", text, THEN) is None
