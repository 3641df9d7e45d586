"""The examples are what they say: valid, with the plan they print, and the demo runs whole."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from typer.testing import CliRunner

from api.cli import app
from api.cli.starter import write_starter
from reconciler.execution import sandbox
from specs.schema import file_schema
from tests.examples.containers import IMAGE, need_image
from tests.roots import CONTAINER_ARGUMENTS
from tests.support import Process, SpecRepository, process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ALL = sorted(folder.name for folder in EXAMPLES.iterdir() if re.match(r"\d\d-", folder.name))
REGENERATE = "run `make examples` and look at the difference"


def steersman(*words: str) -> tuple[int, str]:
    """Exit status and standard output of the command line."""
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.stdout


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Import one of the programs beside the examples, as Python does when it is run."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(EXAMPLES))
        for own in ("repositories", "run", "demo"):
            monkeypatch.delitem(sys.modules, own, raising=False)
        return importlib.import_module(name)

    return load


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ("git", "-C", folder, *words), capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_examples_are_numbered_without_a_gap():
    assert [f"{number:02}" for number in range(1, len(ALL) + 1)] == [name[:2] for name in ALL]


@pytest.mark.parametrize("name", ALL)
def test_an_example_is_valid(name: str):
    assert steersman("validate", str(EXAMPLES / name / "specs"), "--format", "json") == (0, "[]\n")


@pytest.mark.parametrize("name", ALL)
def test_an_example_has_the_plan_that_it_prints(name: str):
    status, printed = steersman("plan", "--path", str(EXAMPLES / name / "specs"), "--offline")

    assert status == 2  # there is something to do
    assert (EXAMPLES / name / "plan.txt").read_text(encoding="utf-8") == printed, REGENERATE


@pytest.mark.parametrize("name", ALL)
def test_an_example_says_how_to_run_it(name: str):
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")

    assert re.search(r"^    (make|steersman) ", text, re.MULTILINE)


@pytest.mark.parametrize("name", ALL)
def test_every_file_of_an_example_names_the_schema_for_editors(name: str):
    for path in (EXAMPLES / name / "specs").rglob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        named = first.removeprefix("# yaml-language-server: $schema=")
        assert (path.parent / named).resolve() == EXAMPLES / "schema.json", path


def test_the_schema_beside_the_examples_is_the_one_of_this_version():
    assert json.loads((EXAMPLES / "schema.json").read_text(encoding="utf-8")) == file_schema(), REGENERATE


def test_the_specifications_in_the_readme_are_valid_beside_what_init_writes(tmp_path: Path):
    write_starter(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "apiVersion: " in block]
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / f"block-{number}.yaml").write_text(block, encoding="utf-8")

    assert steersman("validate", str(tmp_path), "--format", "json") == (0, "[]\n")


def test_the_readme_has_a_row_for_every_setting():
    settings = importlib.import_module("reconciler.settings").Settings.model_fields
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert list(settings) == re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)


def test_make_run_sets_up_a_repository_once(module, tmp_path: Path):
    run = module("run")
    specs = tmp_path / "run" / "specs"

    assert run.set_up(specs) is True
    assert git(specs, "status", "--porcelain") == ""
    assert git(specs, "branch", "--show-current") == "main"
    head = git(specs, "rev-parse", "HEAD")
    assert run.set_up(specs) is False
    assert git(specs, "rev-parse", "HEAD") == head
    assert steersman("validate", str(specs), "--format", "json") == (0, "[]\n")


def test_copies_name_the_schema_beside_them(module, tmp_path: Path):
    repositories = module("repositories")

    for place in repositories.put("03-needs-and-attachments", tmp_path):
        if place.suffix == ".yaml":
            first = (tmp_path / place).read_text(encoding="utf-8").splitlines()[0]
            named = first.removeprefix("# yaml-language-server: $schema=")
            assert (tmp_path / place).parent.joinpath(named).resolve().is_file()


def test_make_run_names_the_way_out_of_a_taken_port(
    module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = module("run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert run.run(tmp_path / "run", port) == 1

    assert f"make run PORT={port + 1}" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_demo_puts_this_machines_paths_into_the_example(module, tmp_path: Path):
    demo = module("demo")
    demo.make_specs(tmp_path, Path("/somewhere/code"))

    text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.yaml"))
    assert "/srv/" not in text
    assert "url: /somewhere/code" in text
    assert steersman("validate", str(tmp_path), "--format", "json") == (0, "[]\n")


def test_the_pipeline_runs_whole(tmp_path: Path):
    specs = SpecRepository(tmp_path / "specs")
    shutil.copytree(EXAMPLES / "05-pipeline" / "specs", specs.path, dirs_exist_ok=True)
    specs.commit()

    with process(specs.path, tmp_path / "data", **bare()) as running:
        first, second = (
            running.job(number, "passed", "failed", "defective", seconds=60) for number in (1, 2)
        )
        with running.client() as client:
            report = client.get("/reconciler/jobs/1/attachments/report.txt").text
            told = client.get("/reconciler/jobs/2/log").text

    assert (first["key"], first["state"]) == ("Build/weather/_/forecast", "passed"), first
    assert {task["name"]: len(task["trials"]) for task in first["tasks"]} == {
        "stations": 1,
        "measure-harbour-celsius": 1,
        "measure-harbour-fahrenheit": 1,
        "measure-hill-celsius": 1,
        "measure-airport-celsius": 1,
        "measure-airport-fahrenheit": 1,
        "calibrate": 2,
        "report": 1,
        "tidy": 1,
    }
    assert report.splitlines() == [
        "Weather report",
        "airport: 10 degrees celsius",
        "airport: 50 degrees fahrenheit",
        "harbour: 12 degrees celsius",
        "harbour: 53 degrees fahrenheit",
        "hill: 7 degrees celsius",
        "3 stations, offset 0.3",
    ]
    assert (second["key"], second["state"]) == ("Build/weather/_/publish", "passed"), second
    assert "told on the channel automatic, started by build" in told


def of_jo(running: Process) -> httpx.Client:
    """A client with a token as the README of an example has it."""
    asked = {"name": "curl", "subject": "User/jo", "level": "write"}
    running.wait_for(
        lambda client: client.get("/reconciler/status").json()["source"]["last_applied_revision"]
    )
    with running.client() as client:
        token = client.post("/reconciler/tokens", json=asked).raise_for_status().json()["token"]
    return httpx.Client(base_url=running.url, headers={"Authorization": f"token {token}"}, timeout=30)


def bare() -> dict[str, str]:
    """What a daemon needs where scripts cannot be isolated."""
    return {} if sandbox.bubblewrap() else {"STEERSMAN_ALLOW_UNSANDBOXED": "1"}


def code_of(example: str, path: Path) -> SpecRepository:
    """The repository that an example looks after."""
    code = SpecRepository(path)
    shutil.copytree(EXAMPLES / example / "code", path, dirs_exist_ok=True)
    code.commit()
    return code


def specs_of(module, example: str, path: Path, values: dict[str, str]) -> SpecRepository:
    """Its specifications, with what differs between machines put in."""
    specs = SpecRepository(path)
    module("repositories").put(example, path, values)
    if sandbox.bubblewrap() is None and (path / "executor.yaml").exists():
        text = (path / "executor.yaml").read_text(encoding="utf-8")
        specs.write({"executor.yaml": text.replace("spec:\n", "spec:\n  sandbox: off\n", 1)})
    specs.commit()
    return specs


def test_manifests_run_whole(module, tmp_path: Path):
    code = code_of("06-manifests", tmp_path / "greeter")
    specs = specs_of(module, "06-manifests", tmp_path / "specs", {"/srv/git/greeter": str(code.path)})
    text = (code.path / ".build.yml").read_text(encoding="utf-8")

    with process(specs.path, tmp_path / "data", **bare()) as running, of_jo(running) as jo:
        pushed = running.job(1, "passed", "failed", "defective", seconds=60)
        submitted = jo.post("/api/jobs", data={"manifest": text}).raise_for_status().json()["id"]
        running.job(submitted, "passed", "failed", "defective", seconds=60)
        shown = [jo.get(f"/api/jobs/{number}").raise_for_status().json() for number in (1, submitted)]
        kept = jo.get(f"/api/jobs/{submitted}/artifacts").json()["results"]
        greetings = jo.get(kept[0]["url"]).text
        set_up = jo.get(shown[1]["setup_log"]).text

    assert pushed["state"] == "passed", pushed
    assert [job["status"] for job in shown] == ["success", "success"]
    assert [task["status"] for task in shown[0]["tasks"]] == ["success"] * 4
    assert greetings == "Good morning, Ada\nGood morning, Grace\n"
    assert "packages are not installed" in set_up


def test_manifests_run_in_containers(module, tmp_path: Path):
    need_image()
    installs = (
        """[sh, -c, 'apt-get -q update && apt-get -qy --no-install-recommends install "$@"', install]"""
    )
    ours = f"[/bin/add]\n      arguments: {json.dumps(CONTAINER_ARGUMENTS)}"
    values = {"docker.io/library/debian:stable": IMAGE, installs: ours}
    specs = specs_of(module, "07-manifests-podman", tmp_path / "specs", values)
    assert IMAGE in (specs.path / "executor.yaml").read_text(encoding="utf-8")
    manifest = (EXAMPLES / "07-manifests-podman" / "hello.yml").read_text(encoding="utf-8")

    with process(specs.path, tmp_path / "data", **bare()) as running, of_jo(running) as jo:
        number = jo.post("/api/jobs", data={"manifest": manifest}).raise_for_status().json()["id"]
        job = running.job(number, "passed", "failed", "defective", seconds=90)
        kept = jo.get(f"/api/jobs/{number}/artifacts").json()["results"]
        hello = jo.get(kept[0]["url"]).text

    assert job["state"] == "passed", job
    assert hello == f"Hello from job {number}\n"


def test_project_configurations_run_whole(module, tmp_path: Path):
    code = code_of("08-project-configurations", tmp_path / "leaflets")
    values = {"/srv/git/leaflets": str(code.path)}
    specs = specs_of(module, "08-project-configurations", tmp_path / "specs", values)
    tree = code.git("rev-parse", "HEAD^{tree}")

    with process(specs.path, tmp_path / "data", **bare()) as running, of_jo(running) as jo:
        first, second = (
            running.job(number, "passed", "failed", "defective", seconds=60) for number in (1, 2)
        )
        asked = {"tree_id": tree, "key": "proof-read"}
        made = jo.post("/cider-ci/api/jobs/create", json=asked)
        again = jo.post("/cider-ci/api/jobs/create", json=asked)
        running.job(3, "passed", "failed", "defective", seconds=60)
        heads = jo.get("/cider-ci/api/jobs/?branch_head=main").json()["jobs"]
        result = jo.get(f"/cider-ci/api/jobs/{second['id']}").json()
        with running.client() as client:
            printed = client.get("/reconciler/jobs/2/attachments/out/leaflet.txt").text

    assert [job["state"] for job in (first, second)] == ["passed", "passed"], (first, second)
    assert (result["key"], result["name"], result["result"]) == ("print", "Print", {"copies": 1})
    assert printed == "| Steersman\n| keeps it true\n"
    assert (made.status_code, again.status_code) == (201, 422)
    assert len(heads) == 3


@pytest.mark.slow
def test_the_demo_runs_whole():
    if sandbox.bubblewrap() is None:
        pytest.skip(f"the demo is shown with isolated scripts, and {sandbox.why_not()}")

    done = subprocess.run(
        (sys.executable, EXAMPLES / "demo.py"), cwd=ROOT, capture_output=True, text=True, timeout=180
    )

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "All of it as it must be" in done.stdout
