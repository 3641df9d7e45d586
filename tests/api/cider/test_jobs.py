"""Jobs, tasks, trials and scripts as they are shown, ended and tried again (cider-ci, 4.4–4.11, 4.18, 8.3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.api.cider.conftest import PLAIN, ROA, A, Cider
from tests.api.srht.conftest import World, tasks


def test_a_job_of_a_build(admin: Cider, filled: dict[str, Any]) -> None:
    """2.1, design 13.2."""
    number = filled["three"]["number"]
    job = admin.job(number)
    assert (job["state"], job["key"], job["name"]) == ("failed", f"Build/shop/_/three#{number}", job["key"])
    assert (job["result"], job["aborted_by"], job["trigger_event"]) == (None, None, None)
    assert job["created_by"] is not None
    assert len(job["tree_id"]) == 40
    assert job["updated_at"] >= job["created_at"]
    specification = admin.get(f"{A}/job-specifications/{job['job_specification_id']}")
    assert [task["name"] for task in specification["data"]["tasks"]] == ["b", "a", "C", "last"]
    listed = admin.get(f"{A}/jobs/", job_specification_id=job["job_specification_id"])["jobs"]
    assert listed == [{"id": job["id"], "created_at": job["created_at"]}]
    assert [each["id"] for each in admin.get(f"{A}/jobs/", key=job["key"])["jobs"]] == [job["id"]]
    assert [each["id"] for each in admin.get(f"{A}/jobs/", tree_id=job["tree_id"])["jobs"]] == [job["id"]]
    assert admin.get(f"{A}/jobs/", key="Build/shop/_/three")["jobs"] == []


def test_tasks_by_name(admin: Cider, filled: dict[str, Any]) -> None:
    """Cases 20, 21; design 13.4: what a failure kept from starting is aborted there."""
    job = filled["three"]["id"]
    found = [admin.get(f"{A}/tasks/{task['id']}") for task in admin.every(f"{A}/jobs/{job}/tasks/", "tasks")]
    assert [(task["name"], task["state"]) for task in found] == [
        ("C", "passed"),
        ("a", "failed"),
        ("b", "passed"),
        ("last", "aborted"),
    ]
    by_id = {task["name"]: task["id"] for task in found}
    for state, names in (("failed", ["a"]), ("aborted", ["last"]), ("success", ["C", "b"]), ("skipped", [])):
        for path, more in ((f"{A}/jobs/{job}/tasks/", {}), (f"{A}/tasks/", {"job_id": job})):
            listed = admin.get(path, state=state, page="0", **more)["tasks"]
            assert [task["id"] for task in listed] == [by_id[name] for name in names]
    stats = admin.get(f"{A}/job/{job}/stats")
    assert stats == admin.get(f"{A}/jobs/{job}/stats")
    del stats["_json-roa"]
    assert stats == {
        "job_id": job, "total": 4, "passed": 2, "executing": 0, "pending": 0, "aborting": 0, "aborted": 1,
        "defective": 0, "failed": 1,
    }  # fmt: skip
    task = found[1]
    assert (task["load"], task["traits"], task["entity_errors"], task["job_id"]) == (1.0, [], [], job)
    specification = admin.get(f"{A}/task-specifications/{task['task_specification_id']}")
    assert specification["data"]["name"] == "a"
    listed = admin.get(f"{A}/tasks/", task_specification_id=task["task_specification_id"])["tasks"]
    assert {"id": task["id"]} in listed


def test_a_job_of_a_manifest(world: World, jo: Cider, filled: dict[str, Any]) -> None:
    """8.3: its tree holds nothing but the manifest; its scripts start one after the other."""
    number = filled["manifest"]["number"]
    job = jo.job(number)
    assert (job["key"], job["name"], job["description"], job["state"]) == (
        f"srht-{number}",
        f"srht-{number}",
        "of jo",
        "failed",
    )
    assert [each["id"] for each in jo.get(f"{A}/jobs/", key=job["key"])["jobs"]] == [job["id"]]
    (task,) = jo.every(f"{A}/jobs/{job['id']}/tasks/", "tasks")
    assert jo.get(f"{A}/tasks/{task['id']}")["name"] == "build"
    (trial,) = jo.every(f"{A}/tasks/{task['id']}/trials/", "trials")
    listed = list(jo.every(f"{A}/trials/{trial['id']}/scripts/", "scripts"))
    scripts = [jo.get(f"{A}/scripts/{script['id']}") for script in listed]
    assert [(each["key"], each["state"], each["exit_status"]) for each in scripts[1:]] == [
        ("a", "passed", 0),
        ("b", "failed", 7),
    ]
    assert "first" in scripts[1]["stdout"]
    assert "first" not in scripts[0]["stdout"] + scripts[2]["stdout"]
    assert scripts[2]["start_when"] == [{"script_key": "a", "states": ["passed"]}]
    assert (scripts[2]["stderr"], scripts[2]["issues"]) == ("", {})


def test_another_trial_by_hand(world: World, jo: Cider, filled: dict[str, Any]) -> None:
    """Cases 22, 24 and 26: in a state that is final, and above `max_trials`; the newest is shown first."""
    number = world.run(tasks("test -e /nowhere"))["id"]
    job = jo.job(number)
    (task,) = jo.every(f"{A}/jobs/{job['id']}/tasks/", "tasks")
    path = f"{A}/tasks/{task['id']}/trials/"
    before = [trial["id"] for trial in jo.every(path, "trials")]
    answer = jo.client.post(f"{path}retry")
    assert answer.status_code == 200
    made = answer.json()
    assert (made["task_id"], made["created_by"] is not None, "token" in made) == (task["id"], True, False)
    assert made["_json-roa"]["self-relation"]["href"] == f"{A}/trials/{made['id']}"
    world.ended(number)
    assert [trial["id"] for trial in jo.every(path, "trials")] == [made["id"], *before]
    found = jo.get(f"{A}/trials/{made['id']}")
    assert (found["state"], found["executor_id"] is not None) == ("failed", True)
    assert found["started_at"] <= found["finished_at"] == found["updated_at"]
    assert jo.get(path, state="passed")["trials"] == []
    assert jo.client.post(f"{path}retry", content=b"ignored").status_code == 200
    world.ended(number)
    assert Cider(world["bob"]).client.post(f"{path}retry").status_code == 403
    assert world["ana"].post(f"{A}/tasks/{filled['hidden']['id']}/trials/retry").status_code == 404


def test_abort_and_resume(world: World, jo: Cider) -> None:
    """Case 27, at both paths; what has ended stays as it is."""
    number = world.submit(tasks("sleep 60"))["id"]
    world.once(number, lambda job: job["tasks"][0]["status"] == "running")
    job = jo.job(number)["id"]
    assert jo.get(f"{A}/jobs/{job}")["state"] == "executing"
    answer = jo.client.post(f"/cider-ci/dispatcher/jobs/{job}/abort", json={"aborted_by": str(uuid4())})
    assert (answer.status_code, answer.content) == (202, b"")
    world.ended(number)
    ended = jo.get(f"{A}/jobs/{job}")
    assert ended["state"] == "aborted"
    assert jo.client.post(f"{A}/jobs/{job}/abort").status_code == 202
    (task,) = jo.every(f"{A}/jobs/{job}/tasks/", "tasks")
    trials = f"{A}/tasks/{task['id']}/trials/"
    assert len(list(jo.every(trials, "trials"))) == 1
    answer = jo.client.post(f"{A}/jobs/{job}/retry-and-resume")
    assert (answer.status_code, answer.content) == (202, b"")
    assert len(list(jo.every(trials, "trials"))) == 2
    resumed = jo.get(f"{A}/jobs/{job}")
    assert (resumed["state"] in ("pending", "executing"), resumed["resumed_by"]) == (
        True,
        ended["created_by"],
    )
    assert jo.client.post(f"{A}/jobs/{job}/abort").status_code == 202
    world.ended(number)
    assert jo.get(f"{A}/jobs/{job}")["aborted_by"] == ended["created_by"]
    for path in (f"{A}/jobs/{job}/abort", f"/cider-ci/dispatcher/jobs/{job}/retry-and-resume"):
        assert world["ana"].post(path).status_code == 403
    passed = world.run(tasks("true"))["id"]
    assert jo.client.post(f"{A}/jobs/{jo.job(passed)['id']}/retry-and-resume").status_code == 202
    assert jo.job(passed)["state"] == "passed"


def test_a_long_output(world: World, jo: Cider) -> None:
    """Its first 10 MiB, with what is no UTF-8 replaced."""
    number = world.run(tasks("head -c 11000000 /dev/zero | tr '\\0' x; printf '\\377'", "printf '\\377é'"))[
        "id"
    ]
    (task,) = jo.every(f"{A}/jobs/{jo.job(number)['id']}/tasks/", "tasks")
    (trial,) = jo.every(f"{A}/tasks/{task['id']}/trials/", "trials")
    listed = list(jo.every(f"{A}/trials/{trial['id']}/scripts/", "scripts"))
    long, short = [jo.get(f"{A}/scripts/{script['id']}")["stdout"] for script in listed[1:]]
    assert len(long) == 10 << 20
    assert short.endswith("\N{REPLACEMENT CHARACTER}é")


def test_a_long_output_comes_in_pieces(world: World, jo: Cider) -> None:
    """Nothing knows how long the whole answer is; it is the same JSON, whatever character a piece ends in."""
    command = """yes "$(printf 'n"\\\\\\t\\001é€😀\\377')" | head -n 30000"""
    number = world.run(tasks(command, "echo short"))["id"]
    (task,) = jo.every(f"{A}/jobs/{jo.job(number)['id']}/tasks/", "tasks")
    (trial,) = jo.every(f"{A}/tasks/{task['id']}/trials/", "trials")
    long, short = [each["id"] for each in jo.every(f"{A}/trials/{trial['id']}/scripts/", "scripts")][1:]
    assert "content-length" in jo.client.get(f"{A}/scripts/{short}").headers
    for accept in (ROA, PLAIN):
        answer = jo.client.get(f"{A}/scripts/{long}", headers={"accept": accept})
        assert "content-length" not in answer.headers
        assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
        found = answer.json()
        assert found["stdout"].count('n"\\\t\x01é€😀\N{REPLACEMENT CHARACTER}\n') == 30_000
        assert ("_json-roa" in found, found["id"], found["state"]) == (accept == ROA, long, "passed")
    head = jo.client.head(f"{A}/scripts/{long}")
    assert (head.status_code, head.content) == (200, b"")


def test_projects_are_declared(world: World, admin: Cider) -> None:
    """4.19, design 13.12: what would change one is refused and says where to do it."""
    path = "/cider-ci/repositories/projects/"
    for method, address in (("POST", path), ("PATCH", f"{path}{uuid4()}"), ("DELETE", f"{path}{uuid4()}")):
        answer = admin.client.request(method, address, json={"git_url": "x"})
        assert answer.status_code == 403
        assert str(world.repo.path) in answer.json()["message"]
    assert admin.client.get(f"{path}{uuid4()}").status_code == 404
