"""What the contract says beside its numbered cases: tokens, forms, methods, whose a job is (builds-srht, 2)."""

from __future__ import annotations

import pytest

from specs.manifest import parse
from tests.api.escape.conftest import document
from tests.api.srht.conftest import FILES, M, World, absent, refused, states, tasks

BODY = {"manifest": M, "execute": False}


def test_other_forms_of_a_credential_are_none(world: World) -> None:
    """Neither the cookie of a browser nor another API's header."""
    secret = world.secrets["jo"]
    for headers in (
        {"Cookie": f"X-Escape-Token={secret}", "Origin": world.url},
        {"X-Escape-Token": secret},
        {"Authorization": ""},
    ):
        refused(world.nobody.get("/api/jobs", headers=headers), 401)
        refused(world.nobody.post("/api/jobs", json=BODY, headers=headers), 401)
    assert (
        world.nobody.get("/reconciler/jobs", headers={"Cookie": f"X-Escape-Token={secret}"}).status_code
        == 200
    )


def test_a_token_of_one_project_has_no_scope(world: World) -> None:
    """Jobs of manifests are in no project."""
    with world.client(world.token("bob", "owner", project="shop")) as narrow:
        assert "jobs:write" in refused(narrow.post("/api/jobs", json=BODY), 403)[0]
        assert "jobs:read" in refused(narrow.get("/api/jobs"), 403)[0]


def test_a_suspended_account_is_403(world: World) -> None:
    """And who is not there any more; a wrong token stays 401."""
    people = FILES["people.yaml"] + "---\n" + document("User", "name: zoe")
    world.repo.commit({"people.yaml": people})
    world.applied()
    with world.client(world.token("zoe")) as zoe:
        assert zoe.get("/api/jobs").status_code == 200
        for text in (
            people.replace("{name: zoe}\nspec: {}", "{name: zoe}\nspec: {disabled: true}"),
            FILES["people.yaml"],
        ):
            assert text != people
            world.repo.commit({"people.yaml": text})
            world.applied()
            assert "disabled" in refused(zoe.get("/api/jobs"), 403)[0]
    refused(world.nobody.get("/api/jobs", headers={"Authorization": "token x"}), 401)


def test_a_form(world: World) -> None:
    """String fields may come as a form; others are of the wrong type there."""
    found = world["jo"].post("/api/jobs", data={"manifest": M, "note": "as a form"})
    assert (found.status_code, found.json()["note"]) == (200, "as a form")
    refused(world["jo"].post("/api/jobs", data={"manifest": M, "execute": "false"}), 400, "execute")
    refused(world["jo"].post("/api/jobs", data={"note": "x"}), 400, "manifest")


def test_slashes_and_methods(world: World) -> None:
    """A slash at the end makes no difference; OPTIONS and 405 tell the same methods."""
    number = world.submit(M, execute=False)["id"]
    for path in (
        "/api/jobs",
        f"/api/jobs/{number}",
        f"/api/jobs/{number}/artifacts",
        f"/api/jobs/{number}/manifest",
    ):
        one, other = world["lee"].get(path), world["lee"].get(f"{path}/")
        assert (one.status_code, one.content) == (200, other.content)
        head = world["jo"].head(path)
        assert (head.status_code, head.content) == (200, b"")
    assert world["jo"].post("/api/jobs/", json=BODY).status_code == 200
    assert world["jo"].post(f"/api/jobs/{number}/cancel/").status_code == 200
    allowed = [world["jo"].request(method, "/api/jobs").headers["allow"] for method in ("OPTIONS", "DELETE")]
    assert [set(each.split(", ")) for each in allowed] == [{"GET", "POST", "OPTIONS"}] * 2


def test_nothing_else_is_taken(world: World) -> None:
    """Paths that only look alike keep the errors of whose they are."""
    for path in ("/api/jobsx", "/api/job", "/api", "/logsx/1/log"):
        answer = world["jo"].get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    answer = world["jo"].get("/api/v1/nothing", headers={"Accept": "application/json"})
    assert answer.json()["code"] == "not-found"


def test_a_body_that_is_too_large(world: World) -> None:
    """413, in this API's form."""
    refused(world["jo"].post("/api/jobs", json={"manifest": "x" * (1 << 20)}), 413)


def test_a_task_called_log(world: World) -> None:
    """Its log is there like any other's."""
    found = world.run("image: host\ntasks: [{log: echo of-log}, {manifest: echo of-manifest}]")
    for task in found["tasks"]:
        assert f"\nof-{task['name']}\n" in world.log(task["log"])


