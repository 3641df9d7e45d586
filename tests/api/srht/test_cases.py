"""The numbered edge cases of the contract over HTTP (builds-srht, 10): requests, access, lists, ends of jobs."""

from __future__ import annotations

import base64
import time

import httpx
import psutil
import pytest

from tests.api.srht.conftest import M, World, absent, refused, states, tasks

BODY = {"manifest": M, "execute": False}


def test_case_01_no_good_credential(world: World) -> None:
    """Without header, Basic, one word, three words, a wrong token: 401, without field, with a challenge."""
    secret = world.secrets["jo"]
    basic = base64.b64encode(f"jo:{secret}".encode()).decode()
    for header in (
        None,
        f"Basic {basic}",
        "token",
        "token a b",
        f"token  {secret}",
        f"Token {secret}",
        f"bearer {secret}",
        "token nonsense",
        secret,
    ):
        headers = {} if header is None else {"Authorization": header}
        answer = world.nobody.post("/api/jobs", json=BODY, headers=headers)
        refused(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_case_02_scopes(world: World) -> None:
    """A token that may only read is told the scope that it lacks; one that may write also reads."""
    number = world.submit(M, execute=False)["id"]
    with world.client(world.token("jo", "read")) as reader:
        for path in ("/api/jobs", f"/api/jobs/{number}/start", f"/api/jobs/{number}/cancel"):
            (reason,) = refused(reader.post(path, json=BODY), 403)
            assert "jobs:write" in reason
        assert reader.get(f"/api/jobs/{number}").status_code == 200
        assert reader.get("/api/jobs").status_code == 200
    assert world["jo"].get(f"/api/jobs/{number}").status_code == 200


def test_case_03_bearer(world: World) -> None:
    """Works as token."""
    headers = {"Authorization": f"Bearer {world.secrets['jo']}"}
    assert world.nobody.post("/api/jobs", json=BODY, headers=headers).status_code == 200


def test_case_04_a_manifest(world: World) -> None:
    """200 with the whole job, which is queued."""
    answer = world["jo"].post("/api/jobs", json={"manifest": tasks("echo hi", "echo bye")})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert isinstance(found.pop("id"), int)
    assert found == {
        "status": "queued",
        "setup_log": None,
        "tasks": [
            {"name": "a", "status": "pending", "log": None},
            {"name": "b", "status": "pending", "log": None},
        ],
        "note": None,
        "runner": None,
        "tags": None,
        "owner": {"canonical_name": "~jo", "name": "jo"},
    }


def test_case_05_a_job_that_waits_for_a_start(world: World) -> None:
    """`pending` until it is started, which can be done once."""
    number = world.submit(tasks("sleep 4"), execute=False, note="*try*", tags=["demo", "v1"])["id"]
    time.sleep(1)
    found = world.job(number)
    assert (found["status"], found["setup_log"], found["runner"]) == ("pending", None, None)
    assert (found["note"], found["tags"]) == ("*try*", "demo/v1")
    answer = world["jo"].post(f"/api/jobs/{number}/start")
    assert (answer.status_code, answer.json()) == (200, {})
    assert world.job(number)["status"] in ("queued", "running", "success")
    (reason,) = refused(world["jo"].post(f"/api/jobs/{number}/start"), 400)
    assert "queued" in reason or "running" in reason
    world.once(number, lambda job: job["status"] == "running")
    (reason,) = refused(world["jo"].post(f"/api/jobs/{number}/start"), 400)
    assert "running" in reason
    found = world.ended(number)
    assert (found["status"], found["runner"]) == ("success", "exec-1")
    assert found["setup_log"] == f"{world.url}/logs/{number}/log"
    assert found["tasks"][0]["log"] == f"{world.url}/logs/{number}/a/log"
    (reason,) = refused(world["jo"].post(f"/api/jobs/{number}/start"), 400)
    assert "complete" in reason


def test_case_06_a_required_string(world: World) -> None:
    """Absent or empty: one error; null or of another type: two."""
    post = world["jo"].post
    for body, count in (({}, 1), ({"manifest": ""}, 1), ({"manifest": 5}, 2), ({"manifest": None}, 2)):
        reasons = refused(post("/api/jobs", json=body), 400, "manifest")
        assert len(reasons) == count
        assert reasons[-1] == "is required"
    assert refused(post("/api/jobs", json={"manifest": None}), 400, "manifest")[0] == "may not be null"
    assert "string" in refused(post("/api/jobs", json={"manifest": 5}), 400, "manifest")[0]


def test_case_07_no_object(world: World) -> None:
    """A list, no JSON, nothing, too deep, and another type: 400 without field."""
    for body in (b"[1]", b"nonsense", b"", b"null", b'"x"', b"\xff", b"[" * 30_000, b'{"a": "\\ud800"}'):
        refused(
            world["jo"].post("/api/jobs", content=body, headers={"Content-Type": "application/json"}), 400
        )
    refused(world["jo"].post("/api/jobs", content=b"{}", headers={"Content-Type": "text/plain"}), 400)


def test_case_08_a_content_type_with_a_parameter(world: World) -> None:
    """As without it."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    body = httpx.Request("POST", "http://x", json=BODY).content
    assert world["jo"].post("/api/jobs", content=body, headers=headers).status_code == 200


def test_case_09_tags(world: World) -> None:
    """The published alphabet, joined by slashes."""
    assert world.submit(M, tags=["a-b_c.d:e9"], execute=False)["tags"] == "a-b_c.d:e9"
    assert world.submit(M, tags=["x", "y"], execute=False)["tags"] == "x/y"
    assert world.submit(M, tags=[], execute=False)["tags"] is None
    for tags in (["A"], ["a b"], [""], ["a/b"], [1], "x", ["a\n"], ["ä"], ["a"] * 1001):
        refused(world["jo"].post("/api/jobs", json=BODY | {"tags": tags}), 400, "tags")
    answer = world["jo"].post("/api/jobs", json=BODY | {"tags": ["a b", "C", "ok"]})
    assert len(refused(answer, 400, "tags")) == 2


def test_case_10_other_fields(world: World) -> None:
    """Null and wrong types are told by field; all of them at once; unknown keys are left alone."""
    post = world["jo"].post
    for field, value in (
        ("note", None),
        ("note", 7),
        ("note", "x" * 4097),
        ("note", "\0"),
        ("execute", "yes"),
        ("execute", 1),
        ("execute", None),
        ("secrets", "true"),
        ("secrets", 0),
        ("triggers", None),
        ("triggers", {}),
    ):
        refused(post("/api/jobs", json=BODY | {field: value}), 400, field)
    answer = post("/api/jobs", json={"manifest": 5, "note": None, "tags": ["A"]})
    assert answer.status_code == 400
    fields = [error["field"] for error in answer.json()["errors"]]
    assert sorted(fields) == ["manifest", "manifest", "note", "tags"]
    found = post("/api/jobs", json=BODY | {"note": "x" * 4096, "unknown": None, "visibility": 3})
    assert found.status_code == 200
    assert found.json()["note"] == "x" * 4096


def test_case_11_the_length_of_a_manifest(world: World) -> None:
    """Fewer than 16,384 characters, not bytes."""
    longest = M + "#" + "ä" * (16_383 - len(M) - 1)
    assert len(longest) == 16_383
    found = world.submit(longest, execute=False)
    assert world["jo"].get(f"/api/jobs/{found['id']}/manifest").text == longest
    answer = world["jo"].post("/api/jobs", json={"manifest": longest + "ä", "execute": False})
    refused(answer, 400, "manifest")


BAD = {
    "no image": "tasks: [{a: b}]",
    "an image of another type": "image: 3\ntasks: [{a: b}]",
    "no tasks": "image: host",
    "tasks as a mapping": "image: host\ntasks: {a: b}",
    "a name in capitals": "image: host\ntasks: [{A: b}]",
    "a dot in a name": "image: host\ntasks: [{a.b: b}]",
    "a long name": f"image: host\ntasks: [{{{'a' * 129}: b}}]",
    "a repeated name": "image: host\ntasks: [{a: b}, {a: c}]",
    "two names": "image: host\ntasks: [{a: b, c: d}]",
    "no script": "image: host\ntasks: [{a: null}]",
    "a number as script": "image: host\ntasks: [{a: 1}]",
    "packages": "image: host\npackages: foo\ntasks: [{a: b}]",
    "artifacts": "image: host\nartifacts: [a/x, b/x]\ntasks: [{a: b}]",
    "secrets": "image: host\nsecrets: [ab]\ntasks: [{a: b}]",
    "shell": 'image: host\nshell: "yes"\ntasks: [{a: b}]',
    "oauth": "image: host\noauth: [x]\ntasks: [{a: b}]",
    "no YAML": "a: [",
    "a list": "[1]",
    "nothing": "",
}


@pytest.mark.parametrize("name", BAD)
def test_case_12_bad_manifests(world: World, name: str) -> None:
    """400, field `manifest`."""
    refused(world["jo"].post("/api/jobs", json={"manifest": BAD[name]}), 400, "manifest")


GOOD = {
    "a shell": "image: host\nshell: true",
    "no shell": "image: host\nshell: null\ntasks: [{a: b}]",
    "an unknown key": "image: host\nsubmitter: {hub: yes}\ntasks: [{a: b}]",
    "an empty script": 'image: host\ntasks: [{a: ""}]',
    "an environment": "image: host\nenvironment: {i: 1, b: true, n: null, l: [x, y]}\ntasks: [{a: b}]",
    "odd names": "image: host\ntasks: [{default: b}, {1: b}, {_x: b}, {a-b_c: b}]",
}


@pytest.mark.parametrize("name", GOOD)
def test_case_13_good_manifests(world: World, name: str) -> None:
    """200."""
    world.submit(GOOD[name], execute=False)


def test_case_13_a_shell_without_tasks_succeeds(world: World) -> None:
    """After the set-up, which tells that there is no shell."""
    found = world.run("image: host\nshell: true")
    assert (found["status"], found["tasks"]) == ("success", [])
    assert "no interactive shell" in world.log(found["setup_log"])


def test_case_14_a_task_fails(world: World) -> None:
    """The job fails, and later tasks stay `pending` for good; their logs are not there."""
    number = world.run(tasks("true", "false", "true"))["id"]
    time.sleep(0.5)
    found = world.job(number)
    assert (found["status"], states(found)) == ("failed", ["success", "failed", "pending"])
    absent(world["jo"].get(found["tasks"][2]["log"]))


def test_case_15_complete_build(world: World) -> None:
    """The rest is skipped, nothing after the call runs, and artifacts are collected."""
    scripts = ("echo x >kept", "complete-build; echo after", "echo third", "echo fourth")
    found = world.run(tasks(*scripts, more="artifacts: [kept]\n"))
    assert (found["status"], states(found)) == ("success", ["success", "success", "skipped", "skipped"])
    assert "\nafter" not in world.log(found["tasks"][1]["log"])
    kept = world["jo"].get(f"/api/jobs/{found['id']}/artifacts").json()
    assert [item["name"] for item in kept["results"]] == ["kept"]


def test_case_16_complete_build_after_a_condition(world: World) -> None:
    """It counts only where it is reached."""
    found = world.run(tasks("true || complete-build", "false || complete-build", "true"))
    assert (found["status"], states(found)) == ("success", ["success", "success", "skipped"])


def test_case_17_what_tasks_hand_on(world: World) -> None:
    """`~/.buildenv` and files, but neither variables nor the working directory."""
    found = world.run(
        tasks(
            "echo 'export X=7' >> ~/.buildenv; Y=1; touch file; cd /tmp",
            'test "$X" = 7',
            'test -z "$Y"',
            'test "$PWD" = "$HOME"; test -e file',
        )
    )
    assert (found["status"], states(found)) == ("success", ["success"] * 4)


def test_case_18_the_environment(world: World) -> None:
    """Values by their types; what the service sets is stronger."""
    more = 'environment: {L: [p, q], B: true, N: null, S: "it\'s", CI_NAME: mine}\n'
    checks = ('test "${L[1]}" = q', "test $B = true", "test -z $N", 'test "$S" = "it\'s"')
    found = world.run(
        tasks(*checks, 'echo "<$JOB_ID $CI_NAME $JOB_URL>"', more=more),
    )
    assert (found["status"], states(found)) == ("success", ["success"] * 5)
    number = found["id"]
    told = f"<{number} sourcehut {world.url}/~jo/job/{number}>"
    assert told in world.log(found["tasks"][4]["log"])


def test_case_19_what_is_not_there(world: World) -> None:
    """The standard body; another method is told which there are."""
    number = world.submit(M, execute=False)["id"]
    for path in (
        "/api/jobs/abc",
        "/api/jobs/999999",
        "/api/jobs/0",
        "/api/jobs/-1",
        f"/api/jobs/{'9' * 30}",
        f"/api/jobs/{number}/nope",
        f"/api/jobs/{number}/manifest/x",
        "/api/job-group/x",
        "/logs",
        "/logs/1",
        f"/logs/{number}/log",
        f"/logs/{number}/a/log",
        f"/logs/{number}/log/log",
        f"/logs/{number}/a%2Flog",
        "/logs/x/log",
    ):
        absent(world["jo"].get(path))
    for path in ("abc", "999999"):
        absent(world["jo"].post(f"/api/jobs/{path}/start"))
        absent(world["jo"].post(f"/api/jobs/{path}/cancel"))
    answer = world["jo"].delete(f"/api/jobs/{number}")
    refused(answer, 405)
    assert "GET" in answer.headers["allow"]
    answer = world["jo"].put("/api/jobs")
    refused(answer, 405)
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


def test_case_20_who_reads(world: World) -> None:
    """The read list, its absence, and its emptiness; without a token only what everybody may read."""
    found = world.run(M, **{"access:read": ["ana"]})
    path = f"/api/jobs/{found['id']}"
    assert [world[name].get(path).status_code for name in ("ana", "jo")] == [200, 200]
    absent(world["bob"].get(path))
    for hidden in (f"{path}/artifacts", f"{path}/manifest", found["setup_log"], found["tasks"][0]["log"]):
        assert world["ana"].get(hidden).status_code == 200
        absent(world["bob"].get(hidden))
    for hidden in (f"{path}/manifest", found["setup_log"], found["tasks"][0]["log"]):
        absent(world.nobody.get(hidden))
    for hidden in (path, f"{path}/artifacts"):
        refused(world.nobody.get(hidden), 401)
    refused(world["ana"].post(f"{path}/start"), 401)
    refused(world["ana"].post(f"{path}/cancel"), 401)
    absent(world["bob"].post(f"{path}/start"))
    absent(world["bob"].post(f"{path}/cancel"))
    own = world.submit(M, execute=False, **{"access:read": []})["id"]
    absent(world["ana"].get(f"/api/jobs/{own}"))
    assert world["jo"].get(f"/api/jobs/{own}").status_code == 200
    public = world.run(M)
    path = f"/api/jobs/{public['id']}"
    assert world["bob"].get(path).status_code == 200
    answer = world.nobody.get(f"{path}/manifest")
    assert (answer.status_code, answer.text) == (200, M)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert world.nobody.get(public["tasks"][0]["log"]).status_code == 200
    wrong = {"Authorization": "token nonsense"}
    refused(world.nobody.get(f"{path}/manifest", headers=wrong), 401)
    everybody = world.submit(M, execute=False, **{"access:read": ["*", "ana"]})["id"]
    assert world["bob"].get(f"/api/jobs/{everybody}").status_code == 200


def test_case_21_who_writes(world: World) -> None:
    """Write access includes read access; everybody cannot have it; a leading ~ means nothing."""
    for name in ("ana", "~ana"):
        number = world.submit(tasks("sleep 60"), **{"access:write": [name], "access:read": []})["id"]
        path = f"/api/jobs/{number}"
        assert world["ana"].get(path).status_code == 200
        absent(world["bob"].get(path))
        answer = world["ana"].post(f"{path}/cancel")
        assert (answer.status_code, answer.json()) == (200, {})
        assert world.ended(number)["status"] == "cancelled"
    held = world.submit(M, execute=False, **{"access:write": ["ana"], "access:read": ["bob"]})["id"]
    refused(world["bob"].post(f"/api/jobs/{held}/start"), 401)
    assert world["ana"].post(f"/api/jobs/{held}/start").status_code == 200
    for field, value in (
        ("access:write", ["*"]),
        ("access:read", [7]),
        ("access:read", [""]),
        ("access:read", ["~*"]),
        ("access:read", ["~~ana"]),
        ("access:read", ["a/b"]),
        ("access:write", "ana"),
        ("access:write", None),
    ):
        refused(world["jo"].post("/api/jobs", json=BODY | {field: value}), 400, field)
    world.submit(M, execute=False, **{"access:read": ["nobody.yet"]})


def test_case_22_the_list(world: World) -> None:
    """Only one's own jobs, fifty at a time, newest first."""
    world.submit(M, "jo", execute=False)
    made = [world.submit(M, "lee", execute=False)["id"] for _ in range(51)]
    found = world["lee"].get("/api/jobs").json()
    assert found.keys() == {"next", "results", "total", "results_per_page"}
    assert (found["total"], found["results_per_page"]) == (51, 50)
    assert [job["id"] for job in found["results"]] == sorted(made, reverse=True)[:50]
    assert found["results"][0] == world["lee"].get(f"/api/jobs/{made[-1]}").json()
    assert found["next"] == str(min(made))
    rest = world["lee"].get("/api/jobs", params={"start": found["next"]}).json()
    assert ([job["id"] for job in rest["results"]], rest["next"], rest["total"]) == ([min(made)], None, 51)
    for start in ("", "-1"):
        assert world["lee"].get(f"/api/jobs?start={start}").json() == found
    for start in ("x", "1.5", "9" * 40, "%00", "%FF"):
        refused(world["lee"].get(f"/api/jobs?start={start}"), 400, "start")
    assert world["lee"].get("/api/jobs?start=0").json()["results"] == []


def test_case_23_cancel(world: World) -> None:
    """What runs is ended, and what waits has ended at once; it can be asked for again."""
    number = world.submit(tasks("true", "echo up; sleep 6543", "true"))["id"]
    world.once(number, lambda job: states(job)[1] == "running")
    for _ in range(2):
        answer = world["jo"].post(f"/api/jobs/{number}/cancel")
        assert (answer.status_code, answer.json()) == (200, {})
    found = world.ended(number)
    assert (found["status"], states(found)) == ("cancelled", ["success", "failed", "pending"])
    assert not _is_running("sleep 6543")
    assert world["jo"].post(f"/api/jobs/{number}/cancel").json() == {}
    assert world.job(number) == found
    held = world.submit(M, execute=False)["id"]
    assert world["jo"].post(f"/api/jobs/{held}/cancel").json() == {}
    found = world.job(held)
    assert (found["status"], found["setup_log"], found["runner"]) == ("cancelled", None, None)
    assert (states(found), found["tasks"][0]["log"]) == (["pending"], None)
    (reason,) = refused(world["jo"].post(f"/api/jobs/{held}/start"), 400)
    assert "complete" in reason
    passed = world.run(M)
    assert world["jo"].post(f"/api/jobs/{passed['id']}/cancel").json() == {}
    assert world.job(passed["id"])["status"] == "success"


def _is_running(command: str) -> bool:
    return any(
        " ".join(each.info["cmdline"] or ()) == command
        for each in psutil.process_iter(["cmdline", "status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE
    )


def test_case_26_triggers_of_a_request(world: World) -> None:
    """What is wrong is told by its place; good ones are kept with the job."""
    for trigger, field in (
        ({"action": "email", "to": "a@example.org"}, "triggers[0].condition"),
        ({"action": "irc", "condition": "always"}, "triggers[0].action"),
        ({"action": "webhook", "condition": "always"}, "triggers[0].url"),
    ):
        refused(world["jo"].post("/api/jobs", json=BODY | {"triggers": [trigger]}), 400, field)
    good = {"action": "email", "condition": "failure", "to": "a@example.org", "further": [1, {"x": None}]}
    assert world["jo"].post("/api/jobs", json=BODY | {"triggers": [good]}).status_code == 200
    odd = good | {"further": [{"x\0": 1}]}
    refused(world["jo"].post("/api/jobs", json=BODY | {"triggers": [odd]}), 400, "triggers")


def test_case_27_logs(world: World) -> None:
    """They grow while a task runs, and are read by the part; the set-up's names each step."""
    number = world.submit(tasks("echo one; sleep 5; echo two; sleep 600", "true"))["id"]
    found = world.once(number, lambda job: states(job)[0] == "running")
    address = found["tasks"][0]["log"]
    absent(world["jo"].get(found["tasks"][1]["log"]))
    until = time.monotonic() + 20
    while "\none\n" not in (first := world.log(address)):
        assert time.monotonic() < until
        time.sleep(0.05)
    while "\ntwo\n" not in (second := world.log(address)):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert second.startswith(first)
    assert len(second) > len(first)
    world["jo"].post(f"/api/jobs/{number}/cancel")
    world.ended(number)
    whole = world["jo"].get(address)
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["accept-ranges"] == "bytes"
    size = len(whole.content)
    for asked, part in (
        ("bytes=0-9", whole.content[:10]),
        ("bytes=-4", whole.content[-4:]),
        ("bytes=-131072", whole.content),
        ("bytes=3-", whole.content[3:]),
    ):
        answer = world["jo"].get(address, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{size}")
    answer = world["jo"].get(address, headers={"Range": f"bytes={size}-"})
    refused(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{size}"
    head = world["jo"].head(address)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))
    setup = world.log(found["setup_log"])
    steps = [line.split(":")[0] for line in setup.splitlines() if line.startswith("==> ")]
    assert steps == ["==> image", "==> environment", "==> tasks"]


def test_case_27_escape_sequences_stay(world: World) -> None:
    """Bytes are as the scripts wrote them."""
    found = world.run(tasks(r"printf '\033[31mred\377\033[0m\n'"))
    assert b"\n\x1b[31mred\xff\x1b[0m\n" in world["jo"].get(found["tasks"][0]["log"]).content


def test_case_29_artifacts(world: World) -> None:
    """Listed as the manifest has them, at an address that needs no token and cannot be guessed."""
    scripts = "mkdir -p out; printf abc >out/a.txt; printf 'é' >'out/b c#?.txt'"
    more = "artifacts: [out/a.txt, './out/b c#?.txt']\n"
    found = world.run(tasks(scripts, more=more), **{"access:read": []})
    path = f"/api/jobs/{found['id']}/artifacts"
    listed = world["jo"].get(path).json()
    assert (listed["next"], listed["total"], listed["results_per_page"]) == (None, 2, 50)
    second, first = listed["results"]
    assert second["id"] > first["id"]
    assert (first["name"], first["path"], first["size"]) == ("a.txt", "out/a.txt", 3)
    assert (second["name"], second["path"], second["size"]) == ("b c#?.txt", "./out/b c#?.txt", 2)
    assert time.strptime(first["created"], "%Y-%m-%dT%H:%M:%S+00:00")
    for item, content in ((first, b"abc"), (second, "é".encode())):
        answer = world.nobody.get(item["url"])
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        head = world.nobody.head(item["url"])
        assert (head.content, head.headers["content-length"]) == (b"", str(len(content)))
    mark = first["url"].split("/")[-2]
    assert len(mark) == 16
    assert set(mark) <= set("0123456789abcdef")
    assert mark != second["url"].split("/")[-2]
    absent(world.nobody.get(first["url"].replace(mark, "0" * 16)))
    absent(world.nobody.get(first["url"].replace("a.txt", "b.txt")))
    absent(world.nobody.get(first["url"].replace(f"/{found['id']}/", "/1/")))
    rest = world["jo"].get(path, params={"start": first["id"]}).json()
    assert (rest["results"], rest["total"]) == ([first], 2)
    refused(world["jo"].get(path, params={"start": "x"}), 400, "start")


def test_case_29_a_missing_artifact_fails_the_job(world: World) -> None:
    """All tasks keep `success`."""
    found = world.run(tasks("true", more="artifacts: [gone]\n"))
    assert (found["status"], states(found)) == ("failed", ["success"])
    assert world["jo"].get(f"/api/jobs/{found['id']}/artifacts").json()["results"] == []


def test_case_29_nine_artifacts(world: World) -> None:
    """None is kept, the set-up tells it, the job succeeds."""
    more = f"artifacts: [{', '.join(f'f{n}' for n in range(9))}]\n"
    found = world.run(tasks("touch f0 f1 f2 f3 f4 f5 f6 f7 f8", more=more))
    assert found["status"] == "success"
    assert world["jo"].get(f"/api/jobs/{found['id']}/artifacts").json()["results"] == []
    assert "none is kept" in world.log(found["setup_log"])


UUID = "5b0f7d0e-3a53-4b6c-9a51-9c1e6a1d2f10"


def test_case_30_secrets(world: World) -> None:
    """By uuid and by name, as files with their modes, and in no log."""
    scripts = (
        "test $(stat -c %a ~/.tool/token) = 640; cat ~/.tool/token",
        f"test $(stat -c %a ~/.ssh/{UUID}) = 600; cat ~/.ssh/{UUID}",
        f"cmp ~/.ssh/{UUID} ~/.ssh/id_rsa",
    )
    found = world.run(tasks(*scripts, more=f"secrets: [by-name, {UUID}]\n"))
    logs = [world.log(task["log"]) for task in found["tasks"]] + [world.log(found["setup_log"])]
    assert (found["status"], states(found)) == ("success", ["success"] * 3), logs
    assert not any("secret-of-jo" in text for text in logs)


def test_case_30_without_secrets(world: World) -> None:
    """They do not arrive, and the job runs."""
    found = world.run(
        tasks("test ! -e ~/.tool", 'test -z "$OAUTH2_TOKEN"', more="secrets: [by-name]\noauth: x\n"),
        secrets=False,
    )
    assert (found["status"], states(found)) == ("success", ["success"] * 2)
    assert "submitted without them" in world.log(found["setup_log"])


@pytest.mark.parametrize("name", ["not-there", "of-ana"])
def test_case_30_a_secret_that_is_not_the_owners(world: World, name: str) -> None:
    """Unknown, or another user's: the job fails, and the set-up's log names it."""
    found = world.run(tasks("true", more=f"secrets: [{name}]\n"))
    assert (found["status"], states(found)) == ("failed", ["pending"])
    assert name in world.log(found["setup_log"])
    other = world.run(tasks("test -e ~/ana", more="secrets: [of-ana]\n"), "ana")
    assert other["status"] == "success"


def test_case_31_an_unknown_image(world: World) -> None:
    """Accepted, then it fails, and the set-up's log names the image."""
    found = world.run("image: plan9/fossil\ntasks: [{a: 'true'}]")
    assert (found["status"], states(found)) == ("failed", ["pending"])
    assert "plan9/fossil" in world.log(found["setup_log"])


def test_case_33_the_same_manifest_twice(world: World) -> None:
    """Two jobs, here and in our own API."""
    one, other = (world.submit(M, execute=False)["id"] for _ in range(2))
    assert one != other
    found = [world.native.get(f"/reconciler/jobs/{number}").json() for number in (one, other)]
    assert [job["key"] for job in found] == ["Manifest/~jo/_/build"] * 2
    assert found[0]["id"] != found[1]["id"]
    assert [job["number"] for job in found] == [one, other]


def test_case_35_the_job_of_a_build(world: World) -> None:
    """Its scripts are the tasks, under names that a manifest could have; it has a manifest, and cannot be started."""
    made = world["bob"].post("/reconciler/trigger", json={"key": "Build/shop/_/two"})
    number = made.json()["number"]
    world.running.job(number, "passed")
    found = world["bob"].get(f"/api/jobs/{number}").json()
    assert (found["status"], found["setup_log"], found["runner"]) == ("success", None, "exec-1")
    assert [task["name"] for task in found["tasks"]] == ["lint__run", "test__run"]
    assert states(found) == ["success", "success"]
    assert found["owner"]["name"] == "bob"
    assert "test\n" in world.log(found["tasks"][1]["log"], "bob")
    text = world["bob"].get(f"/api/jobs/{number}/manifest").text
    again = world.run(text.replace("image: steersman", "image: host"), "bob")
    assert (again["status"], states(again)) == ("success", ["success", "success"])
    refused(world["bob"].post(f"/api/jobs/{number}/start"), 400)
    assert world["bob"].post(f"/api/jobs/{number}/cancel").json() == {}
    absent(world["jo"].get(f"/api/jobs/{number}"))
    absent(world.nobody.get(f"/api/jobs/{number}/manifest"))
    assert number not in [job["id"] for job in world["bob"].get("/api/jobs").json()["results"]]


REAL = """\
# The usual checks.
image: debian/stable
environment:
 PORT: 8080
 DEPTH: 1.50
 NAME: a-b-c
repositories:
  backports: >
    http://deb.example.org/debian
    stable main ABCDEF01
tasks:
 - set-up: |
     test "$PORT" = 8080
     test "$NAME" = a-b-c
 # comments anywhere
 - run-it_2: >-
     echo folded
     lines
"""


def test_case_37_manifests_of_the_real_world(world: World) -> None:
    """Taken as they are; another tool's file of the same name is refused."""
    found = world.submit(REAL, execute=False)
    assert [task["name"] for task in found["tasks"]] == ["set-up", "run-it_2"]
    assert world["jo"].get(f"/api/jobs/{found['id']}/manifest").content == REAL.encode()
    without = REAL.split("repositories")[0] + REAL[REAL.index("tasks:") :]
    assert world.run(without)["status"] == "success"
    other = "language: python\nscript:\n  - pytest\n"
    assert len(refused(world["jo"].post("/api/jobs", json={"manifest": other}), 400, "manifest")) == 2
