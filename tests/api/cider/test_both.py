"""One job in both APIs and our own, its whole life long, with the same bytes (cider-ci, 8; builds-srht, 9 and 10)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.cider.configured import Configured, cases
from tests.api.cider.conftest import A, Cider
from tests.api.srht.conftest import FINAL, refused, tasks
from tests.support import eventually_now

__all__ = ["cases"]


class Job:
    """A job as `who` sees it in all three."""

    def __init__(self, cases: Configured, number: int, who: str) -> None:
        self.world, self.number, self.client = cases, number, cases[who]
        self.cider = Cider(self.client)
        self.id = cases.native.get(f"/reconciler/jobs/{number}").json()["id"]

    def states(self) -> tuple[str, str, str]:
        """In Cider-CI, in builds.sr.ht, in our own API; asked again if it went on meanwhile."""
        while True:
            before = self.native()["state"]
            found = (
                self.cider.get(f"{A}/jobs/{self.id}")["state"],
                self.srht()["status"],
                self.native()["state"],
            )
            if found[2] == before:
                return found

    def native(self) -> dict[str, Any]:
        """As our own API has it; the administrator asks, who sees what is private too."""
        found: dict[str, Any] = self.world.native.get(f"/reconciler/jobs/{self.number}").json()
        return found

    def srht(self) -> dict[str, Any]:
        """As builds.sr.ht shows it."""
        found: dict[str, Any] = self.client.get(f"/api/jobs/{self.number}").raise_for_status().json()
        return found

    def once(self, *wanted: str) -> None:
        """Wait for these states."""
        eventually_now(lambda: self.states() == wanted)

    def logs(self) -> list[tuple[str, str, str]]:
        """Of each script of the newest trials: what the three APIs have of its log."""
        found = []
        here = {task["name"]: task["log"] for task in self.srht()["tasks"]}
        several = len(self.native()["tasks"]) > 1
        for task in sorted(self.native()["tasks"], key=lambda task: task["name"]):
            for script in task["trials"][-1]["scripts"]:
                name = f"{task['name']}__{script['name']}" if several else script["name"]
                name = name.lower().replace(" ", "_")
                if here.get(name) is None:
                    continue
                asked = {"task": task["name"], "trial": len(task["trials"]), "script": script["name"]}
                native = self.world.native.get(f"/reconciler/jobs/{self.number}/log", params=asked)
                key = script["name"]
                stdout = self.script(task["name"], key)["stdout"]
                found.append((stdout, self.client.get(here[name]).text, native.text))
        return found

    def script(self, task: str, key: str) -> dict[str, Any]:
        """A script of the newest trial, in Cider-CI."""
        ids = self.cider.every(f"{A}/jobs/{self.id}/tasks/", "tasks")
        found = next(
            t for t in (self.cider.get(f"{A}/tasks/{each['id']}") for each in ids) if t["name"] == task
        )
        trials = [
            self.cider.get(f"{A}/trials/{each['id']}")
            for each in self.cider.every(f"{A}/tasks/{found['id']}/trials/", "trials")
        ]
        newest = max(trials, key=lambda trial: trial["created_at"])
        scripts = self.cider.every(f"{A}/trials/{newest['id']}/scripts/", "scripts")
        return next(
            s for s in (self.cider.get(f"{A}/scripts/{each['id']}") for each in scripts) if s["key"] == key
        )

    def same_bytes(self, count: int) -> None:
        """All three have the same log of each script."""
        found = self.logs()
        assert len(found) == count
        assert all(stdout == text == native for stdout, text, native in found), found


def submitted(cases: Configured, *scripts: str, **more: Any) -> Job:
    """A job of a manifest of jo's that only jo sees."""
    answer = cases.submit(tasks(*scripts), **{"access:read": []} | more)
    return Job(cases, answer["id"], "jo")


def configured(cases: Configured, key: str) -> Job:
    """A job of the project configuration, made by bob."""
    job = cases.create(key)["id"]
    numbers = {
        each["id"]: each["number"] for each in cases.native.get("/reconciler/jobs?limit=500").json()["items"]
    }
    return Job(cases, numbers[job], "bob")


def test_a_manifest_that_waits_runs_and_passes(cases: Configured) -> None:
    job = submitted(
        cases, f"until [ -e {cases.shared}/on ]; do sleep 0.05; done; echo one", "echo two", execute=False
    )
    assert job.states() == ("pending", "pending", "pending")
    assert cases["jo"].post(f"/api/jobs/{job.number}/start").json() == {}
    job.once("executing", "running", "executing")
    (cases.shared / "on").touch()
    job.once("passed", "success", "passed")
    job.same_bytes(2)


