"""The server's key is changed: what was sealed to the old one opens all the time, and is sealed anew in one commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli import app
from reconciler.sealing import Keys, SealingError, load, make, seal
from tests.support import PROJECT, Process, SpecRepository, process

TOKEN, OTHER, FOREIGN = "Secret/shop/_/token", "Secret/shop/_/other", "Secret/shop/_/foreign"
BUILD = """\
apiVersion: steersman/v1
kind: Build
metadata: {name: uses, project: shop}
spec:
  tasks:
    - name: main
      environment_variables: {TOKEN: {secret_ref: token}}
      run: test "$TOKEN" = the-old-value
"""


def document(key: str, sealed: str) -> str:
    """As a person might have laid it out."""
    name = key.rpartition("/")[2]
    return (
        f"# the {name}\napiVersion: steersman/v1\nkind: Secret\nmetadata:   {{name: {name}, project: shop}}\n"
        f"spec:\n    type:  value   # plain\n    sealed: {sealed}   # by hand\n"
    )


def command(running: Process, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `steersman secret …`."""
    environment = {"STEERSMAN_SERVER": running.url, "STEERSMAN_TOKEN": running.token}
    done = CliRunner().invoke(app, ["secret", *arguments], env=environment)
    return done.exit_code, done.stdout, done.stderr


def use(running: Process) -> str:
    """The state of a job that needs the secret."""
    with running.client() as client:
        made = client.post("/reconciler/trigger", json={"key": "Build/shop/_/uses"}).raise_for_status().json()
    found: str = running.job(made["number"], "passed", "failed", "defective")["state"]
    return found


def test_a_new_key_takes_over(tmp_path: Path) -> None:
    data, repo = tmp_path / "data", SpecRepository(tmp_path / "specs")
    data.mkdir(mode=0o700)
    make(data / "server.key")
    make(tmp_path / "another.key")
    old = load(data / "server.key")
    foreign = load(tmp_path / "another.key")
    files = {
        "project.yaml": PROJECT,
        "build.yaml": BUILD,
        "two.yaml": document(TOKEN, seal(b"the-old-value", old.recipient, TOKEN))
        + "---\n"
        + document(OTHER, seal(b"else", old.recipient, OTHER)),
        "bad.yaml": document("Secret/shop/_/bad", seal(b"kept", old.recipient, "x")).replace(
            "type:  value", "type:  values"
        ),
        "foreign.yaml": document(FOREIGN, seal(b"lost", foreign.recipient, FOREIGN)),
    }
    repo.commit(files)
    result = CliRunner().invoke(app, ["secret", "new-key", str(data / "server.key")])
    assert result.exit_code == 0, result.output
    keys = load(data / "server.key")
    assert result.stdout.strip() == keys.recipient != old.recipient
    assert (data / "server.key").stat().st_mode & 0o777 == 0o600

    with process(repo.path, data, STEERSMAN_ALLOW_UNSANDBOXED="1") as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 6)
        assert use(running) == "passed"
        before = repo.head()
        code, out, errors = command(running, "reseal")
        assert (code, out) == (1, f"2 secrets sealed anew in commit {repo.head()[:12]}\n")
        assert f"{FOREIGN} is sealed to another key" in errors
        assert "Secret/shop/_/bad is not valid, so it was left as it is" in errors
        changed = repo.git("diff", "-U0", before, "HEAD").splitlines()
        lines = [line for line in changed if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert len(lines) == 4
        assert all(line[1:].startswith("    sealed: ") and line.endswith("   # by hand") for line in lines)
        assert "the-old-value" not in repo.git("log", "-p", "--", "two.yaml")

        newest = Keys(keys.identities[:1])
        with running.client() as client:
            spec = client.get(f"/reconciler/resources/{TOKEN}").json()["spec"]
        assert newest.open(spec["sealed"], TOKEN) == b"the-old-value"
        with pytest.raises(SealingError):
            old.open(spec["sealed"], TOKEN)
        assert use(running) == "passed"

        head = repo.head()
        code, out, _ = command(running, "reseal", "--output", "json")
        assert (code, json.loads(out)["resealed"], json.loads(out)["commit"]) == (1, [], None)
        assert repo.head() == head


def test_states_of_deployments_outlive_the_old_key(tmp_path: Path) -> None:
    """Locked anew, they open without it."""
    data, repo = tmp_path / "data", SpecRepository(tmp_path / "specs")
    environment = (
        "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: dev, project: shop}\nspec: {}\n"
    )
    repo.commit({"project.yaml": PROJECT, "dev.yaml": environment})
    url = "/api/v1/state/shop/environments/dev/deployments/?deployment=web"
    stage = {"version": "1.0", "inputs": {"password": "correct-horse"}}
    body = {"path": "web", "root_stage": "", "state": {"stages": {"deploy": stage}}}

    def read(running: Process) -> dict[str, Any]:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
        with running.client() as client:
            found: dict[str, Any] = client.get(url).raise_for_status().json()
        return dict(found["stages"]["deploy"]["inputs"])

    with process(repo.path, data) as running:
        running.wait_for(lambda c: c.get("/reconciler/status").json()["resources"]["total"] == 2)
        with running.client() as client:
            client.put(url, json=body).raise_for_status()
    assert CliRunner().invoke(app, ["secret", "new-key", str(data / "server.key")]).exit_code == 0
    with process(repo.path, data) as running:
        assert read(running) == stage["inputs"]
        code, out, _ = command(running, "reseal")
        assert (code, out) == (0, "0 secrets sealed anew\nstates of deployments locked anew: 1\n")
    lines = (data / "server.key").read_text().splitlines(keepends=True)
    (data / "server.key").write_text("".join(lines[:2]))
    with process(repo.path, data) as running:
        assert read(running) == stage["inputs"]


def test_a_file_that_is_no_key_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "server.key"
    file.write_text("nonsense\n")
    file.chmod(0o600)
    result = CliRunner().invoke(app, ["secret", "new-key", str(file)])
    assert (result.exit_code, "line 1 of the key file" in result.stderr) == (1, True)
    assert file.read_text() == "nonsense\n"
    assert list(tmp_path.iterdir()) == [file]
