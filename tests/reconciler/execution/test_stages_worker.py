"""Executions that external workers run: handed over once, also over a restart; silence, time-outs, keys (12.4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyrage.x25519 import Identity

from reconciler.access import ROOT
from reconciler.commands import execution_logs, executions
from reconciler.commands.execution_logs import Push
from reconciler.daemon import Daemon
from reconciler.execution.stages import worker
from reconciler.execution.stages.world import Run
from reconciler.installation import Installation
from reconciler.model import deployment as state_of
from reconciler.model.execution import Execution, Type, status, status_reason, ulid
from reconciler.model.job import Checkout
from reconciler.queries import log_entries, logs
from reconciler.queries.logs import Selection
from reconciler.sealing import Keys, seal
from reconciler.store import deployments
from reconciler.store import executions as rows
from tests.escape_worker import Handed, Worker
from tests.escape_worker import worker as listening
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

KEY = "Build/shop/dev/web"


def specs(url: str, **more: Any) -> dict[str, str | bytes | None]:
    """A project whose build, and whose deployment, are an external worker's."""
    build = {"repo": "code", "steps": [{}], "remote_escape_worker_url": url} | more
    deployment = {
        "scripts": {"deploy": {"inline": "exit 1"}},
        "reconcile": "manual",
        "remote_escape_worker_url": url,
    }
    head = "---\napiVersion: steersman/v1\n"
    return {
        "specs.yaml": PROJECT
        + f"{head}kind: Environment\nmetadata: {{name: dev, project: shop}}\n"
        + f"{head}kind: Repository\nmetadata: {{name: code, project: shop}}\nspec: {{url: CODE}}\n"
        + f"{head}kind: Build\nmetadata: {{name: web, project: shop, environment: dev}}\nspec: {json.dumps(build)}\n"
        + f"{head}kind: Deployment\nmetadata: {{name: shop/web, project: shop, environment: dev}}\n"
        + f"spec: {json.dumps(deployment)}\n"
    }


async def now(installation: Installation, number: int) -> Execution:
    found = await installation.database.read(lambda c: rows.load(c, number))
    assert found is not None
    return found


async def ended(installation: Installation, number: int) -> Execution:
    await eventually(lambda: _over(installation, number))
    return await now(installation, number)


async def _over(installation: Installation, number: int) -> bool:
    return (await now(installation, number)).job.state.finished


async def said(installation: Installation, number: int) -> list[str]:
    log = await log_entries.now(installation, await now(installation, number))
    return [entry["message"] for entry in (await log_entries.read(installation, log, 1, 100))[0]]


def with_worker(
    tmp_path: Path,
    test: Callable[[Daemon, Worker], Awaitable[None]],
    work: Callable[[Handed], None] | None = None,
    *,
    private: bool = True,
    **spec: Any,
) -> None:
    """A daemon in this process, and a worker that it hands builds to."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"README.md": "#"})
    with listening(work) as found:
        repository = SpecRepository(tmp_path / "specs")
        files = {n: str(t).replace("CODE", str(code.path)) for n, t in specs(found.url, **spec).items()}
        repository.commit(files)  # type: ignore[arg-type]

        async def run() -> None:
            settings = settings_for(
                repository, tmp_path / "data", private_addresses=private, allow_unsandboxed=True
            )
            async with daemon(settings) as running:
                await test(running, found)

        asyncio.run(run())


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_WAITS_SECONDS", (0.05, 0.05, None))


def test_silence_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence that says so is the last entry of its log."""
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 0.5)

    async def test(running: Daemon, found: Worker) -> None:
        made = await executions.trigger_build(running.installation, ROOT, KEY)
        execution = await ended(running.installation, made.number)
        assert (status(execution.job.state), status_reason(execution.job)) == ("failed", "worker-lost")
        assert await said(running.installation, made.number) == ["the worker has said nothing for 0.5 s"]
        assert len(found.told) == 1

    with_worker(tmp_path, test)


def test_who_says_something_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push or a connection is enough."""
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 2.5)

    async def test(running: Daemon, found: Worker) -> None:
        installation = running.installation
        made = await executions.trigger_build(installation, ROOT, KEY)
        await eventually(lambda: found.told)
        for turn in range(6):
            await asyncio.sleep(0.75)
            if turn % 2:
                await execution_logs.heard(installation, made.number)
            else:
                execution = await now(installation, made.number)
                await execution_logs.push(installation, ROOT, execution, Push())
        execution = await now(installation, made.number)
        assert not execution.job.state.finished
        await execution_logs.push(installation, ROOT, execution, Push(status="ok"))
        assert status((await now(installation, made.number)).job.state) == "ok"

    with_worker(tmp_path, test)


def test_after_a_restart_it_is_waited_for_and_not_handed_over_again(tmp_path: Path) -> None:
    code = SpecRepository(tmp_path / "code")
    code.commit({"README.md": "#"})
    with listening() as found:
        repository = SpecRepository(tmp_path / "specs")
        text = str(specs(found.url)["specs.yaml"]).replace("CODE", str(code.path))
        repository.commit({"specs.yaml": text})
        settings = settings_for(repository, tmp_path / "data", private_addresses=True, allow_unsandboxed=True)

        async def hand() -> int:
            async with daemon(settings) as running:
                made = await executions.trigger_build(running.installation, ROOT, KEY)
                await eventually(lambda: found.told)
                await eventually(lambda: _handed(running.installation, made.number))
                execution = await now(running.installation, made.number)
                said = Push(entries=[entry("one"), entry("two")])
                await execution_logs.push(running.installation, ROOT, execution, said)
                await asyncio.sleep(0.5)
                return made.number

        async def take_up(number: int) -> None:
            async with daemon(settings) as running:
                execution = await now(running.installation, number)
                assert not execution.job.state.finished
                await asyncio.sleep(0.5)
                said = Push(entries=[entry("three")], status="ok")
                await execution_logs.push(running.installation, ROOT, execution, said)
                assert status((await now(running.installation, number)).job.state) == "ok"
                text = await logs.now(running.installation, ROOT, number, Selection())
                shown = b"".join([piece async for piece in logs.pieces(text, 0, text.size)])
                assert shown == b"one\ntwo\nthree\n"

        number = asyncio.run(hand())
        asyncio.run(take_up(number))
        assert len(found.told) == 1


def entry(message: str) -> dict[str, Any]:
    """As the API hands it on."""
    return {
        "timestamp": None,
        "level": "info",
        "stream": "stdout",
        "step": 0,
        "stage": "",
        "message": message,
    }


async def _handed(installation: Installation, number: int) -> bool:
    return "_handed" in (await now(installation, number)).record


def test_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is told to stop; when it says nothing, that is the end."""
    monkeypatch.setattr(worker, "SILENCE_SECONDS", 1.0)

    async def test(running: Daemon, found: Worker) -> None:
        installation = running.installation
        made = await executions.trigger_build(installation, ROOT, KEY)
        await eventually(lambda: found.told)
        running.installation.runs._stops[
            (await now(installation, made.number)).job.tasks[0].trials[0].id
        ].ask(cast("Any", "timeout"), None)
        execution = await ended(installation, made.number)
        assert status_reason(execution.job) == "timeout"
        assert [told["kind"] for told in found.told] == ["build", "cancel"]

    with_worker(tmp_path, test)