def test_a_manifest_that_is_cancelled_and_tried_again(cases: Configured) -> None:
    """Aborted through one API, tried again through the other."""
    job = submitted(cases, f"test -e {cases.shared}/again || sleep 600; echo done")
    job.once("executing", "running", "executing")
    assert job.client.post(f"{A}/jobs/{job.id}/abort").status_code == 202
    job.once("aborted", "cancelled", "aborted")
    (cases.shared / "again").touch()
    (task,) = job.cider.every(f"{A}/jobs/{job.id}/tasks/", "tasks")
    assert job.client.post(f"{A}/tasks/{task['id']}/trials/retry").status_code == 200
    job.once("passed", "success", "passed")
    job.same_bytes(1)
    assert len(list(job.cider.every(f"{A}/tasks/{task['id']}/trials/", "trials"))) == 2


def test_a_configuration_that_is_queued_cancelled_and_resumed(cases: Configured) -> None:
    """Cancelled through builds.sr.ht, resumed here."""
    job = configured(cases, "long")
    job.once("executing", "running", "executing")
    eventually_now((cases.shared / "trapped").exists)
    assert job.client.post(f"/api/jobs/{job.number}/cancel").json() == {}
    assert job.states() == ("aborting", "running", "aborting")
    job.once("aborted", "cancelled", "aborted")
    (cases.shared / "resumed").touch()
    assert job.client.post(f"{A}/jobs/{job.id}/retry-and-resume").status_code == 202
    job.once("passed", "success", "passed")
    job.same_bytes(2)


def test_a_script_that_runs_out_of_time(cases: Configured) -> None:
    job = configured(cases, "slow")
    job.once("defective", "timeout", "defective")
    job.same_bytes(1)


def test_srht_case_33_the_same_manifest_twice(cases: Configured) -> None:
    """Equal trees, and keys of their own."""
    jobs = [submitted(cases, "echo same", execute=False) for _ in range(2)]
    assert jobs[0].number != jobs[1].number
    found = [job.cider.get(f"{A}/jobs/{job.id}") for job in jobs]
    assert found[0]["tree_id"] == found[1]["tree_id"]
    assert [each["key"] for each in found] == [f"srht-{job.number}" for job in jobs]
    assert found[0]["job_specification_id"] != found[1]["job_specification_id"]
    (cases.web.path / ".build.yml").write_text(tasks("echo same"))
    blob = cases.web.git("hash-object", "-w", ".build.yml")
    (cases.web.path / ".build.yml").unlink()
    (cases.web.path / "entry").write_text(f"100644 blob {blob}\t.build.yml\n")
    tree = cases.web.git("-c", "alias.made=!git mktree < entry", "made")
    (cases.web.path / "entry").unlink()
    assert found[0]["tree_id"] == tree


def test_srht_case_34_a_job_tried_again_over_there(cases: Configured) -> None:
    """A failed job goes back to the queue and ends again; its log is that of the new trial."""
    job = submitted(cases, f"echo x >> {cases.shared}/tries; wc -l < {cases.shared}/tries; false")
    job.once("failed", "failed", "failed")
    first = cases.log(job.srht()["tasks"][0]["log"])
    (task,) = job.cider.every(f"{A}/jobs/{job.id}/tasks/", "tasks")
    answer = job.client.post(f"{A}/tasks/{task['id']}/trials/retry")
    assert answer.status_code == 200
    eventually_now(lambda: job.srht()["status"] in ("queued", "running", *FINAL))
    job.once("failed", "failed", "failed")
    eventually_now(lambda: cases.log(job.srht()["tasks"][0]["log"]) != first)
    second = cases.log(job.srht()["tasks"][0]["log"])
    assert ("\n1\n" in first, "\n2\n" in second) == (True, True), (first, second)
    job.same_bytes(1)


