"""What the page about Builds says of scripts is what a script sees."""

from __future__ import annotations

import re
from pathlib import Path

from api.docs.contents import FOLDER
from reconciler.daemon import Daemon
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import SpecRepository

ELSEWHERE = {"TMPDIR", "GIT_SSH_COMMAND"}  # not of a script in a sandbox without keys
ENV = """\
triggers: [{type: change}]
inputs: [{id: colour, default: red}]
tasks:
  - name: give-it
    run: |
      echo "COUNT=1" >> "$STEERSMAN_OUTPUTS"
      echo kept > kept
    attachments: [kept]
  - name: see
    needs: [give-it]
    matrix: {os: [linux]}
    run: |
      env | sort
      cat "$STEERSMAN_NEEDS/give-it/kept"
"""
PIPES = """\
triggers: [{type: change}]
tasks:
  - name: plain
    run: false | tee log.txt
  - name: env
    run: |
      #!/usr/bin/env -S bash -euo pipefail
      false | tee log.txt
  - name: set
    run: |
      #!/bin/bash
      set -euo pipefail
      false | tee log.txt
  - name: neither
    run: |
      #!/bin/bash
      false
      true
  - name: file
    run: |
      false > log.txt 2>&1 || { cat log.txt; exit 1; }
"""


def test_the_variables_of_the_page_are_those_of_a_script(tmp_path: Path, new_database: NewDatabase) -> None:
    page = (FOLDER / "reference-build.md").read_text(encoding="utf-8")
    section = page.partition("\n## Scripts\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"(?m)^\| `([^`]+)`", section)) - ELSEWHERE

    async def work(running: Daemon, repo: SpecRepository) -> None:
        await finished(running)
        log = await text_of(running, task="see-linux")
        seen = set(re.findall(r"(?m)^(\w+)=", log))
        assert seen - {"OUTPUT_give_it_COUNT", "INPUT_colour", "MATRIX_OS"} == {
            n for n in told if "<" not in n
        }
        assert {"OUTPUT_give_it_COUNT", "INPUT_colour", "MATRIX_OS"} < seen
        assert {n.partition("<")[0] for n in told if "<" in n} == {"OUTPUT_", "INPUT_", "MATRIX_"}
        assert "STEERSMAN_TOKEN=***\n" in log
        assert "\nkept\n" in log

    live(tmp_path, new_database, build(ENV), work)


def test_a_pipe_fails_as_the_page_says(tmp_path: Path, new_database: NewDatabase) -> None:
    async def work(running: Daemon, repo: SpecRepository) -> None:
        job = await finished(running)
        assert {task.name: task.state.value for task in job.tasks} == {
            "plain": "passed",
            "env": "failed",
            "set": "failed",
            "neither": "passed",
            "file": "failed",
        }

    live(tmp_path, new_database, build(PIPES), work)
