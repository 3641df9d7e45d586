"""The files of `steersman init`: a repository that does something in its first minute."""

from __future__ import annotations

import json
from pathlib import Path

from specs.schema import file_schema

_SCHEMA = ".steersman/schema.json"
_PROJECT = """\
# yaml-language-server: $schema=../../.steersman/schema.json
apiVersion: steersman/v1
kind: Project
metadata:
  name: demo
spec:
  description: My first project
"""
_BUILD = """\
# yaml-language-server: $schema=../../../.steersman/schema.json
apiVersion: steersman/v1
kind: Build
metadata:
  name: hello
  project: demo
spec:
  triggers:
    - {type: change}          # runs whenever this file changes
  tasks:
    - name: greet
      run: echo "Hello from Steersman, job $STEERSMAN_JOB"
"""
_IGNORED = """\
# what `steersman serve` keeps where it is started, its administrator's token included
/steersman-data/
"""
_README = """\
# Specifications

Steersman follows this repository: commit a change, and the daemon makes it true.

    steersman validate .        # check before you commit
    steersman plan --path .     # what would change
    steersman status            # how it stands
"""


def write_starter(directory: Path) -> list[str]:
    """Write the files; refuses a folder that holds anything but a Git repository."""
    if directory.exists() and any(entry.name != ".git" for entry in directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty; give a new folder")
    files = {
        "README.md": _README,
        ".gitignore": _IGNORED,
        "projects/demo/project.yaml": _PROJECT,
        "projects/demo/builds/hello.yaml": _BUILD,
        _SCHEMA: json.dumps(file_schema(), indent=2) + "\n",
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)
