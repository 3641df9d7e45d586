"""A shop: code repositories whose builds make releases, and environments that they are deployed to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.access import ROOT
from reconciler.commands import executions as door
from reconciler.commands.executions import BuildOrder
from reconciler.daemon import Daemon
from reconciler.model import deployment as state_of
from reconciler.model.execution import Execution, Type
from reconciler.model.job import Job
from reconciler.model.release import Release
from reconciler.queries import logs
from reconciler.queries.logs import Selection
from reconciler.store import deployments, executions, jobs, releases
from reconciler.store.deployments import Row
from tests.support import SpecRepository, daemon, eventually, settings_for

MARKS = ("build", "test", "deploy", "smoke", "destroy")


class Shop:
    """A code repository (bare, with a work tree beside it), the specifications, and a folder that scripts write to.

    Every script of `plan()` leaves a line in `marks`: `NAME STAGE`.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.marks = tmp_path / "marks"
        self.marks.mkdir()
        self.code = SpecRepository(tmp_path / "code")
        self.code.commit({"README.md": "a shop"})
        self.bare = tmp_path / "code.git"
        self.code.git("clone", "-q", "--bare", str(self.code.path), str(self.bare))
        self.code.git("remote", "add", "origin", str(self.bare))
        self.specs = SpecRepository(tmp_path / "specs")
        self.documents: dict[str, dict[str, Any]] = {}
        executor = {
            "images": {"host": {"type": "host"}}, "default_image": "host", "max_load": 16, "writable": [str(self.marks)]
        }  # fmt: skip
        self.declare("Executor", "local", executor)
        self.declare(
            "Project", "shop", {"namespaces": [{"name": "shop"}], "environment_order": ["dev", "prod"]}
        )
        for name in ("dev", "prod"):
            self.declare("Environment", name, {}, project="shop")

    @property
    def url(self) -> str:
        """Of the code repository."""
        return f"file://{self.bare}"

    def plan(self, **more: Any) -> dict[str, Any]:
        """A plan whose every script leaves a mark."""
        scripts = {
            name: {"inline": f"echo {name} $STEERSMAN_STAGE >> {self.marks}/all"}
            for name in ("build", "test", "smoke", "destroy")
        }
        line = f"echo deploy $STEERSMAN_STAGE >> {self.marks}/all"
        scripts["deploy"] = {"inline": f'{line}; echo \'{{"url": "http://web"}}\' > $1'}
        return {
            "name": "shop/web",
            "version": "1.0.@",
            "outputs": [{"id": "url", "default": ""}],
            **scripts,
            **more,
        }

    def push(self, files: Mapping[str, str | dict[str, Any] | None], message: str = "change") -> str:
        """Commit to the code repository; the commit."""
        texts = {name: json.dumps(text) if isinstance(text, dict) else text for name, text in files.items()}
        commit = self.code.commit(texts, message)
        self.code.git("push", "-q", "origin", "HEAD:main")
        return commit

    def declare(self, kind: str, name: str, spec: dict[str, Any] | None, **scope: str) -> None:
        """A document, as it will be committed next; None: it goes."""
        key = "/".join((kind, *scope.values(), name))
        if spec is None:
            self.documents.pop(key, None)
            return
        meta = {"name": name, **scope}
        self.documents[key] = {"apiVersion": "steersman/v1", "kind": kind, "metadata": meta, "spec": spec}

    def build(self, *steps: dict[str, Any], name: str = "web", **spec: Any) -> None:
        """A Build in dev."""
        whole = {"repo": self.url, "branch": "main", "steps": list(steps) or [{}], **spec}
        self.declare("Build", name, whole, project="shop", environment="dev")

    def deployment(self, name: str, spec: dict[str, Any] | None, environment: str = "prod") -> None:
        """A Deployment."""
        self.declare("Deployment", name, spec, project="shop", environment=environment)

    def commit(self, files: Mapping[str, str | None] | None = None) -> str:
        """All that is declared."""
        text = "\n---\n".join(json.dumps(document) for document in self.documents.values())
        return self.specs.commit({"shop.yaml": text, **(files or {})})

    def marked(self) -> list[str]:
        """What scripts have left, in order."""
        path = self.marks / "all"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        """No marks so far."""
        (self.marks / "all").unlink(missing_ok=True)

    def run(self, work: Callable[[Open], Awaitable[None]], **settings: Any) -> None:
        """With a daemon in this process."""
        self.commit()

        async def body() -> None:
            async with daemon(settings_for(self.specs, self.path / "data", **settings)) as running:
                await asyncio.wait_for(work(Open(self, running)), 120)

        asyncio.run(body())


class Open:
    """A shop whose daemon runs."""

    def __init__(self, shop: Shop, running: Daemon) -> None:
        self.shop = shop
        self.daemon = running
        self.installation = running.installation

    async def apply(self) -> None:
        """Commit what is declared, and wait for it."""
        self.shop.commit()
        await self.installation.run_now("source")

    async def build(self, name: str = "web", **order: Any) -> Execution:
        """Run a Build to its end."""
        made = await door.trigger_build(
            self.installation, ROOT, f"Build/shop/dev/{name}", BuildOrder(**order)
        )
        return await self.ended(made.number)

    async def act(self, kind: Type, name: str, environment: str = "prod", **asked: Any) -> Execution:
        """Do something to a Deployment, to its end."""
        key = f"Deployment/shop/{environment}/{name}"
        made = await door.trigger_deployment(self.installation, ROOT, key, kind, door.Asked(**asked))
        return await self.ended(made.number)

    async def ended(self, number: int) -> Execution:
        """An execution once it is over."""

        async def check() -> Execution | None:
            found = await self.installation.database.read(lambda c: executions.load(c, number))
            return found if found is not None and found.job.state.finished else None

        found: Execution = await eventually(check, 60)
        return found

    async def row(self, name: str, environment: str = "prod") -> Row | None:
        """What is known of a deployment."""
        place = state_of.Place("shop", environment, name)
        return await self.installation.database.read(
            lambda c: deployments.load(c, self.installation.keys, place)
        )

    async def stage(self, name: str, environment: str = "prod", stage: str = "deploy") -> dict[str, Any]:
        """One of its stages."""
        row = await self.row(name, environment)
        return state_of.stage({} if row is None else row.state, stage)

    async def deployed(self, name: str, environment: str = "prod", **fields: Any) -> dict[str, Any]:
        """A deployment's stage once it is ok, with these fields."""

        async def check() -> dict[str, Any] | None:
            found = await self.stage(name, environment)
            good = found["status"]["status"] == "ok" and all(
                found[key] == value for key, value in fields.items()
            )
            return found if good else None

        found: dict[str, Any] = await eventually(check, 60)
        return found

    async def releases(self, application: str = "web") -> list[Release]:
        """All versions, in order of time."""

        def find(connection: Any) -> list[Release]:
            numbers = [
                job.number for job in jobs.page(connection, key=None, state=None, limit=1000, after=None)
            ]
            return [r for r in releases.published_by(connection, numbers) if r.application == application]

        return await self.installation.database.read(find)

    async def jobs(self, key: str) -> list[Job]:
        """Jobs of a KEY, newest first."""
        return await self.installation.database.read(
            lambda c: jobs.page(c, key=key, state=None, limit=100, after=None)
        )

    async def log(self, number: int, **selection: Any) -> str:
        """The log of an execution."""
        chunks = [c async for c in logs.read(self.installation, ROOT, number, Selection(**selection), 0)]
        return b"".join(chunks).decode()
