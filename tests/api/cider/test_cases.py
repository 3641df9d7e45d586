"""The numbered edge cases of the contract over HTTP against a daemon of its own (cider-ci, 9): jobs and their trials.

Cases 1–5, 7, 13, 15, 19, 25, 26, 33 and 35 are asked of the same daemon; what answers look like in all forms is
in test_protocol.py, hyperlinks in test_walk.py, attachments by hand in test_storage.py.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.cider.configured import Configured, cases, specifications
from tests.api.cider.conftest import PLAIN, ROA, A, check_roa, expand
from tests.api.srht.conftest import SETTINGS, M, World
from tests.support import SpecRepository, eventually_now, process

__all__ = ["cases"]


def message_of(answer: httpx.Response, status: int) -> str:
    """The text of an error."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0].endswith("json")
    found: str = answer.json()["message"]
    assert found
    return found


def form_of(cases: Configured, accept: str | None, path: str = f"{A}/") -> dict[str, Any]:
    """An answer's media type and body, as one value."""
    request = cases["bob"].build_request("GET", path, headers={} if accept is None else {"Accept": accept})
    if accept is None:
        del request.headers["accept"]
    answer = cases["bob"].send(request)
    assert answer.status_code == 200
    assert "Accept" in answer.headers["vary"]
    return {"type": answer.headers["content-type"].partition(";")[0]} | answer.json()


