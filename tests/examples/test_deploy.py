"""What `examples/deploy` says agrees with the program, and a daemon runs with the settings that it gives."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command

from api.cli import app
from reconciler.settings import Settings
from tests import databases
from tests.fleet.fleet import build
from tests.support import PROJECT, Process, SpecRepository, end_scripts, process

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "examples" / "deploy"
PREFIX = "STEERSMAN_"


def parse(words: list[str]) -> None:
    """A command line of the program, without carrying it out."""
    get_command(app).commands[words[0]].make_context("steersman", words[1:])  # type: ignore[attr-defined]


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that such an environment gives; an unknown name is an error of the file."""
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    assert {name.removeprefix(PREFIX).lower() for name in own} <= set(Settings.model_fields)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return Settings()


def container() -> dict[str, Any]:
    """What the image says of itself: its instructions of the last stage, and its environment."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Containerfile").read_text())
    last = text[text.rindex("\nFROM ") :]
    found: dict[str, Any] = {}
    for line in filter(None, last.splitlines()):
        if not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found[word] = rest.strip()
    found["ENV"] = dict(part.split("=", 1) for part in shlex.split(found["ENV"]))
    return found


def compose() -> dict[str, Any]:
    """With the variables that a person gives it."""
    values = {"POSTGRES_PASSWORD": "word", "STEERSMAN_REPO": "https://git.example.org/specs.git"}

    def put(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        return values.get(name.partition(":?")[0], default)

    services: dict[str, Any] = yaml.safe_load(
        re.sub(r"\$\{([^}]*)\}", put, (DEPLOY / "compose.yaml").read_text())
    )
    return services


def kubernetes() -> dict[str, Any]:
    """By kind, those of the worker by kind and name."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    main = {each["kind"]: each for each in found if each["metadata"]["name"] == "steersman"}
    others = {f"{e['kind']} {e['metadata']['name']}": e for e in found if e not in main.values()}
    assert len(main) + len(others) == len(found)
    return main | others


def unit(text: str) -> configparser.ConfigParser:
    """Keys as they are written; one that comes twice is an error here."""
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(text)
    return found


UNITS = pytest.mark.parametrize("name", ["steersman", "steersman-worker"])


@UNITS
def test_a_unit_runs_the_program_and_lets_scripts_live(name: str) -> None:
    service = unit((DEPLOY / f"{name}.service").read_text())["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/opt/steersman/bin/steersman"
    parse(words[1:])
    assert words[1] == {"steersman": "serve", "steersman-worker": "worker"}[name]
    assert (service["KillMode"], service["Delegate"]) == ("process", "yes")
    hidden = {"RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset"}
    assert not hidden & set(service), "bubblewrap could not mount /proc"
    readme = (DEPLOY / "README.md").read_text()
    found = [Settings(**tomllib.loads(text)) for text in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)]
    assert [each.data for each in found].count(Path("/var/lib") / service["StateDirectory"]) == 1
    assert f"`{words[-1]}`" in readme
    assert f"`{service['EnvironmentFile'].lstrip('-')}`" in readme


@UNITS
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = (DEPLOY / f"{name}.service").read_text()
    program = tmp_path / "steersman"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = tmp_path / f"{name}.service"
    for changed, sound in ((text, True), (text.replace("KillMode", "KilMode"), False)):
        place.write_text(changed.replace("/opt/steersman/bin/steersman", str(program)))
        done = subprocess.run(["systemd-analyze", "verify", place], capture_output=True, text=True)
        assert (done.returncode, done.stderr == "") == (0, sound), done.stderr


def test_the_image_has_what_it_copies_and_knows_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    image = container()
    settings = settings_of(image["ENV"], monkeypatch)
    assert str(settings.data) == image["VOLUME"]
    assert str(settings.port) == image["EXPOSE"]
    assert settings.host == "0.0.0.0"
    entry, command = yaml.safe_load(image["ENTRYPOINT"]), yaml.safe_load(image["CMD"])
    assert entry[-1] == "steersman"
    parse(command)
    uid = image["USER"].partition(":")[0]
    assert f"--uid {uid} " in text
    assert f"-o {uid} -g {uid} {image['VOLUME']}" in text
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "postgres" in extra
    assert "/source[postgres]" in text


