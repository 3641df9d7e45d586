"""The tutorial, done to the letter: its commands in its order, its files, a real daemon."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from api.docs.contents import FOLDER
from reconciler.execution import sandbox
from tests.support import end_scripts, eventually_now

HERE = "/tmp/first"
BLOCK = re.compile(
    r"^```(?P<info>sh server|sh staging|sh|yaml file=\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Reader:
    """Somebody who does what the page says, in one folder; each command has to work."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.folder = folder
        self.at = folder
        self.server = f"http://127.0.0.1:{port}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
        identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "EMAIL": "you@example.org"}
        names = {f"GIT_{role}_NAME": "You" for role in ("AUTHOR", "COMMITTER")}
        paths = {"PATH": f"{Path(sys.executable).parent}:{own['PATH']}", "HOME": str(folder)}
        self.environment = own | identity | names | paths
        self.environment |= {"STEERSMAN_PORT": str(port), "STEERSMAN_SERVER": self.server}
        if sandbox.bubblewrap() is None:
            self.environment["STEERSMAN_ALLOW_UNSANDBOXED"] = "1"
        self.daemon: subprocess.Popen[bytes] | None = None

    def run(self, script: str) -> str:
        """A block in the second terminal; what it printed."""
        words = ["bash", "-e", "-c", f"{script}\npwd > {self.folder}/at"]
        done = subprocess.run(
            words, cwd=self.at, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        self.at = Path((self.folder / "at").read_text().strip())
        return done.stdout + done.stderr

    def serve(self, script: str) -> None:
        """The block in the first terminal."""
        with (self.folder / "served").open("wb") as file:
            self.daemon = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.at,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        eventually_now(lambda: "admin.token" in str(list(self.folder.glob("specs/steersman-data/*"))), 60)
        eventually_now(lambda: self._answers(), 60)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.server.rpartition(":")[2]))) == 0

    def end(self) -> None:
        """Ctrl-C in the first terminal."""
        if self.daemon is not None:
            os.killpg(self.daemon.pid, signal.SIGINT)
            self.daemon.wait(30)
        end_scripts(self.folder / "specs" / "steersman-data")


@pytest.mark.slow
def test_the_first_pipeline_to_the_letter(tmp_path: Path) -> None:
    text = (FOLDER / "first-pipeline.md").read_text(encoding="utf-8").replace(HERE, str(tmp_path))
    reader = Reader(tmp_path)
    told: list[str] = []
    try:
        for block in BLOCK.finditer(text):
            if block["info"] == "sh server":
                reader.serve(block["text"])
            elif block["info"] == "sh staging":
                eventually_now(lambda: "greeter-v1.0.0" in reader.run("steersman get Deployment"), 60)
                told.append(reader.run(block["text"]))
            elif block["info"] == "sh":
                if "logs 3" in block["text"]:
                    eventually_now(lambda: "Build/greeter/" in reader.run("steersman jobs"), 60)
                told.append(reader.run(block["text"]))
            else:
                place = reader.at / block["info"].partition("=")[2]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(block["text"], encoding="utf-8")
        stands = "Deployment/greeter/live/greeter/greeter +Synced +Healthy +greeter/greeter-v1.0.0"
        eventually_now(lambda: re.search(stands, reader.run("steersman get Deployment")), 60)
        committed = reader.run("git log --format=%an:%s")
    finally:
        reader.end()
    whole = "\n".join(told)
    assert "Hello from Steersman" in whole
    assert "Hello from Steersman, job 2" in whole
    assert "greeter/greeter-v1.0.0" in whole
    assert re.search(r'greeter\.yaml:\d+:\d+ +unknown field "taks"; did you mean "tasks"\?', whole)
    assert len(committed.splitlines()) == 5  # first, pipeline, the pipeline's own, the slip, mended
