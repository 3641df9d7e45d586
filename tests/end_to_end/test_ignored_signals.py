"""A daemon in the background of a shell, as by `nohup steersman serve &`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests import support
from tests.support import PROJECT, SpecRepository, start, stop

SCRIPT = "grep SigIgn /proc/self/status; trap 'echo trapped' INT; kill -INT $$; kill -HUP $$"
BUILD = f"""\
apiVersion: steersman/v1
kind: Build
metadata: {{name: signals, project: shop}}
spec: {{triggers: [{{type: change}}], tasks: [{{name: t, run: "{SCRIPT}"}}]}}
"""


def test_what_it_ignores_its_scripts_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hang-up ends scripts that do not ask for anything else; the daemon itself lives through it."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntrap "" HUP INT QUIT\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(support.sys, "executable", str(python))
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"p.yaml": PROJECT, "b.yaml": BUILD})
    running = start(repo.path, tmp_path / "data", fresh=True)
    try:
        job = running.job(1, "passed", "failed")
        with running.client() as client:
            text = client.get("/reconciler/jobs/1/log").text
            first, *others = text.splitlines()
            assert int(first.split()[1], 16) & ((1 << 31) - 1) == 0, text
            assert others == ["trapped"]
            (script,) = job["tasks"][0]["trials"][0]["scripts"]
            assert script["exit_status"] == 128 + signal.SIGHUP
            os.kill(running.popen.pid, signal.SIGHUP)
            assert client.get("/health").status_code == 200
    finally:
        stop(running)
