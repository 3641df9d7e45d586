"""Whatever is sent, nothing breaks: every field wrong in turn, odd paths, pages of others, members that are none."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.store import reviews
from tests.api.escape.conftest import document
from tests.api.sqedule.conftest import SCHEDULE, World, refused
from tests.support import SpecRepository, daemon, settings_for

WRONG: tuple[Any, ...] = (-1, 1.5, 10**30, True, "", "x" * 20_000, "\x00", [[]], {"x": {"y": []}})
RULE = {
    "schedule": ("begin_time", "end_time", "days_of_week", "days_of_month", "months_of_year"),
    "manual": ("approval_policy", "minimum", "approvers", "allow_self_approval"),
    "http_api": ("url", "username", "password", "tls_ca_certificate", "retry_policy", "retry_limit"),
}
GOOD = {
    "schedule": {"begin_time": "09:00", "end_time": "10:00"},
    "manual": {"approval_policy": "minimum", "minimum": 2},
    "http_api": {"url": "https://x.example.org", "username": "u", "password": "p", "retry_policy": "never"},
}


def fine(answer: httpx.Response) -> None:
    """It is an answer of this API, and the server has no fault."""
    assert answer.status_code in (200, 201, 400, 401, 404, 413, 422), answer.text
    assert answer.headers["content-type"] in ("application/json; charset=utf-8", "text/plain; charset=utf-8")


def test_every_field_wrong_in_turn(world: World) -> None:
    """Of releases, versions and rules; as drafts, so that nothing is committed."""
    application, ruleset = world.application(), world.ruleset(SCHEDULE)
    ana = world["ana"]
    made = world.release(application)["id"]
    release = f"/v1/applications/{application}/releases"
    for value in WRONG:
        for name in ("source_identity", "metadata", "comments"):
            fine(ana.post(release, json={name: value}))
            fine(ana.patch(f"{release}/{made}", json={name: value}))
        for name in ("approval_rule_id", "decision", "comments"):
            body = {"approval_rule_id": 1, "decision": "approved", "comments": "x", name: value}
            fine(ana.post(f"{release}/{made}/manual-approvals", json=body))
        for name in ("display_name", "enabled", "proposal_state", "comments"):
            fine(ana.patch(f"/v1/applications/{application}", json={"version": {name: value}}))
        for name in ("description", "approval_rules", "globally_applicable"):
            fine(ana.patch(f"/v1/approval-rulesets/{ruleset}", json={"version": {name: value}}))
        fine(ana.patch(f"/v1/applications/{application}", json={"version": value}))
        fine(ana.post("/v1/applications", json={"id": value, "version": {}}))
        path = f"/v1/application-approval-ruleset-bindings/{application}/{ruleset}"
        fine(ana.post(path, json={"version": {"mode": value}}))
    for kind, names in RULE.items():
        for name in (*names, "type", "enabled"):
            for value in WRONG:
                rule = {"type": kind, **GOOD[kind], name: value}
                answer = ana.patch(
                    f"/v1/approval-rulesets/{ruleset}", json={"version": {"approval_rules": [rule]}}
                )
                fine(answer)
    assert world.get(f"/approval-rulesets/{ruleset}")["latest_approved_version"]["version_number"] == 1
    assert world.get(f"/approval-rulesets/{ruleset}/proposals?per_page=0")["items"]


def test_what_a_draft_may_hold_may_be_final(world: World) -> None:
    """Nothing that was taken is refused later for its shape."""
    rules = [
        {"type": "http_api", **GOOD["http_api"], "enabled": False, "id": 7},
        {"type": "schedule", **GOOD["schedule"], "days_of_month": "1  31", "days_of_week": ""},
        {"type": "manual", **GOOD["manual"], "approvers": {"users": ["jo"]}},
        {"type": "manual", "approval_policy": "all", "minimum": None, "id": "x"},
    ]
    ruleset = world.ruleset(*rules, proposal_state="draft", display_name="Ünï ✓", description="a\nb: #c")
    path = f"/approval-rulesets/{ruleset}"
    id = world.get(f"{path}/proposals")["items"][0]["id"]
    draft = world.get(f"{path}/proposals/{id}")["version"]
    final = world.ask("PATCH", f"{path}/proposals/{id}", {"proposal_state": "final"}, expect=200)["version"]
    ours = {
        "id",
        "created_at",
        "updated_at",
        "approved_at",
        "version_state",
        "version_number",
        "proposal_state",
    }

    def content(version: dict[str, Any]) -> Any:
        told = {name: value for name, value in version.items() if name not in ours}
        return told | {
            "approval_rules": [{**each, "id": 0, "created_at": ""} for each in version["approval_rules"]]
        }

    assert content(draft) == content(final)
    assert [each["type"] for each in final["approval_rules"]] == ["http_api", "schedule", "manual", "manual"]


def test_odd_paths(world: World) -> None:
    """Segments are decoded once; what cannot be an id is that of nothing."""
    name = world.name("a b+%")
    world.ask("POST", "/applications", {"id": name, "version": {"proposal_state": "final"}}, expect=201)
    quoted = name.replace("%", "%25").replace(" ", "%20")
    assert world["ana"].get(f"/v1/applications/{quoted}").json()["id"] == name
    for part in ("%2F", "..%2f", "%00", "%0a", "%ff", "x%09y", "'%22", "%F0%9F%92%A9", "_", "%25"):
        for rest in ("", "/releases", "/releases/1", "/proposals/1", "/versions/1"):
            for method in ("GET", "PATCH"):
                answer = world["ana"].request(method, f"/v1/applications/{part}{rest}", json={})
                assert answer.status_code in (400, 404), answer.text
        fine(world["ana"].get(f"/v1/application-approval-ruleset-bindings/{part}/{part}"))
    for number in ("4294967296", "-1", "x", "1e3"):
        for part in ("versions", "proposals"):
            refused(world["ana"].get(f"/v1/applications/{quoted}/{part}/{number}"), 400)
    for levels in (100, 955, 100_000):
        deep = b'{"metadata": ' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"
        assert "nested" in refused(
            world["ana"].post(f"/v1/applications/{quoted}/releases", content=deep), 400
        )
    assert world.get(f"/applications/{quoted}/releases")["items"] == []
    assert world["ana"].get("/v1/releases").status_code == 200
    large = {"comments": "x" * (5 << 20)}
    refused(world["ana"].post(f"/v1/applications/{quoted}/releases", json=large), 413)
    assert world["ana"].head("/v1/applications").status_code == 200


def test_pages_of_other_origins(world: World) -> None:
    """What a browser sends by itself does not count there; a token does."""
    path = f"/v1/applications/{world.application()}/releases"
    foreign = {"Origin": "https://evil.example"}
    refused(world["ana"].post(path, json={}, headers=foreign), 401)
    assert world["ana"].post(path, json={}, headers={"Origin": world.url}).status_code == 201
    bearer = {**foreign, "Authorization": f"Bearer {world.secrets['ana']}"}
    assert world.nobody.post(path, json={}, headers=bearer).status_code == 201
    cookie = {"Cookie": f"X-Escape-Token={world.secrets['ana']}", **foreign}
    refused(world.nobody.post(path, json={}, headers=cookie), 401)


def test_login(world: World) -> None:
    """With a token as the password; anything else is refused alike, in a form of its own."""
    path, secret = "/v1/auth/login", world.secrets["ana"]
    good = {"organization_id": "default", "email": "ana@example.org", "password": secret}
    done = world.nobody.post(path, json=good)
    assert done.status_code == 200
    assert done.json() | {"expire": ""} == {"code": 200, "expire": "", "token": secret}
    assert datetime.fromisoformat(done.json()["expire"]).tzinfo is not None
    bearer = {"Authorization": f"Bearer {done.json()['token']}"}
    again = world.nobody.post("/v1/auth/refresh-token", headers=bearer)
    assert again.json() == done.json()
    for wrong in (
        {**good, "email": "jo@example.org"},
        {**good, "password": "x"},
        {**good, "password": 5},
        {**good, "organization_id": "other"},
        {**good, "service_account_name": "ana"},
        {**good, "email": None},
        {**good, "email": []},
        {},
        [],
    ):
        answer = world.nobody.post(path, json=wrong)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "JWT realm=Sqedule"
        assert answer.json().keys() == {"code", "message"}
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
        assert world.nobody.post("/v1/auth/refresh-token", headers=headers).status_code == 401


def test_the_organization(world: World) -> None:
    """There is one, which is this server; nobody else's is shown, and it stays as it is."""
    ours = world.get("/organization", by="lee")
    assert ours.keys() == {"id", "display_name"}
    assert world.get(f"/organizations/{ours['id']}") == ours
    refused(world["ana"].get("/v1/organizations/other"), 401)
    assert world.ask("PATCH", "/organization", ours, expect=200) == ours
    refused(world["ana"].patch("/v1/organization", json={"display_name": "Mine"}), 422)
    refused(world["ana"].patch("/v1/organization", json={"display_name": 1}), 400)
    refused(world["lee"].patch("/v1/organization", json={}), 401)