def test_a_service_account_owns_under_a_name_of_its_own(world: World) -> None:
    """It is not the user that is called the same, and does not get that user's secrets or jobs."""
    world.repo.commit(
        {
            "team.yaml": document("Team", "name: ops")
            + "---\n"
            + document("ServiceAccount", "name: jo, team: ops")
        }
    )
    world.applied()
    body = {"name": "t", "level": "write", "subject": "ServiceAccount/ops/jo"}
    secret = world.native.post("/reconciler/tokens", json=body).raise_for_status().json()["token"]
    with world.client(secret) as account:
        assert account.get("/api/jobs").json()["total"] == 0
        text = tasks("echo $JOB_URL", more="secrets: [by-name]\n")
        found = account.post("/api/jobs", json={"manifest": text}).json()
        assert found["owner"] == {"canonical_name": "~ops:jo", "name": "ops:jo"}
        assert [job["id"] for job in account.get("/api/jobs").json()["results"]] == [found["id"]]
        assert world.ended(found["id"])["status"] == "failed"
        assert found["id"] not in [job["id"] for job in world["jo"].get("/api/jobs").json()["results"]]
        absent(account.get(f"/api/jobs/{world.submit(M, execute=False, **{'access:read': []})['id']}"))


ASK = """\
python3 - <<'END'
import json, os, urllib.request as web
def ask(path, data=None):
    headers = {"Authorization": "token " + os.environ["STEERSMAN_TOKEN"], "Content-Type": "application/json"}
    try:
        with web.urlopen(web.Request(os.environ["STEERSMAN_SERVER"] + path, data, headers)) as answer:
            return answer.status, json.load(answer)
    except web.HTTPError as error:
        return error.code, None
job = os.environ["JOB_ID"]
assert ask(f"/api/jobs/{job}")[1]["id"] == int(job)
assert ask("/api/jobs")[1]["total"] == 0
print("told:", ask("/api/jobs/OTHER")[0], ask("/api/jobs", b"{}")[0], ask(f"/api/jobs/{job}/cancel", b"")[0])
END
"""


def test_a_script_reads_its_own_job(world: World) -> None:
    """And no other, and changes nothing."""
    other = world.submit(M, execute=False, **{"access:read": []})["id"]
    indented = "".join(f"    {line}\n" for line in ASK.replace("OTHER", str(other)).splitlines())
    found = world.run(f"image: host\ntasks:\n- a: |\n{indented}", **{"access:read": []})
    log = world.log(found["tasks"][0]["log"])
    assert (found["status"], "told: 404 403 403" in log) == ("success", True), log


def test_an_administrator_may_do_everything(world: World) -> None:
    """With our own token in this API's form."""
    number = world.submit(M, execute=False, **{"access:read": []})["id"]
    with world.client(world.running.token) as admin:
        assert admin.get(f"/api/jobs/{number}").status_code == 200
        assert admin.post(f"/api/jobs/{number}/start").status_code == 200
        assert admin.post(f"/api/jobs/{number}/cancel").status_code == 200


def test_a_retry_of_ours_is_a_new_job_of_the_same_owner(world: World) -> None:
    """In their list, with everything that the first one was submitted with."""
    first = world.run(M, note="n", tags=["x"], **{"access:read": ["ana"]})
    made = world.native.post(f"/reconciler/jobs/{first['id']}/retry").json()["number"]
    again = world.ended(made)
    assert {**again, "id": 0, "setup_log": 0, "tasks": 0} == {**first, "id": 0, "setup_log": 0, "tasks": 0}
    assert states(again) == ["success"]
    assert world["ana"].get(f"/api/jobs/{made}").status_code == 200
    absent(world["bob"].get(f"/api/jobs/{made}"))


def test_a_generated_manifest_is_valid(world: World) -> None:
    """It says what a Build's job ran."""
    made = world["bob"].post("/reconciler/trigger", json={"key": "Build/shop/_/two"}).json()["number"]
    found = parse(world["bob"].get(f"/api/jobs/{made}/manifest").text)
    assert [(task.name, task.script) for task in found.tasks] == [
        ("lint__run", "echo lint"),
        ("test__run", "echo test"),
    ]


def test_a_repeated_request_makes_one_job(world: World) -> None:
    """Where it has a key."""
    headers = {"Idempotency-Key": "once"}
    found = [world["jo"].post("/api/jobs", json=BODY, headers=headers) for _ in range(2)]
    assert found[0].json() == found[1].json()
    assert world["jo"].post("/api/jobs", json=BODY).json()["id"] != found[0].json()["id"]


ODD = (
    "%00",
    "%FF",
    "%C3%28",
    "9" * 30,
    "1e3",
    "x" * 6000,
    "%ED%A0%80",
    "%0D%0A",
    "..%2F..",
    "%",
    "%2F",
    "%EF%BC%91",
)


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/@",
        "/api/jobs/@/artifacts",
        "/api/jobs/@/manifest",
        "/api/jobs/@/start",
        "/api/jobs/@/cancel",
        "/api/jobs/1/artifacts/@/a",
        "/api/jobs/1/artifacts/0123456789abcdef/@",
        "/logs/@/log",
        "/logs/1/@/log",
        "/api/job-group/@",
    ],
)
def test_a_poisoned_path_finds_nothing(world: World, path: str) -> None:
    """404 in this API's form, also for what no route takes."""
    for odd in ODD:
        target = path.replace("@", odd).encode()
        request = world["jo"].build_request("POST" if path.endswith(("start", "cancel")) else "GET", "/")
        request.url = request.url.copy_with(raw_path=target)
        absent(world["jo"].send(request))
    assert "request-crashed" not in world.running.log()
