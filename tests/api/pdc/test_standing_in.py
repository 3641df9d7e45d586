"""Open writes, where an operator wants them: who comes without credentials acts as the subject of the setting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from reconciler.daemon import Daemon
from reconciler.store import tokens
from tests.api.conftest import app_of
from tests.api.pdc.conftest import BASE, document, person
from tests.support import SpecRepository, daemon, settings_for

ELSEWHERE = {"Origin": "https://else.example"}
STATUS = "http://pdc.example.net/reconciler/status"


async def of_no_power(running: Daemon, client: httpx.AsyncClient) -> None:
    """What is given as a token lets do what one may without, and nothing else; pages of other origins get none."""
    token = (await client.get("auth/token/obtain/")).json()["token"]
    assert (len(token), (await client.post("auth/token/obtain/")).json()) == (40, {"token": token})
    assert len(await running.installation.database.read(tokens.list_all)) == 1, "the administrator's"
    shown = {"Authorization": f"Token {token}"}
    made = await client.post("component-sla-types/", json={"name": token[:9]}, headers=shown)
    assert made.status_code == 201, made.text
    assert (await client.delete(f"component-sla-types/{made.json()['id']}/")).status_code == 204
    for headers in (ELSEWHERE, ELSEWHERE | shown, {"Origin": "null"}):
        assert (await client.get("auth/token/obtain/", headers=headers)).status_code == 401
        assert (await client.get("releases/", headers=headers)).status_code == 401
        other = await client.post("component-sla-types/", json={"name": "other"}, headers=headers)
        assert other.status_code == 401
    here = await client.get("auth/token/obtain/", headers={"Origin": "http://pdc.example.net"})
    assert here.json() == {"token": token}
    assert (await client.put("auth/token/refresh/", headers=shown)).status_code == 400


def test_writes_without_credentials(tmp_path: Path) -> None:
    """They are that subject's commits, but not from pages of other origins; a wrong token stays wrong."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"people.yaml": person("trial", "write"), "sla.yaml": document("SLA", "a")})

    async def go() -> None:
        settings = settings_for(repo, tmp_path / "data", anonymous_as={"pdc": "User/trial"})
        async with daemon(settings) as running:
            transport = httpx.ASGITransport(app_of(running.installation))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://pdc.example.net" + BASE
            ) as client:
                made = await client.post("component-sla-types/", json={"name": "b"})
                assert made.status_code == 201, made.text
                assert repo.git("log", "-1", "--format=%an") == "trial"
                assert (await client.get("auth/current-user/")).json()["username"] == "trial"
                await of_no_power(running, client)
                token = (await client.get("auth/token/obtain/")).json()["token"]
                native = await client.get(STATUS, headers={"Authorization": f"Bearer {token}"})
                assert native.status_code == 401
                assert (await client.put("auth/token/refresh/")).status_code == 400
                wrong = await client.get("releases/", headers={"Authorization": "Token x"})
                assert wrong.status_code == 401
                assert (await client.get(STATUS)).status_code == 401
                listed = await client.get("component-sla-types/?page_size=1")
                assert listed.json()["next"].startswith(
                    "http://pdc.example.net/rest_api/v1/component-sla-types/?"
                )
                named = "http://pdc.example.net"
                open_to_all = {"insecure_no_auth": True, "anonymous_as": {}, "external_url": named}
                running.installation.settings = settings.model_copy(update=open_to_all)
                await of_no_power(running, client)
                assert (await client.get("auth/current-user/")).json()["is_superuser"] is True
                assert (await client.get(STATUS, headers=ELSEWHERE)).status_code == 200

    asyncio.run(go())
