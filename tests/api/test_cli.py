"""The command line as people and programs use it, each verb in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.cli.client import Client
from api.cli.local import named_files
from specs import manifest
from tests.api.conftest import FINISHED, Api, build, steersman
from tests.support import PROJECT, SpecRepository, process

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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


def test_a_file_is_validated_among_those_around_it(tmp_path: Path) -> None:
    """What it names is found in its work tree, and only its own errors are told; outside of one it stands alone."""
    text = build("ok", "[{name: main, run: echo}]")
    specs = tmp_path / "specs"
    own = specs / "projects" / "shop" / "ok.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(text)
    (own.parent / "project.yaml").write_text(PROJECT)
    (own.parent / "other.yaml").write_text(build("other", "[{name: main, rnu: echo}]"))
    alone = steersman("validate", str(own))
    assert (alone.returncode, alone.stderr) == (1, "1 files, 1 resources, 1 errors\n")
    assert "Project/shop is not declared" in alone.stdout

    for folder in (tmp_path, specs):
        (folder / ".git").mkdir()
        found = steersman("validate", str(own))
        assert (found.returncode, found.stdout) == (0, "")
        assert found.stderr == "1 files, 1 resources, 0 errors\n"
    found = steersman("validate", "other.yaml", cwd=own.parent)
    assert found.returncode == 1
    assert re.fullmatch(r"other\.yaml:\d+:\d+: .*rnu.*\n", found.stdout)


def test_a_name_that_is_not_declared_is_told_with_the_nearest(tmp_path: Path) -> None:
    """Of the same kind and scope, where one is near; else which there are, where they are few."""
    (tmp_path / "project.yaml").write_text(PROJECT)
    header = "apiVersion: steersman/v1\nkind: Repository\n"
    (tmp_path / "repository.yaml").write_text(
        f"{header}metadata: {{name: website, project: shop}}\nspec: {{url: 'https://example.org/w.git'}}\n"
    )
    for name, told in (("wesbite", 'did you mean "website"?'), ("zzz", "known here: website")):
        (tmp_path / "ok.yaml").write_text(build("ok", "[{name: main, run: echo}]", f"  repo: {name}\n"))
        done = steersman("validate", str(tmp_path))
        assert done.stdout.endswith(f": Repository/shop/{name} is not declared; {told}\n")


def test_a_file_in_an_ignored_folder_stands_alone(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "project.yaml").write_text(PROJECT)
    own = tmp_path / "data" / "ok.yaml"
    own.parent.mkdir()
    (own.parent / ".gitignore").write_text("*\n")
    own.write_text(build("ok", "[{name: main, run: echo}]"))
    assert "Project/shop is not declared" in steersman("validate", str(own)).stdout


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


def test_what_git_ignores_whole_stays_where_it_is(api: Api, tmp_path: Path) -> None:
    """The data directory of a daemon started in the folder: its files are no specs, and no server is sent them."""
    (tmp_path / "project.yaml").write_text(PROJECT)
    (tmp_path / "b.yaml").write_text(build("b", "[{name: main, run_file: b.sh}]"))
    (tmp_path / "b.sh").write_text("echo b\n")
    (tmp_path / "other.txt").write_text("not named\n")
    data = tmp_path / "steersman-data"
    data.mkdir()
    (data / ".gitignore").write_text("*\n")
    (data / "admin.token").write_text("secret\n")
    (data / "checked-out.yaml").write_text("kind: Nothing\n")
    (data / "database").write_bytes(bytes(9 << 20))

    assert sorted(named_files(tmp_path)) == ["b.sh", "b.yaml", "project.yaml"]
    assert steersman("validate", str(tmp_path)).returncode == 0
    planned = api.cli("plan", "--path", str(tmp_path), "-o", "json")
    assert "Build/shop/_/b" in [each["key"] for each in json.loads(planned.stdout)["actions"]], planned.stderr


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
    assert (tmp_path / "out/sub/a.txt").read_text() == "data\n"


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


def test_a_job_of_an_earlier_specification_is_not_what_is_run_now(api: Api) -> None:
    """After it was mended, `why` names the verb that runs what is declared, and `retry` says that it does not."""
    key, name = "Build/shop/_/mended", "mended"
    api.repo.commit({"mended.yaml": build(name, "[{name: main, run: 'echo old; exit 3'}]")})
    assert api.cli("sync").returncode == 0
    number = api.run(name)["number"]
    assert f"`steersman retry {number}` runs it again" in sentence_of(api.cli("why", key))
    again = api.cli("retry", str(number))
    assert "earlier" not in again.stdout
    number = api.get("/reconciler/jobs", key=key, limit=1)["items"][0]["number"]
    api.running.job(number, *FINISHED)
    api.repo.commit({"mended.yaml": build(name, "[{name: main, run: 'echo new'}]")})
    assert api.cli("sync").returncode == 0
    told = sentence_of(api.cli("why", key))
    present = f"`steersman trigger {key}` runs the present one"
    assert f"job {number} failed (exit-status) with an earlier specification; {present}" in told
    assert "steersman retry" not in told
    again = api.cli("retry", str(number), "-f")
    assert f"it runs an earlier specification of {key}; {present}" in sentence_of(again)
    assert (again.returncode, "\nold\n" in again.stdout) == (2, True)
    assert api.run(name)["state"] == "passed"
    assert "LastJobFailed" not in api.cli("why", key).stdout
    made = json.loads(api.cli("retry", str(number), "-o", "json").stdout)
    assert (made["key"], made["outdated"]) == (key, True)
    api.repo.commit({"mended.yaml": None})
    assert api.cli("sync").returncode == 0
    made = json.loads(api.cli("retry", str(number), "-o", "json").stdout)
    assert (made["key"], made["outdated"]) == (key, False)


def sentence_of(done: subprocess.CompletedProcess[str]) -> str:
    """What is said on lines of any length."""
    return " ".join(done.stdout.split())


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
    """Exit 1 with a usage line, no traceback, never 2: there is something to do. What is not there is a sentence."""
    mistyped: tuple[tuple[str, ...], ...] = (
        ("nonsense",),
        ("logs", "x"),
        ("plan", "--nonsense"),
        ("--nonsense",),
        ("token", "nonsense"),
        ("why",),
    )
    for arguments in mistyped:
        done = steersman(*arguments, **NOWHERE)
        assert done.returncode == 1, arguments
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


FORGES = {
    "github": (".github/workflows/validate.yml", "https://github.com/team/specs.git"),
    "gitlab": (".gitlab-ci.yml", "git@gitlab.example.org:team/specs.git"),
    "forgejo": (".forgejo/workflows/validate.yml", "https://codeberg.org/team/specs"),
    "sourcehut": (".build.yml", "git@git.sr.ht:~team/specs"),
}


def test_init_changes_nothing_that_is_there(tmp_path: Path) -> None:
    """A second time it adds what is missing, and never brings back what was removed; foreign folders are refused."""
    folder = tmp_path / "specs"
    steersman("init", str(folder))
    build = folder / "projects/demo/builds/hello.yaml"
    build.write_text(build.read_text().replace("Hello", "Good morning"))
    (folder / "projects/demo/project.yaml").unlink()
    (folder / ".gitignore").write_text("mine\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    again = steersman("init", str(folder), "--forge", "github")

    assert again.returncode == 0, again.stderr
    assert f"wrote {folder}/.github/workflows/validate.yml" in again.stdout
    assert "add the line /steersman-data/" in again.stdout
    assert "serve" not in again.stdout
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert {str(path.relative_to(folder)) for path in after.keys() - before.keys()} == {FORGES["github"][0]}
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").touch()
    assert "not empty, it holds main.py" in sentence(steersman("init", str(code)))
    assert "is a file" in sentence(steersman("init", str(code / "main.py")))
    assert [path.name for path in code.rglob("*")] == ["main.py"]


@pytest.mark.parametrize("forge", FORGES)
def test_init_writes_the_job_of_the_forge(tmp_path: Path, forge: str) -> None:
    """As the remote says, or as asked; the job's own words fail without an address, and check as they should."""
    name, remote = FORGES[forge]
    folder = SpecRepository(tmp_path / "specs").path
    SpecRepository(folder).git("remote", "add", "origin", remote)
    made = steersman("init", str(folder))
    assert f"wrote {folder / name}" in made.stdout
    assert f"for {name}: set STEERSMAN_SOURCE" in made.stdout
    scripts = commands_of(yaml.safe_load((folder / name).read_text()))
    environment = {key: value for key, value in os.environ.items() if key != "STEERSMAN_SOURCE"}

    refused = run_in(folder, scripts[0], environment)
    assert refused.returncode != 0
    assert "STEERSMAN_SOURCE: set this variable" in refused.stderr

    check = scripts[-1].replace("/tmp/steersman/bin/", "").replace("cd ~/*/.steersman/..", "")
    program = {**environment, "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    assert run_in(folder, check, program).returncode == 0
    (folder / "projects/demo/bad.yaml").write_text("kind: Nothing\n")
    found = run_in(folder, check, program)
    assert found.returncode == 1
    assert ("::error file=" in found.stdout) == (forge == "github")

    (folder / name).write_text("# mine\n")
    assert "is there already" in sentence(steersman("init", str(folder)))
    assert (folder / name).read_text() == "# mine\n"
    assert steersman("init", str(folder), "--forge", "none").returncode == 0


def commands_of(job: dict[str, Any]) -> list[str]:
    """The shell texts of a job, in order."""
    if "jobs" in job:
        return [step["run"] for step in job["jobs"]["validate"]["steps"] if "run" in step]
    if "tasks" in job:
        return [text for task in job["tasks"] for text in task.values()]
    return list(job["validate"]["script"])


def run_in(folder: Path, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As a forge's runner does."""
    words = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_manifest_of_sourcehut_is_one(tmp_path: Path) -> None:
    """Our own reader of manifests takes it."""
    steersman("init", str(tmp_path), "--forge", "sourcehut")
    text = (tmp_path / ".build.yml").read_text()
    assert [task.name for task in manifest.parse(text).tasks] == ["install", "validate"]


SHELLS = {
    "bash": lambda words: {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)},
    "zsh": lambda words: {"_TYPER_COMPLETE_ARGS": words},
    "fish": lambda words: {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_is_offered_what_the_server_has(api: Api, shell: str) -> None:
    """KEYs, kinds and numbers of jobs, in the words of each shell."""
    number = str(api.run("ok")["number"])

    def offered(words: str, **more: str) -> str:
        done = api.cli(_STEERSMAN_COMPLETE=f"complete_{shell}", **SHELLS[shell](words), **more)
        assert done.stderr == ""
        return done.stdout

    assert "Build/shop/_/sleeps" in offered("steersman status Build/shop/_/sl")
    assert "Build/shop/_/ok" not in offered("steersman status Build/shop/_/sl")
    assert "Repository" in offered("steersman get Rep")
    assert "ApprovalRuleset" in offered("steersman schema App")
    assert number in offered("steersman logs ")
    assert "Build/shop/_/ok" in offered("steersman logs Build/shop/_/o")
    assert "Environment" not in offered("steersman trigger ")
    nothing = offered("steersman status Build/", STEERSMAN_SERVER="http://127.0.0.1:9")
    assert "Build" not in nothing
    assert "Build" not in offered("steersman status Build/", STEERSMAN_TOKEN="wrong")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_is_told_how_to_complete(shell: str) -> None:
    """The script that `--install-completion` puts into that shell's files."""
    done = steersman(_STEERSMAN_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout


def test_status_reads_like_the_overview(api: Api, tmp_path: Path) -> None:
    """What is wrong with file and line, what waits and for what, what runs, what is next; each in its part."""
    specs = SpecRepository(tmp_path / "specs")
    shutil.copytree(EXAMPLES / "10-release-safety" / "specs", specs.path, dirs_exist_ok=True)
    triggers = "  triggers: [{type: change}, {type: schedule, cron: '15 3 * * *'}]\n"
    files = {
        "bad.yaml": build("bad", "[{name: no, run: echo}]").replace("tasks:", "taks:"),
        "long.yaml": build("long", "[{name: main, run: sleep 600}]", triggers),
        "fails.yaml": build("fails", "[{name: main, run: exit 3}]", "  triggers: [{type: change}]\n"),
    }
    specs.commit(files)
    with process(specs.path, tmp_path / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        running.wait_for(lambda c: c.get("/reconciler/jobs?state=executing").json()["items"])
        running.wait_for(lambda c: c.get("/reconciler/approvals").json()["items"])
        running.wait_for(lambda c: c.get("/reconciler/jobs?state=failed").json()["items"])
        environment = {"STEERSMAN_SERVER": running.url, "STEERSMAN_TOKEN": running.token}
        at_work = "/reconciler/jobs?state=executing"
        running.wait_for(
            lambda c: [each["key"] for each in c.get(at_work).json()["items"]] == ["Build/shop/_/long"]
        )
        running.wait_for(
            lambda c: c.get("/reconciler/resources/Build/shop/_/fails").json()["health"] == "Degraded"
        )
        done = steersman("status", **environment)

        def shown(client: httpx.Client) -> Any:
            found = json.loads(steersman("status", "-o", "json", **environment).stdout)
            return found if found.items() >= client.get("/reconciler/status").json().items() else None

        as_json = running.wait_for(shown)  # all that is served

    assert done.returncode == 0, done.stderr
    head, *parts = re.split(r"\n\n(?=[A-Z])", done.stdout)
    told = {part.split("\n")[0]: part for part in parts}
    assert list(told) == ["Wrong", "Waits", "Runs", "Next"]
    assert f"main at {specs.head()[:12]}" in head
    assert "1 invalid" in head
    assert re.search(r'bad\.yaml:5:3 +unknown field "taks".* Build/shop/_/bad', told["Wrong"])
    assert re.search(r"fails\.yaml:1 .*did not pass.* Build/shop/_/fails", told["Wrong"])
    assert re.search(r"Deployment/shop/prod/shop/web +Approval +.*0 of 2 approvals", told["Waits"])
    assert re.search(r"\d+ +Build/shop/_/long +\d+s ago", told["Runs"])
    assert re.search(r"Build/shop/_/long +15 3 \* \* \* +in \d+", told["Next"])
    assert {fault["where"] for fault in as_json["wrong"]} == {"bad.yaml:5:3", "fails.yaml:1"}
    deploy = "Deployment/shop/prod/shop/web"
    assert (deploy, "Approval") in [(wait["key"], wait["reason"]) for wait in as_json["waits"]]
    assert [run["key"] for run in as_json["runs"]] == ["Build/shop/_/long"]
    assert as_json["next"][0]["key"] == "Build/shop/_/long"
    assert datetime.fromisoformat(as_json["next"][0]["starts"]) > datetime.now(UTC)


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
    assert api.client.get("/reconciler/resources", params={"kind": "Nothing"}).status_code == 400
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


def test_status_tells_what_people_are_asked_for(tmp_path: Path) -> None:
    """Removals to confirm, with the command that does; a run of a pipeline that waits for a decision."""
    specs = SpecRepository(tmp_path / "specs")
    ask = (
        "apiVersion: steersman/v1\nkind: Pipeline\nmetadata: {name: ask, project: shop}\n"
        "spec: {phases: [{name: ask, steps: [{type: confirmation, timeout_seconds: 86400}]}]}\n"
    )
    many = {f"b{i:02}.yaml": build(f"b{i:02}", "[{name: main, run: echo}]") for i in range(12)}
    specs.commit({"project.yaml": PROJECT, "ask.yaml": ask, **many})
    with process(specs.path, tmp_path / "data", STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        environment = {"STEERSMAN_SERVER": running.url, "STEERSMAN_TOKEN": running.token}
        assert steersman("sync", **environment).returncode == 0
        assert steersman("trigger", "Pipeline/shop/ask", **environment).returncode == 0
        specs.commit(dict.fromkeys(many))
        assert steersman("sync", **environment).returncode == 0
        running.wait_for(lambda c: c.get("/reconciler/why/Pipeline/shop/ask").json()["causes"])
        shown = steersman("status", **environment).stdout
        plan = steersman("plan", **environment)

    assert plan.returncode == 2
    assert plan.stdout.endswith("0 to create, 0 to update, 0 to delete, 12 held\n")
    assert "Build/shop/_/b09 and 2 more\n" in plan.stdout
    waits = shown.partition("\nWaits\n")[2]
    assert re.search(r"RemovalBrake +.*`steersman sync --confirm [0-9a-f]{16}`", waits)
    assert re.search(r"Pipeline/shop/ask +AwaitsConfirmation +run 1, step ask/confirmation", waits)
    assert "\nWrong\n" not in shown


def test_words_that_nothing_is_called_by_are_mistakes(api: Api) -> None:
    """And not an empty list, which a program would take for good news; the nearest word is named."""
    for arguments, told in (
        (("jobs", "--state", "failing"), "there is no state of a job 'failing'"),
        (("get", "builds"), "there is no kind 'builds'; did you mean \"Build\"?"),
        (("get", "Build", "--health", "Sick"), "there is no health 'Sick'"),
        (("get", "Build", "--sync", "Nope"), "there is no state of sync 'Nope'"),
    ):
        assert told in sentence(api.cli(*arguments)), arguments


def test_a_token_that_is_not_known_is_told_apart_from_none(api: Api) -> None:
    assert "this token is not known here" in sentence(api.cli("jobs", STEERSMAN_TOKEN="mistyped"))
    assert "this token" not in api.client.get("/reconciler/jobs", headers={"Authorization": ""}).text


def test_a_plan_shows_the_lines_that_differ(api: Api) -> None:
    """Of a long script; what is short stays in one line."""
    api.repo.git("checkout", "-q", "-b", "other-lines")
    text = (api.repo.path / "slow.yaml").read_text()
    api.repo.commit({"slow.yaml": text.replace("seq 1 40", "seq 1 41").replace("allow", "replace")})
    api.repo.git("checkout", "-q", "main")
    shown = api.cli("plan", "--ref", "other-lines").stdout
    assert "concurrency: allow → replace" in shown
    assert [line.strip()[:2] for line in shown.splitlines() if "seq 1 4" in line] == ["- ", "+ "]


def test_who_follows_a_job_that_waits_is_told_for_what(api: Api) -> None:
    """So it is in the table of what waits."""
    number = api.trigger("waiting")
    command = [sys.executable, "-c", "from api.cli import main; main()", "logs", str(number), "-f"]
    environment = {**os.environ, "STEERSMAN_SERVER": api.url, "STEERSMAN_TOKEN": api.running.token}
    following = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert following.stderr is not None
        line = following.stderr.readline()
        assert line.startswith(f"job {number} waits: ")
        assert "gpu" in line
        assert f"job {number} waits: " in api.cli("status").stdout
    finally:
        api.client.post(f"/reconciler/jobs/{number}/cancel")
        following.wait(20)
        assert following.stderr is not None
        following.stderr.close()


def test_all_that_is_declared_is_listed_page_by_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind where none is named, as the sentence about what is not there says; a full page is not the end."""
    declared = {item["key"] for item in api.get("/reconciler/resources")["items"]}
    told = sentence(api.cli("why", "Build/shop/_/nothing"))
    assert "`steersman get` lists those there are" in told
    get = Client.get
    monkeypatch.setattr(Client, "get", lambda self, path, **given: get(self, path, **{"limit": 4} | given))
    shown = {line.split()[0] for line in api.cli("get").stdout.splitlines()[1:]}
    assert shown == declared
    body = json.loads(api.cli("get", "-o", "json").stdout)
    assert ({item["key"] for item in body["items"]}, body["total"]) == (declared, len(declared))


def test_the_newest_events_are_shown(api: Api) -> None:
    """Oldest first; from the first on only for who asks what came after a number."""
    api.run("ok")
    api.run("two")
    last = api.get("/reconciler/events", limit=1000)["items"]
    newest = json.loads(api.cli("events", "--limit", "3", "-o", "json").stdout)
    assert newest == {"items": last[-3:], "next": None}
    first = json.loads(api.cli("events", "--after", "0", "--limit", "3", "-o", "json").stdout)
    assert first["items"] == last[:3]
    assert api.cli("events", "--limit", "1").stdout.splitlines()[1].split()[0] == str(last[-1]["seq"])
    of_ok = api.get("/reconciler/events", newest=True, key="Build/shop/_/ok", limit=1)["items"][0]
    assert (of_ok["key"], of_ok["kind"]) == ("Build/shop/_/ok", "job-finished")


def test_how_long_a_job_took_is_told(api: Api) -> None:
    """In the list, and by try; nothing for what has not begun."""
    number = str(api.run("slow")["number"])
    listed = next(line for line in api.cli("jobs").stdout.splitlines() if line.startswith(number))
    assert re.search(r" \d+\.\ds *$", listed)
    assert re.search(r"#1 +passed +- +0 +\d+\.\ds", api.cli("job", number).stdout)
    waiting = api.trigger("waiting")
    try:
        listed = next(line for line in api.cli("jobs").stdout.splitlines() if line.startswith(str(waiting)))
        assert re.search(r" ago *$", listed)
    finally:
        api.client.post(f"/reconciler/jobs/{waiting}/cancel")


def test_an_attachment_that_is_not_there_leaves_no_file(api: Api, tmp_path: Path) -> None:
    """Nor does it empty one that is: what lies there stays until the whole of the new one has come."""
    number = str(api.run("files")["number"])
    (tmp_path / "a.txt").write_text("mine\n")
    for path in ("a.txt", "other/a.txt"):
        assert "NoSuchAttachment" in sentence(api.cli("attachments", number, path, "--to", str(tmp_path)))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "mine\n")]
    assert api.cli("attachments", number, "out/sp ace.txt", "--to", str(tmp_path)).returncode == 0
    assert _files(tmp_path) == ["a.txt", "out/sp ace.txt"]


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_attachments_are_fetched_by_patterns_with_their_folders(api: Api, tmp_path: Path) -> None:
    """A file of the very name comes first; without any nothing is made."""
    tasks = (
        "[{name: t, attachments: ['**/*.txt'], run: \"mkdir -p r/sub; echo 1 > report1.txt; echo 2 > report2.txt; "
        "echo 3 > r/report3.txt; echo 4 > r/sub/b.txt; echo 5 > 'r/[a].txt'; echo 6 > r/a.txt\"}]"
    )
    api.repo.commit({"reports.yaml": build("reports", tasks)})
    assert api.cli("sync").returncode == 0
    number = str(api.run("reports")["number"])
    for pattern, wanted in {
        "report*": ["report1.txt", "report2.txt"],
        "r/**": ["r/[a].txt", "r/a.txt", "r/report3.txt", "r/sub/b.txt"],
        "r/sub/b.txt": ["r/sub/b.txt"],
        "r/[a].txt": ["r/[a].txt"],
        "r/[b-z]*": ["r/report3.txt"],
    }.items():
        to = tmp_path / str(len(list(tmp_path.iterdir())))
        done = api.cli("attachments", number, pattern, "--to", str(to))
        assert done.returncode == 0, done.stderr
        assert (_files(to), sorted(done.stdout.split())) == (wanted, [f"{to}/{path}" for path in wanted])
    assert (to / "r/report3.txt").read_text() == "3\n"
    told = json.loads(api.cli("attachments", number, "report*", "--to", str(to), "-o", "json").stdout)
    assert told == {"paths": [f"{to}/report1.txt", f"{to}/report2.txt"]}
    nothing = api.cli("attachments", number, "none*", "--to", str(tmp_path / "nothing"))
    assert f"job {number} keeps nothing that fits 'none*'" in sentence(nothing)
    assert not (tmp_path / "nothing").exists()
    api.repo.commit({"reports.yaml": None})
    assert api.cli("sync").returncode == 0


def test_an_attachment_never_lies_outside_of_its_folder(api: Api, tmp_path: Path) -> None:
    """Neither by its path nor by a link that lies there."""
    number = str(api.run("files")["number"])
    to, outside = tmp_path / "to", tmp_path / "outside"
    to.mkdir()
    outside.mkdir()
    (to / "out").symlink_to(outside)
    for path in ("out/sub/a.txt", "out/**", "../a.txt", "x/../../a.txt", "x/../a.txt", ""):
        assert "outside of" in sentence(api.cli("attachments", number, path, "--to", str(to))), path
    assert (_files(outside), list(outside.iterdir())) == ([], [])


def test_each_row_of_a_matrix_has_its_attachment(api: Api, tmp_path: Path) -> None:
    """The rows keep files of one path; the task says whose."""
    rows = "[{name: row, matrix: {n: [a, b]}, attachments: [n.txt], run: 'echo $MATRIX_N > n.txt'}]"
    api.repo.commit({"rows.yaml": build("rows", rows)})
    assert api.cli("sync").returncode == 0
    number = str(api.run("rows")["number"])
    for row in ("a", "b"):
        own = ("--task", f"row-{row}")
        (listed,) = json.loads(api.cli("attachments", number, *own, "-o", "json").stdout)["items"]
        assert listed["task"] == f"row-{row}"
        assert api.cli("attachments", number, "n.txt", *own, "--to", str(tmp_path)).returncode == 0
        assert (tmp_path / "n.txt").read_text() == f"{row}\n"
    assert "NoSuchAttachment" in sentence(api.cli("attachments", number, "n.txt", "--task", "row-c"))
    api.repo.commit({"rows.yaml": None})
    assert api.cli("sync").returncode == 0


def test_who_starts_what_is_wrong_in_git_is_told(api: Api) -> None:
    """The last good specification runs, which is not what the person has just pushed."""
    api.repo.commit({"stale.yaml": build("stale", "[{name: main, run: echo old}]")})
    assert api.cli("sync").returncode == 0
    assert "last good" not in api.cli("trigger", "Build/shop/_/stale", "-f").stderr
    api.repo.commit({"stale.yaml": build("stale", "[{name: main, rnu: echo new}]")})
    assert api.cli("sync").returncode == 0
    done = api.cli("trigger", "Build/shop/_/stale", "-f")
    assert done.stdout.endswith("\nold\n")
    assert (
        "Build/shop/_/stale is wrong in Git, and its last good specification runs: stale.yaml:5:2"
        in done.stderr
    )
    api.repo.commit({"stale.yaml": None})
    assert api.cli("sync").returncode == 0


def test_a_plan_says_what_the_branch_lacks(api: Api) -> None:
    """What main has got since shows as taken back, which a merge would not do; to go back does just that."""
    api.repo.git("checkout", "-q", "-b", "begun-early")
    api.repo.commit({"early.yaml": build("early", "[{name: main, run: echo}]")})
    api.repo.git("checkout", "-q", "main")
    before = api.repo.head()
    abreast = api.cli("plan", "--ref", "begun-early", "-o", "json")
    assert json.loads(abreast.stdout)["behind"] == 0
    api.repo.commit({"since.yaml": build("since", "[{name: main, run: echo}]")})
    assert api.cli("sync").returncode == 0
    done = api.cli("plan", "--ref", "begun-early")
    assert "- Build/shop/_/since" in done.stdout
    assert "begun-early lacks 1 commit of the followed branch" in done.stderr
    assert "lacks" not in done.stdout
    back = api.cli("plan", "--ref", before)
    assert ("- Build/shop/_/since" in back.stdout, back.stderr) == (True, "")
    assert "lacks" not in api.cli("plan").stderr
    api.repo.commit({"since.yaml": None})
    assert api.cli("sync").returncode == 0
    assert "lacks 2 commits" in api.cli("plan", "--ref", "begun-early").stderr


def test_what_a_job_failed_by_is_named(api: Api) -> None:
    """While it runs, what stands behind what runs longer; at its end, the tasks that failed, and where to read on."""
    tasks = "[{name: long, run: 'echo up; sleep 600'}, {name: short, run: 'sleep 0.2; echo oops; exit 3'}]"
    api.repo.commit({"both.yaml": build("both", tasks)})
    assert api.cli("sync").returncode == 0
    number = api.trigger("both")

    def short_has_failed(client: httpx.Client) -> bool:
        found = client.get(f"/reconciler/jobs/{number}").json()["tasks"]
        return [task["state"] for task in found] == ["executing", "failed"]

    api.running.wait_for(short_has_failed)
    behind = f"long still runs, and behind it come short: steersman logs {number} --task NAME\n"
    shown = api.cli("logs", str(number))
    assert ("oops" in shown.stdout, shown.stderr) == (False, behind)
    found = api.cli("logs", str(number), "--search", "oops")
    assert (found.returncode, found.stdout, found.stderr) == (1, "", behind)
    of_one = api.cli("logs", str(number), "--task", "short")
    assert (of_one.stdout, of_one.stderr) == ("oops\n", "")
    assert api.cli("cancel", str(number)).returncode == 0
    done = api.cli("logs", str(number), "-f")
    assert (done.returncode, done.stdout.count("oops")) == (2, 1)
    assert f"\n  task short failed (exit-status): steersman logs {number} --task short\n" in done.stderr
    assert "behind" not in api.cli("logs", str(number)).stderr
    api.repo.commit({"both.yaml": None})
    assert api.cli("sync").returncode == 0


def test_a_failure_that_is_ignored_is_told_apart(api: Api) -> None:
    """The job passes without the task: it is no part of what a job failed by, and says so."""
    tasks = "[{name: lax, ignore_failure: true, run: exit 4}, {name: main, needs: [lax], when: always, run: exit %d}]"
    api.repo.commit({"lax.yaml": build("lax", tasks % 0)})
    assert api.cli("sync").returncode == 0
    passed = api.run("lax")
    assert passed["state"] == "passed"
    lines = [" ".join(line.split()) for line in api.cli("job", str(passed["number"])).stdout.splitlines()]
    assert "lax failed exit-status ignored: the job passes without it" in lines
    assert "main passed -" in lines
    tasks_of = api.get(f"/reconciler/jobs/{passed['number']}")["tasks"]
    assert [(task["name"], task["ignore_failure"]) for task in tasks_of] == [("lax", True), ("main", False)]
    page = api.client.get(f"/ui/jobs/{passed['number']}").text
    assert "failed: ignored" in page
    api.repo.commit({"lax.yaml": build("lax", tasks % 5)})
    assert api.cli("sync").returncode == 0
    told = api.cli("trigger", "Build/shop/_/lax", "-f").stderr
    assert "task main failed" in told
    assert "task lax" not in told
    api.repo.commit({"lax.yaml": None})
    assert api.cli("sync").returncode == 0


def test_jobs_of_a_project_or_a_branch(api: Api) -> None:
    """By the command line as over HTTP."""
    number = api.run("ok")["number"]
    for given, has in (
        (("--project", "shop"), True),
        (("--project", "tools"), False),
        (("--branch", "main"), False),  # it has no repository
    ):
        items = json.loads(api.cli("jobs", *given, "-o", "json").stdout)["items"]
        assert (number in [item["number"] for item in items]) == has, given
    assert (
        api.get("/reconciler/jobs", project="shop", key="Build/shop/_/ok", limit=1)["items"][0]["number"]
        == number
    )


def test_a_key_stands_for_its_newest_job(api: Api) -> None:
    """In verbs that look at a job; which one it is, is told beside."""
    api.run("files")
    number = api.run("files")["number"]
    for verb in (("job",), ("logs",), ("attachments",), ("logs", "-f")):
        named = api.cli(*verb, "Build/shop/_/files")
        assert (named.returncode, named.stderr.splitlines()[0]) == (0, f"job {number}"), verb
        assert named.stdout == api.cli(*verb, str(number)).stdout, verb
    body = json.loads(api.cli("job", "Build/shop/_/files", "-o", "json").stdout)
    assert body["number"] == number
    assert "no job of Build/shop/_/never" in sentence(api.cli("logs", "Build/shop/_/never"))


def test_the_newest_job_of_a_key_is_ended_and_run_again(api: Api) -> None:
    """Which one it is, is told beside; the one before it goes on."""
    key = "Build/shop/_/sleeps"
    before, newest = api.trigger("sleeps"), api.trigger("sleeps")
    made = newest
    try:
        ended = api.cli("cancel", key)
        assert (ended.returncode, ended.stderr) == (0, f"job {newest}\n")
        assert f"job {newest} is being ended" in ended.stdout
        api.running.job(newest, "aborted")
        late = api.cli("cancel", key)
        assert (late.returncode, f"job {newest} has aborted already" in late.stderr) == (1, True)
        again = api.cli("retry", key, "-o", "json")
        made = json.loads(again.stdout)["number"]
        assert again.stderr == f"job {newest}\n"
        assert api.get(f"/reconciler/jobs/{made}")["key"] == key
        assert not api.get(f"/reconciler/jobs/{before}")["state"].startswith("abort")
        for verb in ("cancel", "retry"):
            assert "no job of Build/shop/_/never" in sentence(api.cli(verb, "Build/shop/_/never"))
            assert "KEY" in api.cli(verb, "sleeps").stderr
    finally:
        for number in {before, newest, made}:
            api.client.post(f"/reconciler/jobs/{number}/cancel")


def test_jobs_are_listed_by_several_states(api: Api) -> None:
    """As one word with commas; each of them must be a state."""
    failed, passed = api.run("fails")["number"], api.run("ok")["number"]
    listed = json.loads(api.cli("jobs", "--state", "failed,passed", "-o", "json").stdout)["items"]
    assert [job["number"] for job in listed[:2]] == [passed, failed]
    assert {job["state"] for job in listed} == {"failed", "passed"}
    assert "there is no state of a job 'lost'" in sentence(api.cli("jobs", "--state", "failed,lost"))
