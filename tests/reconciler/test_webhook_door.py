"""Push webhooks of repositories with secrets of their own: each listens to its own signature and to no other."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler import sealing
from reconciler.commands.webhook import receive
from reconciler.daemon import Daemon
from reconciler.errors import BadSignature, Refused
from tests.support import SpecRepository, daemon, eventually, settings_for

SERVER = "the-server-s-own"
_deliveries = itertools.count()


def documents(*found: dict[str, Any]) -> str:
    """YAML documents of the project's kinds."""
    return "---\n".join(json.dumps({"apiVersion": "steersman/v1"} | item) + "\n" for item in found)


class World:
    """A spec repository, a code repository, and the server's key before its first start."""

    def __init__(self, tmp_path: Path) -> None:
        self.data = tmp_path / "data"
        self.data.mkdir()
        sealing.make(self.data / "server.key")
        self.recipient = sealing.load(self.data / "server.key").recipient
        self.specs = SpecRepository(tmp_path / "specs")
        self.code = SpecRepository(tmp_path / "code")
        self.code.commit({"README": "hello\n"})

    def project(self, name: str, secret: str | None, *, kind: str = "value") -> str:
        """A project with a Repository of the code, and a Build that waits for its pushes."""
        repository: dict[str, Any] = {"url": str(self.code.path)}
        sealed = []
        if secret is not None:
            key = f"Secret/{name}/_/hook"
            repository["webhook_secret_ref"] = "hook"
            spec = {"type": kind, "sealed": sealing.seal(secret.encode(), self.recipient, key)}
            sealed = [{"kind": "Secret", "metadata": {"name": "hook", "project": name}, "spec": spec}]
        meta = {"name": "web", "project": name}
        triggers = [{"type": "webhook"}]
        build = {"repo": "web", "triggers": triggers, "tasks": [{"name": "t", "run": "true"}]}
        return documents(
            {"kind": "Project", "metadata": {"name": name}},
            *sealed,
            {"kind": "Repository", "metadata": meta, "spec": repository},
            {"kind": "Build", "metadata": meta, "spec": build},
        )

    def run(
        self,
        projects: dict[str, str],
        work: Callable[[Daemon], Awaitable[None]],
        server: str | None = SERVER,
    ) -> None:
        """A daemon on these files."""
        self.specs.commit({f"{name}.yaml": text for name, text in projects.items()})

        async def go() -> None:
            async with daemon(settings_for(self.specs, self.data, webhook_secret=server)) as running:
                await asyncio.wait_for(work(running), 60)

        asyncio.run(go())

    def push(
        self, running: Daemon, secret: str, *, url: str | None = None, delivery: str | None = None
    ) -> dict[str, Any]:
        """A hook that says the code was pushed to."""
        body = json.dumps({"repository": {"clone_url": url or f"file://{self.code.path}/"}}).encode()
        headers = {
            "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery or f"d-{next(_deliveries)}",
        }
        return receive(running.installation, headers, body)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def keys(*projects: str) -> list[str]:
    return [f"Build/{name}/_/web" for name in projects]


def test_each_repository_is_woken_by_its_own_signature(world: World) -> None:
    """Three projects name one URL: two have secrets of their own, the third has none."""
    projects = {
        "one": world.project("one", "first"),
        "two": world.project("two", "second"),
        "three": world.project("three", None),
    }

    async def work(running: Daemon) -> None:
        assert world.push(running, "first")["woken"] == keys("one")
        assert world.push(running, "second")["woken"] == keys("two")
        assert world.push(running, SERVER)["woken"] == keys("three")
        told = set()
        for wrong in ("guess", "first "):
            for url in (None, "https://nobody.example/x.git"):
                with pytest.raises(BadSignature) as caught:
                    world.push(running, wrong, url=url)
                told.add((caught.value.reason, caught.value.message))
        assert told == {("BadSignature", "the signature of the webhook is wrong")}
        with pytest.raises(BadSignature):  # a secret of one's own speaks for one's own repositories only
            world.push(running, "first", url=str(world.specs.path))
        assert world.push(running, SERVER, url=str(world.specs.path))["woken"] == ["source"]
        assert world.push(running, SERVER, url="https://nobody.example/x.git")["woken"] == []

    world.run(projects, work)


def test_the_server_s_secret_is_no_signature_for_a_repository_with_its_own(world: World) -> None:
    """Refused, and not taken without effect: who set up the hook sees that it is wrong."""

    async def work(running: Daemon) -> None:
        with pytest.raises(BadSignature, match="is wrong"):
            world.push(running, SERVER)
        assert world.push(running, "first")["woken"] == keys("one")

    world.run({"one": world.project("one", "first")}, work)


def test_a_server_without_a_secret_takes_the_hooks_of_those_who_have_one(world: World) -> None:
    """And no others."""
    projects = {"one": world.project("one", "first"), "two": world.project("two", None)}

    async def work(running: Daemon) -> None:
        assert world.push(running, "first")["woken"] == keys("one")
        with pytest.raises(BadSignature):
            world.push(running, "")
        with pytest.raises(BadSignature):
            world.push(running, "x", url=str(world.specs.path))

    world.run(projects, work, server=None)


def test_hooks_are_off_where_nobody_has_a_secret(world: World) -> None:
    """The sentence names both ways."""

    async def work(running: Daemon) -> None:
        with pytest.raises(Refused, match=r"STEERSMAN_WEBHOOK_SECRET.*webhook_secret_ref") as caught:
            world.push(running, "x")
        assert caught.value.reason == "WebhooksOff"

    world.run({"one": world.project("one", None)}, work, server=None)


def test_one_delivery_counts_once_for_each_who_signs(world: World) -> None:
    """A forge may give the hooks of one push the same id; a repetition is still found."""
    projects = {"one": world.project("one", "first"), "two": world.project("two", "second")}

    async def work(running: Daemon) -> None:
        for secret, name in (("first", "one"), ("second", "two")):
            assert world.push(running, secret, delivery="same") == {"woken": keys(name), "repeated": False}
        assert world.push(running, "first", delivery="same") == {"woken": [], "repeated": True}

    world.run(projects, work)


def test_a_secret_that_cannot_be_opened_signs_nothing_and_its_builds_say_so(world: World) -> None:
    """Neither it nor the server's secret in its place; the Build is built all the same, its neighbour undisturbed."""
    projects = {
        "one": world.project("one", "first", kind="ssh_key"),
        "two": world.project("two", "second"),
    }

    async def work(running: Daemon) -> None:
        for secret in ("first", SERVER):
            with pytest.raises(BadSignature):
                world.push(running, secret)
        assert world.push(running, "second")["woken"] == keys("two")

        def conditions(name: str) -> dict[str, str]:
            found = running.installation.snapshot.current.resources[f"Build/{name}/_/web"].conditions
            return {c.reason: c.message for c in found if c.status}

        told = await eventually(lambda: conditions("one").get("SecretUnusable"))
        assert "no webhook of" in told
        assert "Secret/one/_/hook is of the type ssh_key, and not value" in told
        assert "SecretUnusable" not in conditions("two")

    world.run(projects, work)
