"""What is wrong with one project's key is told to that project, also where another one names the same URL."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler import sealing
from reconciler.daemon import Daemon
from reconciler.passes import builds
from tests.support import SpecRepository, daemon, eventually, settings_for

URL = "git@forge.example:shop/web.git"
SSH = "#!/bin/sh\necho Permission denied >&2\nexit 255\n"


def project(name: str, repository: dict[str, str], *more: dict[str, Any]) -> str:
    meta = {"name": "web", "project": name}
    build = {
        "repo": "web",
        "triggers": [{"type": "poll", "interval_seconds": 600}],
        "tasks": [{"name": "t", "run": "true"}],
    }
    found = [
        {"kind": "Project", "metadata": {"name": name}},
        {"kind": "Repository", "metadata": meta, "spec": {"url": URL} | repository},
        {"kind": "Build", "metadata": meta, "spec": build},
        *more,
    ]
    return "---\n".join(json.dumps({"apiVersion": "steersman/v1"} | item) + "\n" for item in found)


async def trouble(running: Daemon, name: str) -> tuple[str, str]:
    """The first that is wrong with a project's Build, once its repository has answered."""

    def check() -> tuple[str, str] | None:
        resource = running.installation.snapshot.current.resources.get(f"Build/{name}/_/web")
        found = [c for c in resource.conditions if c.status and c.reason != "Fetching"] if resource else []
        return (found[0].reason, found[0].message) if found else None

    told: tuple[str, str] = await eventually(check)
    return told


def test_a_failure_is_not_taken_for_that_of_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of slow fetches are kept for a while: by URL and key."""
    monkeypatch.setattr(builds, "_PATIENCE_SECONDS", 0)
    tools, data = tmp_path / "tools", tmp_path / "data"
    for folder in (tools, data):
        folder.mkdir()
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    sealing.make(data / "server.key")
    recipient = sealing.load(data / "server.key").recipient
    sealed = sealing.seal(b"no key", recipient, "Secret/one/_/key")
    secret = {
        "kind": "Secret",
        "metadata": {"name": "key", "project": "one"},
        "spec": {"type": "value", "sealed": sealed},
    }
    specs = SpecRepository(tmp_path / "specs")
    specs.commit({"one.yaml": project("one", {"private_key_ref": "key"}, secret)})

    async def run() -> None:
        async with daemon(settings_for(specs, data)) as running:
            reason, message = await trouble(running, "one")
            assert reason == "SecretUnusable"
            assert "Secret/one/_/key is of the type value" in message
            specs.commit({"two.yaml": project("two", {})})
            await running.installation.run_now("source")
            reason, message = await trouble(running, "two")
            assert reason == "GitRefused"
            assert "Secret" not in message
            assert (await trouble(running, "one"))[0] == "SecretUnusable"

    asyncio.run(run())