def test_case_01_no_credentials(cases: Configured) -> None:
    answer = cases.nobody.get(f"{A}/")
    message_of(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_case_02_any_other_type(cases: Configured) -> None:
    found = form_of(cases, "text/html")
    assert found["type"] == ROA
    assert found["_json-roa"]["version"] == found["_json-roa"]["json-roa_version"] == "1.0.0"
    check_roa(found["_json-roa"])


def test_case_03_plain_json(cases: Configured) -> None:
    found = form_of(cases, PLAIN)
    assert found["type"] == PLAIN
    assert "_json-roa" not in found


def test_case_04_quality_of_a_wider_range(cases: Configured) -> None:
    assert form_of(cases, "application/json;q=0.9, */*;q=0.8")["type"] == ROA


def test_case_05_not_acceptable(cases: Configured) -> None:
    assert form_of(cases, f"{ROA};q=0, application/json")["type"] == PLAIN


def test_case_06_pages(tmp_path: Path) -> None:
    """23 jobs on three pages, and nothing on the fourth."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(specifications(tmp_path, tmp_path, tmp_path) | {"repositories.yaml": ""})
    with process(repo.path, tmp_path / "data", **SETTINGS) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"])
        with contextlib.closing(World(running, repo)) as world:
            made = [world.submit(M, execute=False)["id"] for _ in range(23)]
            newest_first = [
                world.native.get(f"/reconciler/jobs/{number}").json()["id"] for number in reversed(made)
            ]
            seen = []
            for page in range(4):
                found = world["jo"].get(f"{A}/jobs/", params={"page": page}).json()
                check_roa(found["_json-roa"])
                collection = found["_json-roa"]["collection"]
                first = 10 * page
                expected = newest_first[first : first + 10]
                assert [job["id"] for job in found["jobs"]] == expected
                assert list(collection["relations"]) == [str(first + n + 1) for n in range(len(expected))]
                assert ("next" in collection) == (page < 2)
                if page < 2:
                    assert f"page={page + 1}" in collection["next"]["href"]
                seen += expected
            assert seen == newest_first
            assert found["jobs"] == []
            assert found["_json-roa"]["collection"]["relations"] == {}


@pytest.mark.parametrize("page", ["-1", "x"])
def test_case_07_no_page(cases: Configured, page: str) -> None:
    message_of(cases["bob"].get(f"{A}/jobs/", params={"page": page}), 422)


def test_case_08_the_next_page_keeps_the_filters(cases: Configured) -> None:
    """More than ten trees have a passed job `unit`."""
    web = cases.web
    web.git("checkout", "-q", "-b", "many", "master")
    commits = [web.commit({"many": str(n)}) for n in range(11)]
    web.git("checkout", "-q", "master")
    trees = [cases.tree(commit) for commit in commits]
    eventually_now(lambda: cases["bob"].get(f"{A}/commits/{commits[-1]}").status_code == 200)
    for job in [cases.create("unit", tree)["id"] for tree in trees]:
        cases.final(job)
    found = cases.bob.get(f"{A}/jobs/", state="passed", key="unit", page=0)
    href = found["_json-roa"]["collection"]["next"]["href"]
    assert "state=passed" in href
    assert "key=unit" in href
    assert "page=1" in href
    assert "{" not in href
    following = cases.bob.get(href)
    assert {job["id"] for job in following["jobs"]}.isdisjoint(job["id"] for job in found["jobs"])
    assert following["jobs"]


@pytest.fixture(scope="module")
def history(cases: Configured) -> dict[str, str]:
    """The job `unit` of each of the three trees."""
    return {name: cases.create("unit", cases.tree(name))["id"] for name in ("A", "next", "master")}


def test_case_09_branches_in_any_case(cases: Configured, history: dict[str, str]) -> None:
    assert cases.listed(branch_head="MASTER") == cases.listed(branch_head="master")
    assert history["master"] in cases.listed(branch_head="MASTER")
    assert cases.listed(branch_head="mast") == set()


def test_case_10_heads_and_descendants(cases: Configured, history: dict[str, str]) -> None:
    """The head itself and what comes after it, by one and the same commit."""

    def units(**params: str) -> set[str]:
        return cases.listed(key="unit", **params) & set(history.values())

    assert units(branch_descendants="next") == {history["next"], history["master"]}
    assert units(branch_descendants="next", branch_head="master") == {history["master"]}
    assert cases.listed(branch_descendants="master", branch_head="next") == set()


def test_case_11_two_branches_with_one_tree(cases: Configured, history: dict[str, str]) -> None:
    for branch in ("master", "copy"):
        found = [job["id"] for job in cases.bob.every(f"{A}/jobs/", "jobs", branch_head=branch, key="unit")]
        assert found == [history["master"]]


def test_case_12_a_branch_of_another_repository(cases: Configured) -> None:
    job = cases.create("unit", cases.tree(of=cases.other))["id"]
    assert cases.listed(branch_head="dev") >= {job}
    assert cases.listed(branch_head="dev", repository_url=str(cases.other.path)) >= {job}
    assert cases.listed(branch_head="dev", repository_url=str(cases.web.path)) == set()


def test_case_13_states_and_ids_that_are_none(cases: Configured) -> None:
    assert cases.listed(state="nonsense") == set()
    cases.final(cases.create("also")["id"])
    passed = cases.listed(state="passed")
    assert passed
    assert cases.listed(state="success") == passed
    assert cases.listed(job_specification_id="zzz") == set()


def test_case_14_one_job_of_each_key(cases: Configured) -> None:
    """Also when ten ask at once."""
    made = cases.create("bodies")
    assert (made["state"], made["key"], made["tree_id"]) == ("pending", "bodies", cases.tree())
    assert made.keys() >= {"id", "name", "priority", "result", "created_by", "trigger_event"}
    message_of(cases.ask(cases.tree(), "bodies"), 422)
    assert cases.listed(key="bodies") == {made["id"]}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: cases.ask(cases.tree(), "ten").status_code, range(10)))
    assert sorted(answers) == [201, *[422] * 9]
    assert len(cases.listed(key="ten")) == 1


def test_case_15_bodies_that_make_no_job(cases: Configured) -> None:
    tree = cases.tree("next")
    for content in (
        "{}",
        "[]",
        f'{{"tree_id":"{tree}"}}',
        f'{{"tree_id":"{tree}","key":"unit","x":1}}',
        "not json",
    ):
        answer = cases["bob"].post(
            f"{A}/jobs/create", content=content, headers={"Content-Type": "application/json"}
        )
        assert message_of(answer, 422) == answer.json()["error"]


def test_case_16_unknown_keys_and_trees(cases: Configured) -> None:
    assert "nonsense" in message_of(cases.ask(cases.tree(), "nonsense"), 422)
    assert "no repository" in message_of(cases.ask("0123456789" * 4, "unit"), 422)


def test_case_17_no_tasks(cases: Configured) -> None:
    job = cases.run_job("empty", seconds=10)
    assert job["state"] == "passed"
    stats = cases.bob.get(f"{A}/jobs/{job['id']}/stats")
    assert {value for name, value in stats.items() if name not in ("job_id", "_json-roa")} == {0}
    found = cases.bob.get(f"{A}/job-specifications/{job['job_specification_id']}")
    assert found["data"]["issues"][0]["type"] == "warning"


def test_case_18_a_faulty_job(cases: Configured) -> None:
    job = cases.run_job("misspelt", seconds=10)
    assert job["state"] == "defective"
    assert cases.tasks_of(job["id"]) == {}
    found = cases.bob.get(f"{A}/job-specifications/{job['job_specification_id']}")
    assert "aggregate_state" in found["data"]["issues"][0]["description"]


def test_case_19_ids_of_nothing(cases: Configured) -> None:
    for path in (f"jobs/{uuid4()}", "jobs/abc", "trials/abc"):
        message_of(cases["bob"].get(f"{A}/{path}"), 404)


def test_case_20_stats(cases: Configured, sorted_job: str) -> None:
    first, second = (cases.bob.get(f"{A}/{word}/{sorted_job}/stats") for word in ("job", "jobs"))
    assert {k: v for k, v in first.items() if k != "_json-roa"} == {
        k: v for k, v in second.items() if k != "_json-roa"
    }
    assert (first["passed"], first["failed"]) == (2, 1)
    states = set(first) - {"job_id", "total", "_json-roa"}
    assert states == {"pending", "executing", "aborting", "passed", "failed", "aborted", "defective"}
    assert first["total"] == sum(first[state] for state in states) == 3


@pytest.fixture(scope="module")
def sorted_job(cases: Configured) -> str:
    """Three tasks, one of which fails."""
    job = cases.run_job("sorted")
    assert job["state"] == "failed"
    found: str = job["id"]
    return found


def test_case_21_tasks_by_name(cases: Configured, sorted_job: str) -> None:
    names = {task["id"]: name for name, task in cases.tasks_of(sorted_job).items()}
    listed = [names[each["id"]] for each in cases.bob.every(f"{A}/jobs/{sorted_job}/tasks/", "tasks")]
    assert listed == ["C", "a", "b"]
    failed = cases.bob.get(f"{A}/jobs/{sorted_job}/tasks/", state="failed", page=0)["tasks"]
    assert [names[each["id"]] for each in failed] == ["a"]


def test_case_22_a_third_trial(cases: Configured) -> None:
    """Two by default; one more by hand, which decides."""
    job = cases.run_job("flaky")
    task, trials = cases.only(job["id"])
    assert (job["state"], task["state"], [trial["state"] for trial in trials]) == (
        "failed",
        "failed",
        ["failed"] * 2,
    )
    answer = cases["bob"].post(f"{A}/tasks/{task['id']}/trials/retry")
    assert answer.status_code == 200
    assert answer.json()["created_by"] is not None
    assert cases.bob.get(f"{A}/tasks/{task['id']}")["state"] != "failed"
    assert cases.final(job["id"])["state"] == "passed"
    task, trials = cases.only(job["id"])
    assert task["state"] == "passed"
    assert sorted(trial["state"] for trial in trials) == ["failed", "failed", "passed"]
    assert answer.json()["id"] == next(trial["id"] for trial in trials if trial["state"] == "passed")


def test_case_23_the_last_one_decides(cases: Configured) -> None:
    job = cases.run_job("last")
    task, trials = cases.only(job["id"])
    assert (task["state"], len(trials)) == ("passed", 2)
    assert cases["bob"].post(f"{A}/tasks/{task['id']}/trials/retry").status_code == 200
    path = f"{A}/tasks/{task['id']}"
    assert cases.wait(path, lambda found: found["state"] in ("passed", "failed"))["state"] == "failed"
    assert [trial["state"] for trial in cases.trials_of(task["id"])] == ["failed", "passed", "failed"]


def test_case_24_trials_that_changed_last_come_first(cases: Configured) -> None:
    """Two run side by side; the one that is listed behind ends, and comes first."""
    job = cases.create("eager")["id"]
    (task,) = cases.tasks_of(job).values()

    def started() -> list[tuple[str, str]]:
        """Both trials in their order: the id, and what it has printed."""
        found = []
        for trial in cases.trials_of(task["id"]):
            texts = [script["stdout"].strip() for script in cases.scripts_of(trial["id"]).values()]
            found.append((trial["id"], "".join(texts)))
        return found if len(found) == 2 and all(text.startswith("n=") for _, text in found) else []

    found = eventually_now(started)
    before, (first, second) = [trial for trial, _ in found], [text for _, text in found]
    (cases.shared / f"go{second.removeprefix('n=')}").touch()
    eventually_now(lambda: [trial["id"] for trial in cases.trials_of(task["id"])] == before[::-1])
    eventually_now(lambda: cases.trials_of(task["id"])[0]["state"] == "failed")
    newest, older = cases.trials_of(task["id"])
    assert (newest["id"], newest["state"], older["state"]) == (before[1], "failed", "executing")
    assert newest["updated_at"] >= older["updated_at"]
    (cases.shared / f"go{first.removeprefix('n=')}").touch()
    assert cases.final(job)["state"] == "failed"
    assert [trial["id"] for trial in cases.trials_of(task["id"])] == before


def test_case_25_no_task_and_no_method(cases: Configured, sorted_job: str) -> None:
    message_of(cases["bob"].post(f"{A}/tasks/{uuid4()}/trials/retry"), 404)
    task = cases.tasks_of(sorted_job)["b"]["id"]
    answer = cases["bob"].get(f"{A}/tasks/{task}/trials/retry")
    message_of(answer, 405)
    assert "POST" in answer.headers["allow"]


def test_case_26_no_token_of_a_trial(cases: Configured, sorted_job: str) -> None:
    (trial,) = cases.trials_of(cases.tasks_of(sorted_job)["b"]["id"])
    for accept in (ROA, PLAIN):
        answer = cases["bob"].get(f"{A}/trials/{trial['id']}", headers={"Accept": accept})
        assert "token" not in answer.json()
        assert "stm_run_" not in answer.text


def test_case_27_abort_and_resume(cases: Configured) -> None:
    """What waits is aborted at once, what runs when it has ended; then new trials, which pass."""
    job = cases.create("long")["id"]

    def states() -> list[str]:
        return sorted(
            t["state"] for task in cases.tasks_of(job).values() for t in cases.trials_of(task["id"])
        )

    eventually_now(lambda: states() == ["executing", "pending"])
    eventually_now((cases.shared / "trapped").exists)
    answer = cases["bob"].post(f"/cider-ci/dispatcher/jobs/{job}/abort")
    assert (answer.status_code, answer.content) == (202, b"")
    assert states() == ["aborted", "aborting"]
    assert cases.bob.get(f"{A}/jobs/{job}")["state"] == "aborting"
    found = cases.final(job)
    assert (found["state"], states()) == ("aborted", ["aborted"] * 2)
    assert found["aborted_by"] is not None
    assert found["aborted_at"] is not None
    assert cases["bob"].post(f"/cider-ci/dispatcher/jobs/{job}/abort").status_code == 202
    assert cases.bob.get(f"{A}/jobs/{job}")["updated_at"] == found["updated_at"]
    (cases.shared / "resumed").touch()
    answer = cases["bob"].post(f"/cider-ci/dispatcher/jobs/{job}/retry-and-resume")
    assert (answer.status_code, answer.content) == (202, b"")
    found = cases.wait(f"{A}/jobs/{job}", lambda found: found["state"] == "passed")
    assert found["resumed_by"] is not None
    assert states() == ["aborted", "aborted", "passed", "passed"]
    assert cases["bob"].post(f"/cider-ci/dispatcher/jobs/{job}/retry-and-resume").status_code == 202
    assert len(states()) == 4
    for word in ("abort", "retry-and-resume"):
        assert cases["bob"].post(f"/cider-ci/dispatcher/jobs/{uuid4()}/{word}").status_code in (404, 422)


def test_case_28_a_time_limit(cases: Configured) -> None:
    job = cases.run_job("slow")
    task, trials = cases.only(job["id"])
    assert (job["state"], task["state"]) == ("defective", "defective")
    assert [trial["state"] for trial in trials] == ["defective"] * 2
    (script,) = cases.scripts_of(trials[0]["id"]).values()
    assert script["state"] == "defective"
    (issue,) = script["issues"].values()
    assert issue.keys() >= {"title", "description", "type", "created_at"}
    assert "time" in f"{issue['title']} {issue['description']}".lower()


def test_case_29_a_script_that_never_could_start(cases: Configured) -> None:
    job = cases.run_job("skipped")
    _, trials = cases.only(job["id"])
    assert {trial["state"] for trial in trials} == {"defective"}
    scripts = cases.scripts_of(trials[0]["id"])
    assert (scripts["main"]["state"], scripts["never"]["state"]) == ("passed", "skipped")
    job = cases.run_job("ignored")
    assert job["state"] == "passed"
    _, (trial,) = cases.only(job["id"])
    assert cases.scripts_of(trial["id"])["never"]["state"] == "skipped"


@pytest.fixture(scope="module")
def kept_job(cases: Configured) -> str:
    """It keeps a file of its trial and one of its tree."""
    job = cases.run_job("kept")
    assert job["state"] == "passed"
    found: str = job["id"]
    return found


@pytest.mark.parametrize("kind", ["trial", "tree"])
def test_case_30_an_attachment(cases: Configured, kept_job: str, kind: str) -> None:
    _, (trial,) = cases.only(kept_job)
    owner, index = (
        (trial["id"], f"{A}/trials/{trial['id']}/trial-attachments/")
        if kind == "trial"
        else (cases.tree(), f"{A}/jobs/{kept_job}/attachments/")
    )
    path = f"/cider-ci/storage/{kind}-attachments/{owner}/a/b%20c.txt"
    bob = cases["bob"]
    assert bob.put(path, content=b"first", headers={"Content-Type": "text/x-demo"}).status_code == 204

    def found() -> dict[str, Any]:
        ids = [each["id"] for each in cases.bob.every(index, f"{kind}_attachments")]
        all_of_them = [cases.bob.get(f"{A}/{kind}-attachments/{each}") for each in ids]
        return next(each for each in all_of_them if each["path"] == "a/b c.txt")

    assert (found()["content_type"], found()["content_length"]) == ("text/x-demo", "5")
    answer = bob.get(path)
    assert (answer.content, answer.headers["content-type"]) == (b"first", "text/x-demo")
    before = found()["id"]
    assert bob.put(path, content=b"second").status_code == 204
    assert (bob.get(path).content, found()["content_length"]) == (b"second", "6")
    assert found()["id"] != before
    assert bob.delete(path).status_code == 204
    message_of(bob.get(path), 404)
    message_of(bob.delete(path), 404)


def test_case_31_attachments_of_a_tree(cases: Configured, kept_job: str) -> None:
    """What scripts left is there with its type; all jobs of a tree show the same, by path."""
    put = cases["bob"].put(f"/cider-ci/storage/tree-attachments/{cases.tree()}/a%20first", content=b"1")
    assert put.status_code == 204
    lists = [
        [
            (each["id"], each["path"])
            for each in cases.bob.every(f"{A}/jobs/{job}/{word}/", "tree_attachments")
        ]
        for job in (kept_job, cases.create("environment")["id"])
        for word in ("attachments", "tree-attachments")
    ]
    assert all(each == lists[0] for each in lists)
    paths = [path for _, path in lists[0]]
    assert paths == sorted(paths)
    assert {"a first", "shared.txt"} <= set(paths)
    shared = cases.bob.get(f"{A}/tree-attachments/{dict(map(reversed, lists[0]))['shared.txt']}")  # type: ignore[arg-type]
    assert (shared["content_type"], shared["content_length"]) == ("text/x-shared", "6")


def test_case_32_from_the_root_to_the_bytes(cases: Configured, kept_job: str) -> None:
    """Nothing is known but the root."""

    def follow(found: dict[str, Any], name: str, **values: str) -> dict[str, Any]:
        return cases.bob.get(expand(found["_json-roa"]["relations"][name]["href"], **values))

    def members(found: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            cases.bob.get(each["href"]) for each in found["_json-roa"]["collection"]["relations"].values()
        ]

    jobs = follow(cases.bob.get(f"{A}/"), "jobs", key="kept", tree_id=cases.tree())
    (job,) = members(jobs)
    assert job["id"] == kept_job
    (task,) = members(follow(job, "tasks"))
    (trial,) = members(follow(task, "trials"))
    assert (trial["result"], task["result"], job["result"]) == ({"score": 7},) * 3
    (script,) = members(follow(trial, "scripts"))
    assert script["state"] == "passed"
    (file,) = [
        each for each in members(follow(trial, "trial-attachments")) if each["path"].startswith("out/")
    ]
    stream = file["_json-roa"]["relations"]["trial-attachment-data-stream"]["href"]
    answer = cases["bob"].get(stream)
    assert (answer.content, answer.headers["content-type"]) == (b"whole report", "text/xml")
    assert (file["content_length"], file["content_type"]) == ("12", "text/xml")


def test_case_33_templates_name_every_parameter(cases: Configured) -> None:
    relations = cases.bob.get(f"{A}/")["_json-roa"]["relations"]
    wanted = "repository_url branch_head branch_descendants key state tree_id job_specification_id page"
    for name, parameters in (
        ("jobs", wanted),
        ("tasks", "job_id state task_specification_id page"),
        ("commits", "repository_url branch_head branch_descendants tree_id page"),
    ):
        expand(relations[name]["href"], **dict.fromkeys(parameters.split(), "1"))
        with pytest.raises(AssertionError, match="foo"):
            expand(relations[name]["href"], foo="1")


def test_case_34_a_private_job_of_builds_sr_ht(cases: Configured) -> None:
    number = cases.submit(M, **{"access:read": []})["id"]
    job = cases.native.get(f"/reconciler/jobs/{number}").json()["id"]
    assert job not in cases.listed()
    message_of(cases["bob"].get(f"{A}/jobs/{job}"), 404)
    found = cases["jo"].get(f"{A}/jobs/{job}")
    assert (found.status_code, found.json()["key"]) == (200, f"srht-{number}")
    assert job in [each["id"] for each in cases["jo"].get(f"{A}/jobs/").json()["jobs"]]


def test_case_35_head_and_options(cases: Configured) -> None:
    get, head = (cases["bob"].request(method, f"{A}/") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    answer = cases.nobody.options(
        f"{A}/jobs/", headers={"Origin": "https://x.example", "Access-Control-Request-Method": "GET"}
    )
    assert 200 <= answer.status_code < 300
    assert answer.headers["access-control-allow-origin"] == "https://x.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_the_environment_of_scripts(cases: Configured) -> None:
    """Section 6: what each script is told of its job."""
    made = cases.ask(cases.tree(), "environment")
    job = made.json()["id"] if made.status_code == 201 else next(iter(cases.listed(key="environment")))
    found = cases.final(job)
    assert found["state"] == "passed"
    task, (trial,) = cases.only(job)
    (script,) = cases.scripts_of(trial["id"]).values()
    lines = script["stdout"].splitlines()
    told = dict(line.split("=", 1) for line in lines if line.startswith("CIDER_CI"))
    assert told["CIDER_CI"] == "true"
    assert told["CIDER_CI_JOB_ID"] == job
    assert told["CIDER_CI_TASK_ID"] == task["id"]
    assert told["CIDER_CI_TRIAL_ID"] == trial["id"]
    assert told["CIDER_CI_TREE_ID"] == cases.tree()
    assert set(json.loads(told["CIDER_CI_CURRENT_BRANCH_HEADS"])) == {"master", "copy"}
    assert lines[-2:] == ["true", told["CIDER_CI_WORKING_DIR"]]


def test_who_may_read_may_start_nothing(cases: Configured, history: dict[str, str]) -> None:
    """A reader sees the project's jobs, and changes none; a stranger sees none."""
    assert cases["ana"].get(f"{A}/jobs/{history['master']}").status_code == 200
    message_of(cases.ask(cases.tree(), "two_tasks", "ana"), 403)
    assert cases["ana"].post(f"{A}/jobs/{history['master']}/abort").status_code == 403
    message_of(cases.ask(cases.tree(), "two_tasks", "lee"), 422)
    message_of(cases["lee"].get(f"{A}/jobs/{history['master']}"), 404)
    assert history["master"] not in [each["id"] for each in cases["lee"].get(f"{A}/jobs/").json()["jobs"]]
    assert cases["lee"].get(f"{A}/commits/").json()["commits"] == []
