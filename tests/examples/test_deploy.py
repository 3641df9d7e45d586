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
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.main import get_command

from api.cli import app
from reconciler.settings import Settings
from tests import databases
from tests.support import PROJECT, SpecRepository, process

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
    """By kind."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert len({each["kind"] for each in found}) == len(found)
    return {each["kind"]: each for each in found}


def unit(text: str) -> configparser.ConfigParser:
    """Keys as they are written; one that comes twice is an error here."""
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(text)
    return found


def test_the_unit_runs_the_program_and_lets_scripts_live(tmp_path: Path) -> None:
    service = unit((DEPLOY / "steersman.service").read_text())["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/opt/steersman/bin/steersman"
    parse(words[1:])
    assert (service["KillMode"], service["Delegate"]) == ("process", "yes")
    hidden = {"RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset"}
    assert not hidden & set(service), "bubblewrap could not mount /proc"
    readme = (DEPLOY / "README.md").read_text()
    toml = tomllib.loads(readme.partition("```toml\n")[2].partition("```")[0])
    assert Settings(**toml).data == Path("/var/lib") / service["StateDirectory"]
    assert words[-1] in readme
    assert service["EnvironmentFile"].lstrip("-") in readme


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = (DEPLOY / "steersman.service").read_text()
    program = tmp_path / "steersman"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = tmp_path / "steersman.service"
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
    assert [mount.partition(":")[2] for mount in daemon["volumes"]] == [image["VOLUME"]]
    assert daemon["ports"][0].rpartition(":")[2] == image["EXPOSE"]
    assert daemon["image"] == services["migrate"]["image"]
    build = services["migrate"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    for name in ("migrate", "daemon"):
        parse(services[name]["command"])
        settings = settings_of(services[name]["environment"], monkeypatch)
        expected = (
            f"postgresql+psycopg://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}"
            f"@database:5432/{database['POSTGRES_DB']}"
        )
        assert settings.database_url == expected
    assert set(found["volumes"]) == {"database", "data"}
    assert daemon["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_the_manifests_agree_with_each_other_and_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image, found = container(), kubernetes()
    whole = found["StatefulSet"]["spec"]
    pod = whole["template"]["spec"]
    assert whole["replicas"] == 1
    labels = whole["template"]["metadata"]["labels"]
    assert labels == whole["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert whole["serviceName"] == found["Service"]["metadata"]["name"]
    uid = int(image["USER"].partition(":")[0])
    assert {pod["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")} == {uid}
    volumes = {each["name"]: each for each in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in whole["volumeClaimTemplates"]}
    assert volumes["settings"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    for each in (*pod["initContainers"], *pod["containers"]):
        parse(each["args"])
        mounts = {mount["name"]: mount["mountPath"] for mount in each["volumeMounts"]}
        assert mounts.keys() == volumes.keys() | claims
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
    settings = settings_of(found["Secret"]["stringData"], monkeypatch)
    assert settings.database_url.startswith("postgresql+psycopg://")
    toml = tomllib.loads(found["ConfigMap"]["data"]["steersman.toml"])
    assert Settings(**toml).external_url == "https://ci.example.org"


def test_a_daemon_runs_as_the_manifests_have_it(tmp_path: Path) -> None:
    """What the init container runs, then the daemon with the image's settings; its probes find it well."""
    pod = kubernetes()["StatefulSet"]["spec"]["template"]["spec"]
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT})
    given = container()["ENV"] | {"STEERSMAN_DATABASE": databases.server().new()}
    own = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    own |= {"STEERSMAN_DATA": str(tmp_path / "data"), "STEERSMAN_HOST": "127.0.0.1"}
    (init,) = pod["initContainers"]
    command = [sys.executable, "-c", "from api.cli import main; main()", *init["args"]]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for _ in range(2):  # it is started again with each pod
        subprocess.run(command, env=plain | own, check=True, capture_output=True, cwd=ROOT)
    with process(repo.path, tmp_path / "data", **own) as running:
        (daemon,) = pod["containers"]
        for name in ("startupProbe", "readinessProbe"):
            path = daemon[name]["httpGet"]["path"]
            running.wait_for(lambda c, path=path: httpx.get(running.url + path).json()["status"] == "ok")
            assert httpx.get(running.url + path).status_code == 200