def test_srht_case_35_a_job_of_two_tasks(cases: Configured) -> None:
    """Its scripts under names that a manifest could have; it has a manifest, and cannot be started."""
    job = configured(cases, "two_tasks")
    job.once("passed", "success", "passed")
    found = job.srht()
    assert [task["name"] for task in found["tasks"]] == ["build_it__main", "build_it__and_so", "test__main"]
    assert {task["status"] for task in found["tasks"]} == {"success"}
    assert (found["owner"]["name"], found["tags"], found["note"]) == ("bob", "shop/two_tasks", None)
    assert job.number in [each["id"] for each in cases["bob"].get("/api/jobs").json()["results"]]
    assert job.number not in [each["id"] for each in cases["ana"].get("/api/jobs").json()["results"]]
    text = job.client.get(f"/api/jobs/{job.number}/manifest").text
    assert text.startswith("image: cider-ci\n")
    again = cases.submit(text, "bob", execute=False)
    assert [task["name"] for task in again["tasks"]] == [task["name"] for task in found["tasks"]]
    refused(job.client.post(f"/api/jobs/{job.number}/start"), 400)


def test_tags_and_note_of_a_configured_job(cases: Configured) -> None:
    """The project and the key, in letters that a tag may have; the note is its description."""
    job = configured(cases, "Ünit: all & more")
    found = job.srht()
    assert (found["tags"], found["note"]) == ("shop/_nit:_all_more", "Every one of them.")
    assert job.cider.get(f"{A}/jobs/{job.id}")["description"] == found["note"]
    made = cases["bob"].post("/reconciler/trigger", json={"key": "Build/shop/_/two"}).json()["number"]
    assert cases["bob"].get(f"/api/jobs/{made}").json()["tags"] is None


@pytest.mark.parametrize("who", ["lee", "ana"])
def test_what_is_private_is_nowhere(cases: Configured, who: str) -> None:
    """Neither through one API nor through the other."""
    job = submitted(cases, "true")
    client = cases[who]
    for path in (
        f"/api/jobs/{job.number}",
        f"{A}/jobs/{job.id}",
        f"{A}/jobs/{job.id}/stats",
        f"{A}/jobs/{job.id}/tasks/",
    ):
        assert client.get(path).status_code == 404, path
    (task,) = job.cider.every(f"{A}/jobs/{job.id}/tasks/", "tasks")
    assert client.get(f"{A}/tasks/{task['id']}").status_code == 404
    assert client.post(f"{A}/tasks/{task['id']}/trials/retry").status_code == 404
    specification = job.cider.get(f"{A}/jobs/{job.id}")["job_specification_id"]
    assert client.get(f"{A}/job-specifications/{specification}").status_code == 404


def test_a_job_that_waits_for_its_start_is_not_started_by_a_retry(cases: Configured) -> None:
    """Neither by a trial nor by a resume; one that was cancelled meanwhile begins by them, and ends."""
    job = submitted(cases, "true", execute=False)
    (task,) = job.cider.every(f"{A}/jobs/{job.id}/tasks/", "tasks")
    retry, resume = f"{A}/tasks/{task['id']}/trials/retry", f"{A}/jobs/{job.id}/retry-and-resume"
    for path in (retry, resume):
        answer = job.client.post(path)
        assert answer.status_code == 422
        assert "start it first" in answer.json()["message"]
    assert job.states() == ("pending", "pending", "pending")
    assert job.client.post(f"/api/jobs/{job.number}/cancel").json() == {}
    job.once("aborted", "cancelled", "aborted")
    assert job.client.post(retry).status_code == 200
    job.once("passed", "success", "passed")


def test_what_only_the_submitter_is_to_know(cases: Configured) -> None:
    """Whom a job tells of its end is in no answer."""
    hook = {"action": "webhook", "condition": "failure", "url": "https://hooks.example/T0KEN-SECRET"}
    made = cases.submit(tasks("true"), triggers=[hook], secrets=False)
    job = Job(cases, made["id"], "ana")
    found = job.cider.get(f"{A}/jobs/{job.id}")
    answer = job.client.get(f"{A}/job-specifications/{found['job_specification_id']}")
    assert answer.status_code == 200
    assert "T0KEN-SECRET" not in answer.text
    assert answer.json()["data"]["manifest"].keys() == {"text", "artifacts"}


def test_a_faulty_job_says_why(cases: Configured) -> None:
    """In the job itself, and on its page."""
    made = cases.create("misspelt")
    (issue,) = made["issues"].values()
    assert "aggregate_state" in issue["description"]
    job = next(j for j in cases.native.get("/reconciler/jobs").json()["items"] if j["id"] == made["id"])
    page = cases["bob"].get(f"/~bob/job/{job['number']}")
    assert page.status_code == 200
    assert "aggregate_state" in page.text
