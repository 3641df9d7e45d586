"""Notifications over HTTP and on the command line, and of a daemon that is killed while it tells."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api, build, steersman
from tests.api.test_access import is_problem
from tests.receiver import Receiver
from tests.support import PROJECT, SpecRepository, eventually_now, process, start, stop

ALERTS = "Notification/shop/alerts"
SETTINGS = {"STEERSMAN_ALLOW_UNSANDBOXED": "1", "STEERSMAN_PRIVATE_ADDRESSES": "1"}


def files(url: str) -> dict[str, str]:
    """A project that tells a receiver what happens, and people with roles there."""
    people = "".join(
        f"---\napiVersion: steersman/v1\nkind: User\nmetadata: {{name: {name}}}\n"
        f"---\napiVersion: steersman/v1\nkind: RoleBinding\nmetadata: {{name: {name}, project: {project}}}\n"
        f"spec: {{role: {role}, subjects: [{{kind: User, name: {name}}}]}}\n"
        for name, role, project in (
            ("wim", "write", "shop"),
            ("rita", "read", "shop"),
            ("olga", "owner", "far"),
        )
    )
    far = "---\napiVersion: steersman/v1\nkind: Project\nmetadata: {name: far}\n"
    alerts = (
        "apiVersion: steersman/v1\nkind: Notification\nmetadata: {name: alerts, project: shop}\n"
        f"spec: {{webhook: {{url: '{url}'}}}}\n"
    )
    work = build("fails", "[{name: main, run: exit 3}]", "  concurrency: allow\n")
    return {"project.yaml": PROJECT + far + people, "work.yaml": work, "alerts.yaml": alerts}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def team(tmp_path: Path, receiver: Receiver) -> Iterator[Api]:
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(files(receiver.url))
    with process(repo.path, tmp_path / "data", **SETTINGS) as running, running.client() as client:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        yield Api(running, repo, client)


def test_by_hand(team: Api, receiver: Receiver) -> None:
    """What waits and why is seen by who sees the project; a test is sent by who may write there."""

    def item() -> dict[str, Any]:
        (found,) = team.get("/reconciler/notifications")["items"]
        return dict(found)

    def as_(name: str, method: str, path: str) -> httpx.Response:
        token = team.token("owner", subject=f"User/{name}")["token"]
        headers = {"Authorization": f"Bearer {token}"}
        return team.client.request(method, f"/reconciler/{path}", headers=headers)

    done = team.cli("notifications")
    assert "idle" in done.stdout
    receiver.status = 418
    team.run("fails")
    eventually_now(lambda: item()["state"] == "failing")
    shown = item()
    assert shown["to"] == [receiver.url]
    assert (shown["waiting"], shown["delivered"], shown["where"]) == (1, 0, "alerts.yaml:1")
    assert shown["error"] == f"{receiver.url} answered 418 I'm a Teapot"
    assert shown["next_try"] > shown["failing_since"]
    done = team.cli("notifications")
    assert "answered 418" in done.stdout
    assert json.loads(team.cli("notifications", "--output", "json").stdout)["items"][0]["state"] == "failing"
    assert "NotDelivered" in team.cli("why", ALERTS).stdout
    done = team.cli("notifications", "--test", ALERTS)
    assert (done.returncode, done.stdout) == (
        2,
        f"webhook: not taken: {receiver.url} answered 418 I'm a Teapot\n",
    )

    assert as_("rita", "GET", "notifications").json()["items"] != []
    assert as_("olga", "GET", "notifications").json()["items"] == []
    path = f"notifications/test/{ALERTS}"
    assert [as_(name, "POST", path).status_code for name in ("wim", "rita", "olga")] == [200, 403, 404]
    answer = team.client.post("/reconciler/notifications/test/Build/shop/_/fails")
    assert (answer.status_code, is_problem(answer)["title"]) == (422, "NotANotification")
    answer = team.client.post("/reconciler/notifications/test/nonsense")
    assert (answer.status_code, is_problem(answer)["title"]) == (404, "NoSuchResource")

    receiver.status = 200
    done = team.cli("notifications", "--test", ALERTS)
    assert (done.returncode, done.stdout) == (0, f"webhook: taken: {receiver.url} answered 200 OK\n")
    eventually_now(lambda: item()["delivered"] == 1)
    assert {key: item()[key] for key in ("state", "waiting", "error", "next_try")} == {
        "state": "delivered", "waiting": 0, "error": None, "next_try": None,
    }  # fmt: skip
    kinds = [event["kind"] for event in team.get("/reconciler/events", limit=500)["items"]]
    assert "notification-tested" in kinds
    done = steersman("notifications", STEERSMAN_SERVER=team.url, STEERSMAN_TOKEN="wrong")
    assert done.returncode == 1


def test_a_daemon_killed_while_it_tells_tells_it_again_under_the_same_id(
    tmp_path: Path, receiver: Receiver
) -> None:
    """It was taken, but the answer never came; the next daemon goes on with just this one, and in order."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(files(receiver.url))
    data = tmp_path / "data"
    answer, asked = threading.Event(), threading.Event()

    def hold(_path: str) -> None:
        asked.set()
        answer.wait(60)

    receiver.before = hold
    running = start(repo.path, data, **SETTINGS)
    try:
        with running.client() as client:
            running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
            first = Api(running, repo, client)
            numbers = [first.run("fails")["number"], first.run("fails")["number"]]
            assert asked.wait(60)
        running.kill()
        receiver.before = lambda _path: None
        answer.set()
        running = start(repo.path, data, **SETTINGS)
        running.wait_for(lambda c: c.get("/reconciler/notifications").json()["items"][0]["delivered"] == 2)
    finally:
        answer.set()
        stop(running)
    told = [(headers["webhook-id"], json.loads(body)["data"]["number"]) for headers, body in receiver.got]
    assert told[0] == told[1]
    assert [number for _, number in dict.fromkeys(told)] == numbers
