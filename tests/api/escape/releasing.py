"""Builds that make releases of a repository of code, on a daemon of their own: for the cases of executions and logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.api.escape.conftest import DEV, FILES, World, document
from tests.support import SpecRepository, once, process

ENDED = ("ok", "failed")
SETTINGS = {
    "STEERSMAN_ALLOW_UNSANDBOXED": "1",
    "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
    "STEERSMAN_STOP_GRACE_SECONDS": "0.5",
    "STEERSMAN_PRIVATE_ADDRESSES": "1",
}


class Works(World):
    """A daemon with the people of the contract's cases, and `code`: the repository that its builds are of."""

    code: SpecRepository

    def declare(self, name: str, environment: str = "dev", **spec: Any) -> Build:
        """A build of this specification, applied."""
        whole = {"repo": "code", "steps": [{}]} | spec
        metadata = f"name: {name}, project: shop, environment: {environment}"
        self.commit({f"builds/{environment}-{name}.yaml": document("Build", metadata, json.dumps(whole))})
        return Build(self, name, environment)

    def released(self, application: str, version: str = "1.0.@", **scripts: str) -> dict[str, Any]:
        """Fields of a build that makes releases of an application, with these scripts."""
        return {
            "release": {"namespace": "shop", "application": application, "version": version},
            "scripts": {stage: {"inline": text} for stage, text in scripts.items()},
        }


class Build:
    """A declared build, and what is asked of it over HTTP."""

    def __init__(self, works: Works, name: str, environment: str) -> None:
        self.works, self.name = works, name
        self.path = f"{DEV.removesuffix('dev')}{environment}/builds/by-name/{name}"

    def trigger(self, who: str = "wendy", **order: Any) -> str:
        """Start it; the execution's id."""
        answer = self.works[who].post(f"{self.path}/trigger-build", json=order)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["id"]
        return found

    def get(self, execution: str) -> dict[str, Any]:
        """An execution as it is now."""
        answer = self.works["rita"].get(f"{self.path}/executions/{execution}/")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def when(self, execution: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """An execution once it has one of these statuses."""
        running = self.works.running
        return once(
            lambda: self.get(execution), lambda found: found["status"] in statuses, seconds, running.log
        )

    def run(self, **order: Any) -> dict[str, Any]:
        """Start it, and wait for its end."""
        return self.when(self.trigger(**order), *ENDED)

    def messages(self, execution: str, **query: Any) -> list[str]:
        """What it has said."""
        answer = self.works["rita"].get(f"{self.path}/executions/{execution}/logs", params=query)
        assert answer.status_code == 200, answer.text
        return [entry["message"] for entry in answer.json()["entries"]]

    def post(self, execution: str, verb: str, who: str = "wendy", **more: Any) -> httpx.Response:
        """Something asked of an execution."""
        return self.works[who].post(f"{self.path}/executions/{execution}/{verb}", **more)


@contextmanager
def works(folder: Path, **settings: str) -> Iterator[Works]:
    """Started once for a module's tests."""
    code = SpecRepository(folder / "code")
    code.commit({"README.md": "# Code\n", "main.c": "int main;\n"})
    code.git("config", "receive.denyCurrentBranch", "ignore")
    specs = SpecRepository(folder / "specs")
    kept = {
        name: text
        for name, text in FILES.items()
        if name not in ("web.yaml", "deployments.yaml", "tasks.yaml")
    }
    repository = document("Repository", "name: code, project: shop", json.dumps({"url": str(code.path)}))
    specs.commit({**kept, "code.yaml": repository})
    with process(specs.path, folder / "data", **(SETTINGS | settings)) as running, ExitStack() as stack:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        found = Works(running, specs)
        found.code = code
        for client in (found.admin, *found.clients.values()):
            stack.callback(client.close)
        yield found
