"""Whose name others may use: manifests of a repository run with the secrets of the user they are submitted as."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import httpx

from tests.api.escape.conftest import document
from tests.api.srht.conftest import FILES, SETTINGS, World
from tests.support import SpecRepository, process

OWNER = document(
    "RoleBinding", "name: ana, project: shop", "{role: owner, subjects: [{kind: User, name: ana}]}"
)


def test_manifests_are_submitted_as_somebody_who_agrees(tmp_path: Path) -> None:
    """An owner of a project names itself only; what an administrator has allowed stays when other fields change."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(FILES | {"owner.yaml": OWNER})
    with process(repo.path, tmp_path / "data", **SETTINGS) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.ExitStack() as stack:
            world = stack.enter_context(contextlib.closing(World(running, repo)))
            ana = stack.enter_context(world.client(world.token("ana", "owner")))
            narrow = stack.enter_context(world.client(world.token("ana", "owner", project="shop")))

            def put(client: httpx.Client, submitter: str, **more: Any) -> int:
                spec = {"url": "https://example.org/web.git", "srht": {"submit_as": submitter}} | more
                path = "/reconciler/resources/Repository/shop/web"
                answer = client.put(path, json={"spec": spec})
                assert answer.status_code in (200, 201, 403), answer.text
                return answer.status_code

            assert put(ana, "jo") == 403
            assert put(narrow, "ana") == 403
            assert put(ana, "ana") == 200
            assert put(world.native, "jo") == 200
            assert put(ana, "jo", description="still jo's") == 200
            assert put(ana, "bob") == 403