@pytest.mark.parametrize("mode", ["read-only"])
def test_a_server_that_does_not_write_to_git(tmp_path: Path, mode: str) -> None:
    """And an application that stands in for what nobody declares: neither is changed here."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": document("Project", "name: shop")})
    settings = settings_for(
        repo, tmp_path / "data", allow_unsandboxed=True, write_mode=mode, insecure_no_auth=True
    )

    async def run() -> None:
        from tests.api.conftest import app_of

        async with daemon(settings) as running:
            installation = running.installation
            await installation.database.write(lambda w: reviews.implicit(w, "shop--web"))
            await installation.database.write(lambda w: reviews.implicit(w, "shop--web"))
            transport = httpx.ASGITransport(app_of(installation))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                body: dict[str, Any] = {"version": {"proposal_state": "final", "display_name": "x"}}
                assert "Git" in refused(await client.post("/v1/applications", json={"id": "a", **body}), 422)
                assert (await client.get("/v1/applications/a")).status_code == 404
                path = "/v1/applications/SHOP--web"
                found = (await client.get(path)).json()
                assert (found["id"], found["latest_approved_version"]["version_number"]) == ("shop--web", 1)
                for wrong in (body, {"id": "b"}, {}):
                    assert "read-only" in refused(await client.patch(path, json=wrong), 422)
                made = await client.post(f"{path}/releases", json={})
                assert made.status_code == 201

    asyncio.run(run())
