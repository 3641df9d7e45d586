"""What happens when a job has ended: case 25, and the other half of case 24 (builds-srht, 6 and 10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.srht.conftest import World, tasks
from tests.receiver import Receiver
from tests.support import eventually_now


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Listening."""
    found = Receiver()
    yield found
    found.close()


def hook(url: str, condition: str) -> dict[str, Any]:
    """A trigger of a request's body."""
    return {"action": "webhook", "condition": condition, "url": url}


def test_case_25_webhooks_of_the_manifest_and_of_the_body(world: World, receiver: Receiver) -> None:
    """Each once, after the status is final, the manifest's first; a receiver that answers 500 changes nothing."""
    receiver.status = 500
    text = (
        tasks("echo hi")
        + f"triggers:\n- action: webhook\n  condition: always\n  url: {receiver.url}?manifest\n"
    )
    made = world.submit(text, note="try it", tags=["a"], triggers=[hook(f"{receiver.url}?body", "success")])
    eventually_now(lambda: len(receiver.paths) == 2)
    assert [path.partition("?")[2] for path in receiver.paths] == ["manifest", "body"]
    job = world.job(made["id"])
    assert job["status"] == "success"
    for _, body in receiver.got:
        assert json.loads(body) == {name: value for name, value in job.items() if name != "tags"}
    again = world.run(tasks("true"))
    assert again["status"] == "success"
    assert len(receiver.paths) == 2


@pytest.mark.parametrize(
    ("script", "wanted"), [("true", ["success", "always"]), ("false", ["failure", "always"])]
)
def test_case_24_which_conditions_hold(
    world: World, receiver: Receiver, script: str, wanted: list[str]
) -> None:
    triggers = [hook(f"{receiver.url}?{name}", name) for name in ("success", "failure", "always")]
    made = world.submit(tasks(script), triggers=triggers)
    eventually_now(lambda: len(receiver.paths) == 2)
    assert [path.partition("?")[2] for path in receiver.paths] == wanted
    assert world.job(made["id"])["status"] in ("success", "failed")


def test_a_cancelled_job_is_a_failure_to_triggers(world: World, receiver: Receiver) -> None:
    triggers = [hook(f"{receiver.url}?failure", "failure"), hook(f"{receiver.url}?success", "success")]
    made = world.submit(tasks("true"), execute=False, triggers=triggers)
    assert world["jo"].post(f"/api/jobs/{made['id']}/cancel").json() == {}
    eventually_now(lambda: receiver.paths)
    assert [path.partition("?")[2] for path in receiver.paths] == ["failure"]
