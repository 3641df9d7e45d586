"""Groups of jobs: case 32, what cannot be grouped, and who sees a group (builds-srht, 3.8 and 10)."""

from __future__ import annotations

import json
from typing import Any

from tests.api.srht.conftest import M, World, absent, refused, tasks
from tests.api.srht.test_triggers import hook, receiver
from tests.receiver import Receiver
from tests.support import eventually_now

__all__ = ["receiver"]


def held(world: World, script: str = "true") -> int:
    """A job that waits for its start."""
    number: int = world.submit(tasks(script), execute=False)["id"]
    return number


def grouped(world: World, *jobs: int, **more: Any) -> dict[str, Any]:
    """A new group of jo's."""
    answer = world["jo"].post("/api/job-group", json={"jobs": list(jobs)} | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_case_32_a_group(world: World, receiver: Receiver) -> None:
    """Started together, told of once, after both have ended; nobody else sees it, and a job is in one group only."""
    good, bad, other = held(world), held(world, "false"), held(world)
    triggers = [hook(f"{receiver.url}?{name}", name) for name in ("success", "failure", "always")]
    made = grouped(world, good, bad, execute=True, note="both", triggers=triggers)
    assert made.keys() == {"id", "note", "owner", "jobs"}
    assert (made["note"], made["owner"]) == ("both", {"canonical_name": "~jo", "name": "jo"})
    assert [job["id"] for job in made["jobs"]] == [good, bad]
    assert all(job.keys() == {"id", "status"} and job["status"] != "pending" for job in made["jobs"])
    refused(world["jo"].post("/api/job-group", json={"jobs": [other, bad]}), 400)
    assert world.job(other)["status"] == "pending"
    assert (world.ended(good)["status"], world.ended(bad)["status"]) == ("success", "failed")
    eventually_now(lambda: len(receiver.paths) == 2)
    assert [path.partition("?")[2] for path in receiver.paths] == ["failure", "always"]
    assert [job["status"] for job in json.loads(receiver.got[0][1])["jobs"]] == ["success", "failed"]
    path = f"/api/job-group/{made['id']}"
    assert world["jo"].get(path).json()["jobs"][1] == {"id": bad, "status": "failed"}
    assert world.native.get(path).status_code == 200
    for method, at in (("GET", ""), ("POST", "/start"), ("POST", "/cancel")):
        absent(world["ana"].request(method, path + at))
    assert len(receiver.paths) == 2
    assert grouped(world, other)["jobs"] == [{"id": other, "status": "pending"}]


def test_a_group_that_waits(world: World) -> None:
    """By default nothing starts; a start lets go what waits, a cancel ends the rest."""
    first, second = held(world), held(world, "sleep 600")
    made = grouped(world, first, second)
    assert [job["status"] for job in made["jobs"]] == ["pending", "pending"]
    assert world["jo"].post(f"/api/jobs/{first}/start").json() == {}
    world.ended(first)
    path = f"/api/job-group/{made['id']}"
    started = world["jo"].post(f"{path}/start").json()
    assert started["jobs"][0]["status"] == "success"
    world.once(second, lambda job: job["status"] == "running")
    assert world["jo"].post(f"{path}/cancel").status_code == 200
    assert world.ended(second)["status"] == "cancelled"
    assert world["jo"].get(path).json()["jobs"][0]["status"] == "success"


def test_what_cannot_be_grouped(world: World) -> None:
    """Jobs of others, jobs that do not wait, and what is no list of jobs; nothing changes."""
    queued, own = world.submit(M)["id"], held(world)
    strange = world.submit(M, "ana", execute=False)["id"]
    for jobs in ([own, queued], [own, strange], [own, 999_999]):
        refused(world["jo"].post("/api/job-group", json={"jobs": jobs}), 400)
    for jobs in ([], "x", [True], ["1"], [1.5], [0], None):
        refused(world["jo"].post("/api/job-group", json={"jobs": jobs}), 400, "jobs")
    refused(world["jo"].post("/api/job-group", json={}), 400, "jobs")
    refused(world["jo"].post("/api/job-group", json={"jobs": [own], "note": 1}), 400, "note")
    refused(world["jo"].post("/api/job-group", json={"jobs": [own], "execute": 1}), 400, "execute")
    triggers = [{"action": "webhook", "condition": "always"}]
    refused(
        world["jo"].post("/api/job-group", json={"jobs": [own], "triggers": triggers}), 400, "triggers[0].url"
    )
    assert grouped(world, own, note="last")["jobs"][0]["id"] == own
    for path in ("/api/job-group/abc", "/api/job-group/999999"):
        absent(world["jo"].get(path))


def test_the_page_of_a_job(world: World) -> None:
    """Where mails lead to: its tasks with their logs, for whoever may see the job; text in it stays text."""
    made = world.run(tasks("echo hi", "false"), note="<script>alert(1)</script>", tags=["a"])
    page = world["jo"].get(f"/~jo/job/{made['id']}")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert f"Job #{made['id']}: failed" in page.text
    assert made["tasks"][0]["log"] in page.text
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert world["jo"].get(f"/~ana/job/{made['id']}").status_code == 404
    private = world.submit(M, **{"access:read": []})["id"]
    assert world["ana"].get(f"/~jo/job/{private}").status_code == 404
    assert world.nobody.get(f"/~jo/job/{private}").status_code == 404
    assert world.nobody.get(f"/~jo/job/{made['id']}").status_code == 200
