"""One daemon for the tests of the API and the command line, with jobs of every sort behind it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from typer.testing import CliRunner

from api.app import create
from api.cli import app
from reconciler.installation import Installation
from tests.support import PROJECT, Process, SpecRepository, process

SECRET = "signing-secret"
FINISHED = ("passed", "failed", "defective", "aborted")


def build(name: str, tasks: str, spec: str = "") -> str:
    """A Build; `tasks` is a YAML list in flow form."""
    return (
        f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec:\n{spec}  tasks: {tasks}\n"
    )


FILES = {
    "project.yaml": PROJECT,
    "ok.yaml": build("ok", "[{name: main, run: 'echo hello; echo wörld'}]"),
    "fails.yaml": build("fails", "[{name: main, run: 'echo bad; exit 3'}]"),
    "sleeps.yaml": build("sleeps", "[{name: main, run: 'echo up; sleep 600'}]", "  concurrency: allow\n"),
    "waiting.yaml": build("waiting", "[{name: main, traits: [gpu], run: echo}]"),
    "off.yaml": build("off", "[{name: main, run: echo}]", "  disabled: true\n"),
    "two.yaml": build(
        "two", "[{name: first, run: 'echo one'}, {name: second, needs: [first], run: 'echo two'}]"
    ),
    "inputs.yaml": build(
        "inputs",
        "[{name: main, run: 'echo $INPUT_where $INPUT_text'}]",
        "  inputs:\n    - {id: where, items: [here, there]}\n    - {id: text, default: none}\n",
    ),
    "files.yaml": build(
        "files",
        '[{name: main, attachments: ["out/**"], run: "mkdir -p out/sub; echo data > out/sub/a.txt; '
        "echo '<script>' > out/page.html; echo x > 'out/sp ace.txt'\"}]",
    ),
    "slow.yaml": build(
        "slow",
        "[{name: main, run: 'for i in $(seq 1 40); do printf \"%s-häßlich-✓-𝄞\\n\" $i; sleep 0.03; done'}]",
        "  concurrency: allow\n",
    ),
    "daily.yaml": build(
        "daily",
        "[{name: main, run: echo}]",
        "  triggers: [{type: schedule, cron: '30 4 * * *', timezone: Europe/Amsterdam}]\n",
    ),
    "staging.yaml": (
        "apiVersion: steersman/v1\nkind: Environment\nmetadata: {name: staging, project: shop}\n"
        "---\napiVersion: steersman/v1\nkind: Project\nmetadata: {name: tools}\n"
    ),
    "invalid.yaml": build("never", "[{name: main, rnu: echo}]"),
}


def app_of(installation: Installation) -> Litestar:
    """The app in this process; Litestar's notes on what version 3 will take away are not for tests to judge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create(installation)


class Api:
    """The daemon as its clients see it."""

    def __init__(self, running: Process, repo: SpecRepository, client: httpx.Client) -> None:
        self.running = running
        self.repo = repo
        self.client = client
        self.url = running.url

    def get(self, path: str, **params: Any) -> Any:
        """JSON of an answer that must be 200."""
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def trigger(self, name: str, **more: Any) -> int:
        """Start a job of a build; its number."""
        answer = self.client.post("/reconciler/trigger", json={"key": f"Build/shop/_/{name}"} | more)
        assert answer.status_code == 202, answer.text
        number: int = answer.json()["number"]
        return number

    def run(self, name: str, **more: Any) -> dict[str, Any]:
        """A finished job of a build."""
        return self.running.job(self.trigger(name, **more), *FINISHED)

    def token(self, level: str = "read", **more: Any) -> dict[str, Any]:
        """A new token, with its secret."""
        answer = self.client.post("/reconciler/tokens", json={"name": "test", "level": level} | more)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A verb of the command line, as the administrator."""
        own = {"STEERSMAN_SERVER": self.url, "STEERSMAN_TOKEN": self.running.token} | environment
        return steersman(*arguments, **own)


def steersman(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`steersman …` in this process; what `main` would let out as a traceback is one here."""
    own: dict[str, str | None] = {name: None for name in os.environ if name.startswith("STEERSMAN_")}
    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(app, arguments, env=own | environment, prog_name="steersman")
    error = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        error += "".join(traceback.format_exception(result.exception))
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, error)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running daemon that has applied `FILES`."""
    folder = tmp_path_factory.mktemp("api")
    repo = SpecRepository(folder / "specs")
    repo.commit(FILES)
    settings = {
        "STEERSMAN_ALLOW_UNSANDBOXED": "1",
        "STEERSMAN_WEBHOOK_SECRET": SECRET,
        "STEERSMAN_BODY_BYTES": str(1 << 20),
        "STEERSMAN_WEBHOOK_BYTES": str(1 << 16),
        "STEERSMAN_WRONG_CREDENTIALS_PER_MINUTE": "100000",
        "STEERSMAN_STOP_GRACE_SECONDS": "0.5",
    }
    with process(repo.path, folder / "data", **settings) as running, running.client() as client:
        head = repo.head()
        running.wait_for(
            lambda c: c.get("/reconciler/status").json()["source"]["last_applied_revision"] == head
        )
        yield Api(running, repo, client)