def test_a_private_address_wants_the_setting(tmp_path: Path) -> None:
    async def test(running: Daemon, found: Worker) -> None:
        made = await executions.trigger_build(running.installation, ROOT, KEY)
        execution = await ended(running.installation, made.number)
        assert status_reason(execution.job) == "worker-lost"
        assert "private_addresses" in (await said(running.installation, made.number))[0]
        assert found.told == []

    with_worker(tmp_path, test, private=False)


def test_a_deployment_is_handed_over_as_well(tmp_path: Path) -> None:
    """It is told what to do; the deployment has its turn meanwhile."""

    def work(job: Handed) -> None:
        assert job.push("deploying", status="ok").status_code in (200, 404)

    async def test(running: Daemon, found: Worker) -> None:
        installation = running.installation
        key = "Deployment/shop/dev/shop/web"
        made = await executions.trigger_deployment(installation, ROOT, key, Type.DEPLOY)
        await eventually(lambda: found.told)
        told = found.told[0]
        assert (told["kind"], told["deployment"]["name"]) == ("deploy", "shop/web")
        place = "by-project/shop/by-environment/dev/by-name/shop%2Fweb"
        assert told["callback"].endswith(f"/api/v1/deployment-jobs/{place}/executions/{ulid(made.id)}")
        execution = await now(installation, made.number)
        await execution_logs.push(installation, ROOT, execution, Push(status="ok"))
        assert status((await now(installation, made.number)).job.state) == "ok"
        assert await stands(installation) == ("ok", True, 0)

    with_worker(tmp_path, test)


def test_what_a_worker_did_to_a_deployment_is_in_its_state(tmp_path: Path) -> None:
    """A failure counts as a try; what it has told by the state itself stays."""

    async def test(running: Daemon, _: Worker) -> None:
        installation = running.installation
        key = "Deployment/shop/dev/shop/web"

        async def do(kind: Type, said: Push) -> None:
            made = await executions.trigger_deployment(installation, ROOT, key, kind)
            execution = await now(installation, made.number)
            await execution_logs.push(installation, ROOT, execution, said)
            assert (await now(installation, made.number)).job.state.finished

        await do(Type.DEPLOY, Push(status="failed", status_reason="missing-input"))
        assert await stands(installation) == ("failure", False, 1)
        await do(Type.DEPLOY, Push(status="ok"))
        assert await stands(installation) == ("ok", True, 0)
        await do(Type.SMOKE, Push(status="failed"))
        assert await stands(installation) == ("test_failure", True, 0)
        await do(Type.DESTROY, Push(status="ok"))
        assert await stands(installation) == ("empty", False, 0)

    with_worker(tmp_path, test)


async def stands(installation: Installation) -> tuple[str, bool, int]:
    """Status of the deployment, whether it is known as deployed, and how often it was tried in vain."""
    place = state_of.of("Deployment/shop/dev/shop/web")
    row = await installation.database.read(lambda c: deployments.load(c, installation.keys, place))
    assert row is not None
    return state_of.code(row.state), "job" in (row.deployed or {}), row.tried


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://worker.example/", True),
        ("http://127.0.0.1:9/", True),
        ("http://[::1]:9/", True),
        ("http://localhost/", True),
        ("http://worker.example/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_the_key_travels_where_nobody_reads_it_only(url: str, sent: bool) -> None:
    keys = Keys((Identity.generate(),))
    secret = "Secret/shop/_/git-key"
    spec = {"type": "ssh_key", "sealed": seal(b"private", keys.recipient, secret)}
    around = SimpleNamespace(keys=keys, declared={secret: SimpleNamespace(spec=spec)}.get)
    job = SimpleNamespace(checkout=Checkout("ssh://git@e.org/x", secret=secret))
    run = SimpleNamespace(around=around, wanted={"worker": url}, order=SimpleNamespace(job=job))
    found = worker._key_of(cast("Run", run))
    assert found == ({"private_key": "private"} if sent else {})
    none = SimpleNamespace(checkout=replace(job.checkout, secret=None))
    run = SimpleNamespace(around=around, wanted={"worker": url}, order=SimpleNamespace(job=none))
    assert worker._key_of(cast("Run", run)) == {}
