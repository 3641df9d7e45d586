"""What is told of Deployments and Pipelines: held, approval asked for, failed, drifted, and well again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.commands import gate as commands
from reconciler.commands.gate import Said
from reconciler.commands.triggers import Order, trigger
from reconciler.model import deployment as state_of
from reconciler.store import deployments, events
from reconciler.store.database import Write
from tests.receiver import Receiver
from tests.running import finished
from tests.shop import Open, Shop
from tests.support import eventually

WEB, PIPELINE = "Deployment/shop/prod/web", "Pipeline/shop/release"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def shop(tmp_path: Path, receiver: Receiver) -> Shop:
    """A shop that tells all of it as CDEvents."""
    found = Shop(tmp_path)
    found.declare(
        "Notification", "all", {"webhook": {"url": receiver.url, "format": "cdevents"}}, project="shop"
    )
    return found


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """(what, its type), as it came."""
    events = [json.loads(body)["data"] for _, body in receiver.got]
    return [(each["customData"]["event"], each["context"]["type"].split(".", 2)[2]) for each in events]


async def tells(receiver: Receiver, *expected: tuple[str, str]) -> None:
    """Just this, in this order."""
    await eventually(lambda: len(told(receiver)) >= len(expected), 60)
    assert told(receiver) == list(expected)


def test_a_deploy_is_held_approved_and_failed_and_well_again(shop: Shop, receiver: Receiver) -> None:
    """Each is told once, in the order in which it happened."""
    flag = shop.marks / "good"

    async def work(open_: Open) -> None:
        await tells(
            receiver,
            ("held", "steersman-deployment.held.0.1.0"),
            ("approval-wanted", "steersman-approval.requested.0.1.0"),
        )
        await commands.decide(open_.installation, ROOT, Said("approved", key=WEB))
        await eventually(lambda: ("failed", "pipelinerun.finished.0.3.0") in told(receiver), 60)
        shop.declare("Environment", "prod", {}, project="shop")
        flag.touch()
        await open_.apply()
        await eventually(lambda: told(receiver)[-1] == ("recovered", "service.deployed.0.3.0"), 60)
        whole = [json.loads(body)["data"] for _, body in receiver.got]
        assert {each["customData"]["key"] for each in whole} == {WEB}
        assert whole[-1]["subject"]["content"]["environment"] == {"id": "shop/prod"}
        kinds = [kind for kind, _ in told(receiver)]
        assert kinds[:3] == ["held", "approval-wanted", "failed"]
        assert set(kinds[2:-1]) == {"failed"}

    shop.declare("Environment", "prod", {"protected": True}, project="shop")
    spec: dict[str, Any] = {"scripts": {"deploy": {"inline": f"test -f {flag}"}}, "run_smoke": False}
    shop.deployment("web", spec)
    shop.run(work, private_addresses=True)


def test_drift_is_told_once_and_when_it_is_gone(shop: Shop, receiver: Receiver) -> None:
    """Of a Deployment that nobody puts right by itself: each check finds it, and only the first one is news."""
    standing = shop.marks / "standing"

    async def look(open_: Open) -> None:
        place = state_of.of(WEB)
        before = len(await open_.jobs(WEB))
        early = open_.installation.now().replace(year=2020)
        await open_.installation.database.write(lambda w: deployments.note(w, place, checked_at=early))
        open_.installation.wake(WEB)

        async def looked() -> bool:
            found = await open_.jobs(WEB)
            return len(found) > before and found[0].state.finished

        await eventually(looked, 60)

    async def work(open_: Open) -> None:
        made = await trigger(open_.installation, ROOT, WEB, Order())
        await finished(open_.daemon, made["number"])
        standing.unlink()
        await look(open_)
        await tells(receiver, ("drifted", "incident.detected.0.3.0"))
        await look(open_)
        standing.touch()
        await look(open_)
        await tells(
            receiver, ("drifted", "incident.detected.0.3.0"), ("recovered", "incident.resolved.0.3.0")
        )
        one, other = (json.loads(body)["data"]["subject"] for _, body in receiver.got)
        assert one["id"] == other["id"]
        assert one["content"]["service"] == {"id": "web"}

    scripts = {"deploy": {"inline": f"touch {standing}"}, "check": {"inline": f"test -f {standing}"}}
    check = {"every_seconds": 3600, "run": "check"}
    shop.deployment("web", {"scripts": scripts, "check": check, "reconcile": "manual", "run_smoke": False})
    shop.run(work, private_addresses=True)


def test_an_upgrade_is_told_from_the_first_deploy(shop: Shop, receiver: Receiver) -> None:
    """By what stood there before: another version, or the same again."""
    flag = shop.marks / "good"

    async def deploy(open_: Open) -> None:
        made = await trigger(open_.installation, ROOT, WEB, Order())
        await finished(open_.daemon, made["number"])

    async def again(open_: Open) -> None:
        for verdict in (flag.unlink, flag.touch):
            verdict()
            await deploy(open_)

    async def work(open_: Open) -> None:
        await deploy(open_)
        await again(open_)
        place = state_of.of(WEB)

        def older(write: Write) -> None:
            found = deployments.deployed_of(write.connection, place)
            deployments.note(write, place, deployed=found | {"version": "0.9"})

        await open_.installation.database.write(older)
        await again(open_)
        failed = ("failed", "pipelinerun.finished.0.3.0")
        deployed, upgraded = (("recovered", f"service.{word}.0.3.0") for word in ("deployed", "upgraded"))
        await tells(receiver, failed, deployed, failed, upgraded)

    flag.touch()
    spec: dict[str, Any] = {"scripts": {"deploy": {"inline": f"test -f {flag}"}}, "run_smoke": False}
    shop.deployment("web", spec | {"reconcile": "manual"})
    shop.run(work, private_addresses=True)


def test_a_pipeline_is_well_again(shop: Shop, receiver: Receiver) -> None:
    """The first run that passes after one that failed, and no other."""

    def declare(phases: list[dict[str, Any]]) -> None:
        shop.declare("Pipeline", "release", {"phases": phases}, project="shop")

    async def ends(open_: Open, number: int) -> None:
        await trigger(open_.installation, ROOT, PIPELINE, Order())
        query = "pipeline-run-finished"
        await eventually(lambda: _ended(open_, query, number), 60)

    async def work(open_: Open) -> None:
        await ends(open_, 1)
        declare([])
        await open_.apply()
        await ends(open_, 2)
        await ends(open_, 3)
        await tells(
            receiver,
            ("approval-wanted", "steersman-approval.requested.0.1.0"),
            ("failed", "pipelinerun.finished.0.3.0"),
            ("recovered", "pipelinerun.finished.0.3.0"),
        )

    step = {"type": "confirmation", "name": "ready?", "timeout_seconds": 1}
    declare([{"name": "p", "steps": [step]}])
    shop.run(work, private_addresses=True)


async def _ended(open_: Open, kind: str, count: int) -> bool:
    found = await open_.installation.database.read(lambda c: events.of_kinds(c, 0, [kind], 10))
    return len(found) >= count


def test_a_pipeline_asks_for_a_word_and_fails(shop: Shop, receiver: Receiver) -> None:
    """Its confirmation is asked for by name, and its end is told where it went wrong."""

    async def work(open_: Open) -> None:
        await trigger(open_.installation, ROOT, PIPELINE, Order())
        await tells(
            receiver,
            ("approval-wanted", "steersman-approval.requested.0.1.0"),
            ("failed", "pipelinerun.finished.0.3.0"),
        )
        asked, ended = (json.loads(body)["data"] for _, body in receiver.got)
        assert asked["customData"]["message"].endswith("run 1 waits for somebody to confirm ready? in p")
        assert ended["subject"]["content"]["pipelineName"] == PIPELINE
        assert "confirmation-timeout" in ended["customData"]["message"]

    steps = [{"type": "confirmation", "name": "ready?", "timeout_seconds": 1}]
    shop.declare("Pipeline", "release", {"phases": [{"name": "p", "steps": steps}]}, project="shop")
    shop.run(work, private_addresses=True)
