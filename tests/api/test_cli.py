"""The command line as people and programs use it, each verb in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api, build, steersman
from tests.support import PROJECT, SpecRepository, process

NOWHERE = {"STEERSMAN_SERVER": "http://127.0.0.1:9", "STEERSMAN_TOKEN": "x"}


def sentence(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """One line on standard error, nothing on standard output, no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("steersman: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 1,000 files, every tenth of which is broken in one of five ways."""
    folder = tmp_path_factory.mktemp("thousand")
    (folder / "project.yaml").write_text(PROJECT)
    for i in range(999):
        text = build(f"b{i}", "[{name: main, run: echo}]")
        if i % 10 == 0:
            text = (
                text.replace("tasks:", "taks:"),
                text + "  tasks: []\n",
                text.replace("kind: Build", "kind: Built"),
                text.replace("spec:\n", "spec:\n  repo: nowhere\n"),
                text + "}\n",
            )[i // 10 % 5]
        place = folder / f"part{i % 7}" / f"b{i}.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    return folder


def broken(folder: Path) -> set[str]:
    """The files of `thousand` that are broken."""
    return {str(folder / f"part{i % 7}" / f"b{i}.yaml") for i in range(0, 999, 10)}


def test_validate_tells_every_error_of_a_thousand_files(thousand: Path) -> None:
    """Exit 1; each broken file with line and column, no good one; a count on standard error."""
    done = steersman("validate", str(thousand))
    assert done.returncode == 1
    places = [re.fullmatch(r"(.+\.yaml):(\d+):(\d+): (.+)", line) for line in done.stdout.splitlines()]
    assert all(places)
    assert {place[1] for place in places if place} == broken(thousand)
    assert "1000 files" in done.stderr
    assert f"{len(places)} errors" in done.stderr


def test_validate_speaks_json_and_github(thousand: Path) -> None:
    """The same errors in both forms, each annotation one line."""
    found = steersman("validate", str(thousand), "--format", "json")
    assert found.returncode == 1
    errors = json.loads(found.stdout)
    assert {error["path"] for error in errors} == broken(thousand)
    assert all(error["line"] >= 1 and error["column"] >= 1 and error["message"] for error in errors)
    done = steersman("validate", str(thousand), "--format", "github")
    assert done.returncode == 1
    lines = [
        re.fullmatch(r"::error file=(.+),line=(\d+),col=(\d+)::(.+)", x) for x in done.stdout.splitlines()
    ]
    assert [(line[1], int(line[2]), int(line[3])) for line in lines if line] == [
        (error["path"], error["line"], error["column"]) for error in errors
    ]


def test_validate_of_a_clean_folder_is_silent(tmp_path: Path) -> None:
    """Exit 0, nothing on standard output, an empty list as JSON; a folder that is not there is a sentence."""
    (tmp_path / "project.yaml").write_text(PROJECT)
    done = steersman("validate", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(steersman("validate", str(tmp_path), "--format", "json").stdout) == []
    assert str(tmp_path / "x") in sentence(steersman("validate", str(tmp_path / "x")))


def test_plan_exits_0_2_and_1(api: Api, tmp_path: Path) -> None:
    """Nothing to do, something to do, an error; for the branch, a ref, a folder, and a folder offline."""
    clean = api.cli("plan", "--output", "json")
    body = json.loads(clean.stdout)
    assert (clean.returncode, body["actions"]) == (1, [])  # the branch holds a file with an error
    assert [e["location"] for e in body["errors"]] == ["invalid.yaml:5:24"]
    api.repo.git("checkout", "-q", "-b", "proposal")
    files = {"invalid.yaml": None, "new.yaml": build("new", "[{name: main, run: echo}]"), "ok.yaml": None}
    api.repo.commit(files)
    api.repo.git("checkout", "-q", "main")
    done = api.cli("plan", "--ref", "proposal", "--output", "json")
    actions = [(a["action"], a["key"]) for a in json.loads(done.stdout)["actions"]]
    assert (done.returncode, actions) == (
        2,
        [("create", "Build/shop/_/new"), ("delete", "Build/shop/_/ok")],
    )
    assert "+ Build/shop/_/new" in api.cli("plan", "--ref", "proposal").stdout
    assert "NoSuchRef" in sentence(api.cli("plan", "--ref", "nothing"))
    (tmp_path / "project.yaml").write_text(PROJECT)
    offline = steersman("plan", "--path", str(tmp_path), "--offline", "--output", "json")
    assert (offline.returncode, [a["key"] for a in json.loads(offline.stdout)["actions"]]) == (
        2,
        ["Project/shop"],
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert steersman("plan", "--path", str(empty), "--offline").returncode == 0


def test_plan_of_files_over_http(api: Api) -> None:
    """`files` are the whole of the specs; bad ones give errors, not a refusal; `ref` and `files` exclude each other."""
    good = api.client.post("/reconciler/plan", json={"files": {"project.yaml": PROJECT}})
    assert good.status_code == 200
    assert len(good.json()["digest"]) > 10
    held = good.json()["held"]
    assert [h["reason"] for h in held] == ["RemovalBrake"]
    bad = api.client.post("/reconciler/plan", json={"files": {"project.yaml": PROJECT, "a.yaml": "x: ["}})
    assert bad.json()["errors"][0]["location"].startswith("a.yaml:")
    for body in ({}, {"ref": "main", "files": {}}):
        assert api.client.post("/reconciler/plan", json=body).status_code == 400
    assert api.client.post("/reconciler/plan", json={"ref": "--upload-pack=x"}).status_code in (404, 409, 422)


def test_trigger_follows_to_the_end(api: Api) -> None:
    """`-f` prints the log and exits 0 when it passed, 2 when it did not; `logs` gives the same again."""
    done = api.cli("trigger", "Build/shop/_/ok", "-f")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("hello\nwörld\n")
    number = re.search(r"job (\d+)", done.stdout)[1]  # type: ignore[index]
    assert f"job {number} passed" in done.stderr
    assert api.cli("logs", number).stdout == "hello\nwörld\n"
    assert api.cli("logs", number, "--offset", "6").stdout == "wörld\n"
    assert api.cli("logs", number, "-f").stdout == "hello\nwörld\n"
    failed = api.cli("trigger", "Build/shop/_/fails", "-f")
    assert (failed.returncode, "failed" in failed.stderr) == (2, True)
    given = api.cli("trigger", "Build/shop/_/inputs", "-i", "where=here", "-i", "text=a=b", "-f")
    assert given.stdout.endswith("here a=b\n")
    assert "NAME=VALUE" in sentence(api.cli("trigger", "Build/shop/_/inputs", "-i", "where"))
    assert "UnknownInput" in sentence(api.cli("trigger", "Build/shop/_/ok", "-i", "x=1"))


def test_every_verb_speaks_json(api: Api, tmp_path: Path) -> None:
    """What programs read can be parsed, whatever the verb."""
    number = str(api.run("files")["number"])
    running = str(api.trigger("sleeps"))
    made = json.loads(api.cli("token", "create", "x", "-o", "json").stdout)
    verbs: list[tuple[str, ...]] = [
        ("status",),
        ("status", "Build/shop/_/ok"),
        ("get", "Build"),
        ("get", "Build/shop/_/ok"),
        ("plan",),
        ("sync",),
        ("why", "Build/shop/_/fails"),
        ("schedules",),
        ("events", "--limit", "3"),
        ("trigger", "Build/shop/_/ok"),
        ("jobs", "--limit", "2"),
        ("job", number),
        ("retry", number),
        ("cancel", running),
        ("attachments", number),
        ("attachments", number, "out/sub/a.txt", "--to", str(tmp_path)),
        ("token", "list"),
        ("token", "revoke", made["id"]),
        ("audit", "verify"),
        ("migrate", "--data", str(tmp_path / "data")),
        ("init", str(tmp_path / "new")),
    ]
    for verb in verbs:
        done = api.cli(*verb, "--output", "json")
        assert done.returncode in (0, 1, 2), (verb, done.stderr)
        assert isinstance(json.loads(done.stdout), (dict, list)), verb
    assert (tmp_path / "a.txt").read_text() == "data\n"


def test_verbs_speak_to_people(api: Api) -> None:
    """Tables with what matters in them; a job, a resource and why something does not run."""
    number = str(api.run("fails")["number"])
    expected: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("status",), ("specs", "invalid.yaml:5:24", "1 invalid")),
        (("status", "Build/shop/_/never"), ("Invalid", "invalid.yaml:5:24", "did you mean")),
        (("get", "Build", "--health", "Degraded"), ("Build/shop/_/fails", "fails.yaml:1")),
        (("get", "Repository"), ("no Repository",)),
        (("job", number), ("failed", "main", "3")),
        (("jobs", "--state", "failed"), ("Build/shop/_/fails", "manual")),
        (("why", "Build/shop/_/fails"), ("LastJobFailed", f"job {number} failed")),
        (("why", "Project/shop"), ("nothing stands in the way",)),
        (("schedules",), ("Build/shop/_/daily", "30 4 * * *", "Europe/Amsterdam")),
        (("audit", "verify"), ("sound",)),
        (("token", "list"), ("administrator",)),
        (("events",), ("revision-applied",)),
    ]
    for verb, words in expected:
        done = api.cli(*verb)
        assert done.returncode == 0, (verb, done.stderr)
        assert [word for word in words if word not in done.stdout] == [], (verb, done.stdout)


def test_may_i_and_why_not(api: Api) -> None:
    """The administrator may all; a token that only reads is told what it takes."""
    assert api.cli("can", "edit", "Build/shop/_/ok").stdout == "yes\n"
    secret = api.token("read")["token"]
    refused = api.cli("can", "edit", "Build/shop/_/new", STEERSMAN_TOKEN=secret)
    assert (refused.returncode, refused.stdout[:4]) == (2, "no: ")
    assert "takes the role write on project shop; you have read" in " ".join(refused.stdout.split())
    assert "User/admin" in api.cli("whoami", STEERSMAN_TOKEN=secret).stdout
    assert "is not a verb" in sentence(api.cli("can", "fly", "Build/shop/_/ok"))


def test_a_token_is_made_and_ended_on_the_command_line(api: Api) -> None:
    """The secret alone is printed; revoked, it opens nothing, and the sentence says what to do."""
    secret = api.cli("token", "create", "ci", "--level", "read").stdout.strip()
    assert api.cli("status", STEERSMAN_TOKEN=secret).returncode == 0
    refused = sentence(api.cli("sync", STEERSMAN_TOKEN=secret))
    assert "takes the role write" in refused
    listed = json.loads(api.cli("token", "list", "-o", "json").stdout)["items"]
    mine = next(item for item in listed if item["name"] == "ci")
    assert api.cli("token", "revoke", mine["id"]).returncode == 0
    assert "--token" in sentence(api.cli("status", STEERSMAN_TOKEN=secret))


@pytest.mark.parametrize(
    "verb",
    [
        ("status",),
        ("get", "Build"),
        ("sync",),
        ("logs", "1"),
        ("logs", "1", "-f"),
        ("trigger", "x"),
        ("plan",),
    ],
)
def test_a_server_that_is_not_there_is_a_sentence(verb: tuple[str, ...]) -> None:
    """It names the address and the flag."""
    text = sentence(steersman(*verb, **NOWHERE))
    assert "127.0.0.1:9" in text
    assert "--server" in text


@pytest.mark.parametrize("server", ["127.0.0.1:9", "ftp://x", "http://", "http://[", "nonsense"])
def test_an_address_that_is_none_is_a_sentence(server: str) -> None:
    """No traceback for what somebody mistyped."""
    sentence(steersman("status", STEERSMAN_SERVER=server, STEERSMAN_TOKEN="x"))


def test_what_is_no_verb_is_told(api: Api) -> None:
    """Exit 2 with a usage line, no traceback; a job that is not there is a sentence."""
    for arguments in (("nonsense",), ("logs", "x"), ("status", "--nonsense"), ("token", "nonsense")):
        done = steersman(*arguments, **NOWHERE)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "Usage" in done.stderr
    for verb in ("job", "logs", "cancel", "retry"):
        assert "NoSuchJob" in sentence(api.cli(verb, "987654"))
    assert "NoSuchResource" in sentence(api.cli("status", "Build/shop/_/nothing"))
    assert "Build" in sentence(steersman("schema", "Buidl"))


def test_schema_is_a_json_schema(api: Api) -> None:
    """Of a file and of each kind; the served one is the same, and takes what is good."""
    from jsonschema import Draft202012Validator

    whole = json.loads(steersman("schema").stdout)
    Draft202012Validator.check_schema(whole)
    assert api.get("/reconciler/schema.json") == whole
    assert Draft202012Validator(whole).is_valid(
        {"apiVersion": "steersman/v1", "kind": "Project", "metadata": {"name": "shop"}}
    )
    assert not Draft202012Validator(whole).is_valid({"apiVersion": "steersman/v1", "kind": "Nothing"})
    Draft202012Validator.check_schema(json.loads(steersman("schema", "Build").stdout))


def test_metrics_can_be_read_by_prometheus(api: Api) -> None:
    """Every line parses; resources, jobs and the source are counted."""
    from prometheus_client.parser import text_string_to_metric_families

    answer = api.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert {"steersman_resources", "steersman_jobs", "steersman_source_up"} <= families.keys()
    builds = [s for s in families["steersman_resources"].samples if s.labels["kind"] == "Build"]
    assert sum(sample.value for sample in builds) >= 9
    assert families["steersman_source_up"].samples[0].value == 1


def test_init_makes_a_repository_that_serve_runs(tmp_path: Path) -> None:
    """`init`, the commands that it prints, `serve`: the first job passes."""
    folder = tmp_path / "specs"
    done = steersman("init", str(folder))
    assert done.returncode == 0
    assert "git init" in done.stdout
    assert steersman("validate", str(folder)).returncode == 0
    repo = SpecRepository(folder)
    repo.commit()
    with process(folder, tmp_path / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        assert running.job(1, "passed", "failed", "defective")["state"] == "passed"
        mode = (tmp_path / "data" / "admin.token").stat().st_mode
        assert mode & 0o777 == 0o600
    assert "not empty" in sentence(steersman("init", str(folder)))


def test_the_token_of_a_near_daemon_is_found(api: Api, tmp_path: Path) -> None:
    """From the folder in which `serve` was started, no token needs to be given."""
    (tmp_path / "steersman-data").mkdir()
    (tmp_path / "steersman-data" / "admin.token").write_text(api.running.token + "\n")
    done = steersman("status", cwd=tmp_path, STEERSMAN_SERVER=api.url)
    assert done.returncode == 0, done.stderr


def test_filters_and_pages_of_resources(api: Api) -> None:
    """By kind, project, environment, sync and health; `next` leads through all by KEY."""

    def keys(**params: Any) -> list[str]:
        return [item["key"] for item in api.get("/reconciler/resources", **params)["items"]]

    assert keys(kind="Environment") == ["Environment/shop/staging"]
    assert keys(project="tools") == ["Project/tools"]
    assert keys(health="Missing") == ["Build/shop/_/never"]
    assert set(keys(sync="Synced")) == set(keys()) - {"Build/shop/_/never"}
    assert keys(kind="Nothing") == []
    found: list[str] = []
    after = None
    while True:
        page = api.get("/reconciler/resources", limit=3, **({"after": after} if after else {}))
        found += [item["key"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == sorted(keys())
    one = api.get("/reconciler/resources/Build/shop/_/ok")
    assert (one["location"], one["generation"], one["observed_generation"]) == ("ok.yaml:1", 1, 1)
    assert one["origins"]["tasks"].startswith("ok.yaml:")


def test_schedules_are_served_with_their_next_times(api: Api) -> None:
    """Five times in UTC, each at half past four in Amsterdam."""
    (item,) = api.get("/reconciler/schedules")["items"]
    assert (item["key"], item["cron"], item["timezone"]) == (
        "Build/shop/_/daily",
        "30 4 * * *",
        "Europe/Amsterdam",
    )
    assert len(item["next"]) == 5
    assert all(moment[11:16] in ("02:30", "03:30") for moment in item["next"])
    assert api.get("/reconciler/status")["schedules"] == {"total": 1, "next": item["next"][0]}


def test_sync_is_202_when_the_wait_runs_out(api: Api) -> None:
    """With what there is so far; 200 otherwise; a body is not needed."""
    assert api.client.post("/reconciler/sync").status_code == 200
    assert api.client.post("/reconciler/sync", params={"wait": 0}).status_code == 202
    for wait in ("-1", "301", "x", "nan", "inf"):
        assert api.client.post("/reconciler/sync", params={"wait": wait}).status_code == 400, wait
    wrong = api.client.post("/reconciler/sync", json={"confirm": "0" * 16})
    assert wrong.status_code == 409


def test_a_closed_pipe_is_no_traceback(api: Api) -> None:
    """`steersman … | head` ends quietly."""
    environment = os.environ | {"STEERSMAN_SERVER": api.url, "STEERSMAN_TOKEN": api.running.token}
    script = f"{os.sys.executable} -c 'from api.cli import main; main()' events -o json | head -c 1"
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