def test_the_composition_agrees_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image, found = container(), compose()
    services = found["services"]
    daemon, database = services["daemon"], services["database"]["environment"]
    second, worker = services["second"], services["worker"]
    for each in (daemon, second, worker):
        assert each["volumes"][0].partition(":")[2] == image["VOLUME"]
        assert each["image"] == services["migrate"]["image"]
        assert each["security_opt"] == daemon["security_opt"]
    assert len({each["volumes"][0] for each in (daemon, second, worker)}) == 3, (
        "nobody shares a data directory"
    )
    for each in (daemon, second):
        assert each["ports"][0].rpartition(":")[2] == image["EXPOSE"]
        assert each["ports"][0].startswith("127.0.0.1:")
    assert daemon["ports"] != second["ports"]
    build = services["migrate"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    for name in ("migrate", "daemon", "second", "worker"):
        parse(services[name]["command"])
        with monkeypatch.context() as own:
            settings = settings_of(services[name]["environment"], own)
        expected = (
            f"postgresql+psycopg://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}"
            f"@database:5432/{database['POSTGRES_DB']}"
        )
        assert settings.database_url == expected
        if name in ("daemon", "second"):
            assert settings.internal_url == f"http://{name}:{image['EXPOSE']}"
    mount, _, place = second["volumes"][1].removesuffix(":ro").partition(":")
    assert mount == daemon["volumes"][0].partition(":")[0]
    assert second["environment"]["STEERSMAN_KEY_FILE"] == f"{place}/server.key"
    assert second["volumes"][1].endswith(":ro")
    assert "--drain" in worker["command"]
    assert worker["ports"] == []
    assert set(found["volumes"]) == {"database", "data", "second", "worker"}
    assert daemon["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert second["depends_on"] == {"daemon": {"condition": "service_healthy"}}


def test_the_manifests_agree_with_each_other_and_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image, found = container(), kubernetes()
    whole = found["StatefulSet"]["spec"]
    pod = whole["template"]["spec"]
    assert whole["replicas"] == 2
    labels = whole["template"]["metadata"]["labels"]
    assert labels == whole["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert whole["serviceName"] == found["Service"]["metadata"]["name"]
    uid = int(image["USER"].partition(":")[0])
    assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {uid}
    volumes = {each["name"]: each for each in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in whole["volumeClaimTemplates"]}
    assert volumes["settings"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    key, *init = pod["initContainers"]
    assert {mount["name"] for mount in key["volumeMounts"]} == {"data", "key"}
    assert volumes["key"]["secret"]["optional"] is True
    assert volumes["key"]["secret"]["secretName"] in (DEPLOY / "README.md").read_text()
    for each in (*init, *pod["containers"]):
        parse(each["args"])
        mounts = {mount["name"]: mount["mountPath"] for mount in each["volumeMounts"]}
        assert mounts.keys() == (volumes.keys() | claims) - {"key"}
        assert (mounts["data"], mounts["settings"]) == (image["VOLUME"], image["WORKDIR"])
        assert each["envFrom"] == [{"secretRef": {"name": found["Secret"]["metadata"]["name"]}}]
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
    (daemon,) = pod["containers"]
    (port,) = daemon["ports"]
    assert port["containerPort"] == int(image["EXPOSE"])
    (service,) = found["Service"]["spec"]["ports"]
    probes = [daemon[name]["httpGet"]["port"] for name in ("startupProbe", "readinessProbe")]
    assert {service["targetPort"], daemon["livenessProbe"]["tcpSocket"]["port"], *probes} == {port["name"]}
    assert daemon["securityContext"]["procMount"] == "Unmasked"
    assert pod["hostUsers"] is False
    assert daemon["env"][0]["name"] == "POD_IP"
    (own,) = (each for each in daemon["env"] if each["name"].startswith(PREFIX))
    assert own["value"] == f"http://$(POD_IP):{image['EXPOSE']}"
    assert own["name"].removeprefix(PREFIX).lower() in Settings.model_fields
    settings = settings_of(found["Secret"]["stringData"], monkeypatch)
    assert settings.database_url.startswith("postgresql+psycopg://")
    toml = tomllib.loads(found["ConfigMap"]["data"]["steersman.toml"])
    assert Settings(**toml).external_url == "https://ci.example.org"


def test_the_worker_of_the_manifests_is_isolated_as_the_daemon_and_drains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, found = container(), kubernetes()
    whole = found["Deployment steersman-worker"]["spec"]
    pod, other = whole["template"]["spec"], found["StatefulSet"]["spec"]["template"]["spec"]
    assert whole["template"]["metadata"]["labels"] == whole["selector"]["matchLabels"]
    assert not found["Service"]["spec"]["selector"].items() <= whole["selector"]["matchLabels"].items()
    (worker,), (daemon,) = pod["containers"], other["containers"]
    parse(worker["args"])
    assert "--drain" in worker["args"]
    assert pod["terminationGracePeriodSeconds"] > other["terminationGracePeriodSeconds"]
    for name in ("image", "securityContext"):
        assert worker[name] == daemon[name]
    for name in ("securityContext", "hostUsers", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod[name] == other[name]
    mounts = {mount["name"]: mount["mountPath"] for mount in worker["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert (mounts["data"], mounts["settings"]) == (image["VOLUME"], image["WORKDIR"])
    secret = found["Secret steersman-worker"]
    assert worker["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    settings = settings_of(secret["stringData"], monkeypatch)
    grants = (DEPLOY / "worker-role.sql").read_text()
    role = settings.database_url.partition("://")[2].partition(":")[0]
    assert f"TO {role};" in grants
    assert (
        settings.database_url.rpartition("@")[2]
        == found["Secret"]["stringData"]["STEERSMAN_DATABASE"].rpartition("@")[2]
    )


def _with_key(script: str, key: Path, data: Path) -> None:
    """What the first init container runs, in these folders."""
    script = script.replace("/key/", f"{key}/").replace(container()["ENV"]["STEERSMAN_DATA"], str(data))
    subprocess.run(["sh", "-euc", script], check=True)


def test_two_daemons_and_a_worker_run_as_the_manifests_have_it(tmp_path: Path) -> None:
    """What the init containers run, then daemons and a worker with the image's settings; probes find them well."""
    found = kubernetes()
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    first, init = pod["initContainers"]
    (script,) = first["args"]
    repo = SpecRepository(tmp_path / "specs")
    url, key = databases.server().new(), tmp_path / "key"
    given = container()["ENV"] | {"STEERSMAN_DATABASE": url}
    own = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    own |= {"STEERSMAN_DATA": str(tmp_path / "data"), "STEERSMAN_HOST": "127.0.0.1"}
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for _ in range(2):  # it is started again with each pod
        subprocess.run([*program, *init["args"]], env=plain | own, check=True, capture_output=True, cwd=ROOT)
    for each in (key, tmp_path / "data", tmp_path / "second"):
        each.mkdir()
    repo.commit({"p.yaml": PROJECT, "b.yaml": build("hello", "echo hello")})
    _with_key(script, key, tmp_path / "data")
    (daemon,) = pod["containers"]
    with process(repo.path, tmp_path / "data", **own | {"STEERSMAN_EXECUTORS": "[]"}) as running:
        shutil.copy(tmp_path / "data" / "server.key", key / "server.key")
        (key / "server.key").chmod(0o440)  # as a Secret is mounted
        _with_key(script, key, tmp_path / "second")
        assert (tmp_path / "second" / "server.key").stat().st_mode & 0o777 == 0o600
        again = own | {"STEERSMAN_DATA": str(tmp_path / "second"), "STEERSMAN_EXECUTORS": "[]"}
        again["STEERSMAN_ADMIN_TOKEN"] = running.token
        with process(repo.path, tmp_path / "second", **again) as other:
            for each in (running, other):
                for name in ("startupProbe", "readinessProbe"):
                    path = daemon[name]["httpGet"]["path"]
                    each.wait_for(lambda c, path=path: c.get(path).json()["status"] == "ok")
            assert [httpx.get(f"{each.url}/health").json()["leads"] for each in (running, other)] == [
                True,
                False,
            ]
            _runs_a_job(found, url, tmp_path / "worker", other, program)


def _runs_a_job(found: dict[str, Any], url: str, data: Path, daemon: Process, program: Sequence[str]) -> None:
    """The worker of the Deployment, under its role, runs what was asked of a daemon; TERM ends it in good order."""
    (worker,) = found["Deployment steersman-worker"]["spec"]["template"]["spec"]["containers"]
    name = databases.grant(url, "steersman_worker", (DEPLOY / "worker-role.sql").read_text())
    plain = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    own = {"STEERSMAN_DATABASE": name, "STEERSMAN_DATA": str(data)}
    popen = subprocess.Popen([*program, *worker["args"]], env=plain | own, stdout=subprocess.DEVNULL)
    try:
        daemon.wait_for(lambda c: "Build/shop/_/hello" in c.get("/reconciler/resources").text)
        with daemon.client() as client:
            answer = client.post("/reconciler/trigger", json={"key": "Build/shop/_/hello"})
            assert answer.is_success, answer.text
        assert daemon.job(answer.json()["number"], "passed")["state"] == "passed"
        popen.terminate()
        assert popen.wait(30) == 0
    finally:
        popen.kill()
        popen.wait()
        end_scripts(data)
