"""The files of `steersman init`: a repository that does something in its first minute, and a job that checks each push.

Called by `api.cli.local`. Changes no file that is there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from api.cli.local import Forge
from specs.schema import file_schema

SCHEMA = ".steersman/schema.json"
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
      run: |
        echo "Hello from Steersman, job $STEERSMAN_JOB"
        date > greeted.txt
      attachments: [greeted.txt]
    - name: tell
      needs: [greet]          # starts when `greet` has passed, and finds what it keeps
      run: echo "Greeted at $(cat "$STEERSMAN_NEEDS/greet/greeted.txt")"
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
_FIRST = {
    "README.md": _README,
    "projects/demo/project.yaml": _PROJECT,
    "projects/demo/builds/hello.yaml": _BUILD,
}
_HARMLESS = re.compile(r"\..*|(README|LICEN[CS]E|COPYING|CODEOWNERS|CONTRIBUTING)([.-].*)?", re.IGNORECASE)
"""What a repository that was just begun on a forge may hold."""

_SET = "the Git address of Steersman, as git+https://git.example.org/steersman.git@v0.1.0"
_WORKFLOW = """\
# Checks the specifications of every push. Steersman is installed from its Git repository: put its address into the
# variable STEERSMAN_SOURCE $where,
# as git+https://git.example.org/steersman.git@v0.1.0
name: validate
on: [push, pull_request]
jobs:
  validate:
    runs-on: $runner
    steps:
      - uses: actions/checkout@v4
      - name: Install Steersman
        env:
          STEERSMAN_SOURCE: $${{ vars.STEERSMAN_SOURCE }}
        run: |
          : "$${STEERSMAN_SOURCE:?set this variable to $set}"
          ${prepare}python3 -m venv /tmp/steersman
          /tmp/steersman/bin/pip install "$$STEERSMAN_SOURCE"
      - name: Validate
        run: /tmp/steersman/bin/steersman validate . --format $format
"""
_GITLAB = """\
# Checks the specifications of every push. Steersman is installed from its Git repository: put its address into the
# variable STEERSMAN_SOURCE (Settings, CI/CD, Variables),
# as git+https://git.example.org/steersman.git@v0.1.0
validate:
  image: python:3.12
  script:
    - ': "$${STEERSMAN_SOURCE:?set this variable to $set}"'
    - pip install "$$STEERSMAN_SOURCE"
    - steersman validate .
"""
_SOURCEHUT = """\
# Checks the specifications of every push. Steersman is installed from its Git repository: put its address here,
# as git+https://git.example.org/steersman.git@v0.1.0
image: debian/stable
packages: [git, python3-venv]
environment:
  STEERSMAN_SOURCE: ""
tasks:
  - install: |
      : "$${STEERSMAN_SOURCE:?set this variable in .build.yml to $set}"
      python3 -m venv /tmp/steersman
      /tmp/steersman/bin/pip install "$$STEERSMAN_SOURCE"
  - validate: |
      cd ~/*/.steersman/..
      /tmp/steersman/bin/steersman validate .
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """The job that checks each push: its file, and its text."""

    path: str
    template: str
    words: Mapping[str, str]

    def text(self) -> str:
        """The file's text."""
        return Template(self.template).substitute(self.words, set=_SET)


_JOBS: Mapping[Forge, _Job] = {
    Forge.GITHUB: _Job(
        ".github/workflows/validate.yml",
        _WORKFLOW,
        {
            "where": "(Settings, Secrets and variables, Actions, Variables)",
            "runner": "ubuntu-latest",
            "prepare": "",
            "format": "github",
        },
    ),
    Forge.FORGEJO: _Job(
        ".forgejo/workflows/validate.yml",
        _WORKFLOW,
        {
            "where": "(Settings, Actions, Variables)",
            "runner": "docker",
            "prepare": "apt-get -qq update && apt-get -qqy install python3-venv && ",
            "format": "text",
        },
    ),
    Forge.GITLAB: _Job(".gitlab-ci.yml", _GITLAB, {}),
    Forge.SOURCEHUT: _Job(".build.yml", _SOURCEHUT, {}),
}
_HOSTS = (
    (re.compile(r"(^|\.)github\."), Forge.GITHUB),
    (re.compile(r"(^|\.)gitlab\."), Forge.GITLAB),
    (re.compile(r"(^|\.)(codeberg|forgejo|gitea)\."), Forge.FORGEJO),
    (re.compile(r"(^|\.)(git|hg)\.sr\.ht$"), Forge.SOURCEHUT),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_starter` has done: files `written`, files `kept` as they were, and the `next_steps` for a person."""

    written: Sequence[str]
    kept: Sequence[str]
    next_steps: Sequence[str]


def forge_of(directory: Path) -> Forge:
    """The forge that the remote `origin` of a repository is at, by its host; NONE if there is none that we know."""
    if not (directory / ".git").exists():
        return Forge.NONE
    asked = ("git", "-C", str(directory), "config", "--get", "remote.origin.url")
    try:
        url = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except OSError:
        return Forge.NONE
    found = re.match(r"(?:[a-z+]+://)?(?:[^@/]*@)?([^/:]+)", url, re.IGNORECASE)
    host = found[1].lower() if found else ""
    return next((forge for pattern, forge in _HOSTS if pattern.search(host)), Forge.NONE)


def write_starter(directory: Path, forge: Forge = Forge.NONE) -> Written:
    """Write what is not there yet. A second time only the schema, `.gitignore` and the job are seen to.

    FileExistsError with a sentence, before anything is written, if the folder holds something else, or the job's
    file is there with another text.
    """
    files = {".gitignore": _IGNORED, SCHEMA: json.dumps(file_schema(), indent=2) + "\n"}
    again = (directory / SCHEMA).exists()
    if not again:
        _refuse_others(directory)
        files = _FIRST | files
    job = _JOBS.get(forge)
    if job is not None:
        place = directory / job.path
        if place.exists() and place.read_text(encoding="utf-8", errors="replace") != job.text():
            raise FileExistsError(
                f"{place} is there already, and is not changed: move it away to have it made, or take --forge none"
            )
        files[job.path] = job.text()
    kept = [name for name in files if (directory / name).exists()]
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in kept:
            path.write_text(text, encoding="utf-8")
    written = [name for name in files if name not in kept]
    steps = [*_mended(directory, files[SCHEMA]), *_next(directory, written, again=again)]
    if job is not None:
        steps.append(f"for {job.path}: set STEERSMAN_SOURCE, as the file says")
    return Written(written, kept, steps)


def _refuse_others(directory: Path) -> None:
    """Only new folders, and repositories that were just begun: not one with somebody's code."""
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"{directory} is a file; give a new folder")
    others = sorted(each.name for each in directory.iterdir()) if directory.exists() else []
    others = [name for name in others if not _HARMLESS.fullmatch(name)]
    if others:
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise FileExistsError(f"{directory} is not empty, it holds {shown}; give a new folder")


def _mended(directory: Path, schema: str) -> Iterator[str]:
    """What a file that was kept wants."""
    ignored = directory / ".gitignore"
    if "/steersman-data/" not in ignored.read_text(encoding="utf-8", errors="replace").splitlines():
        yield f"add the line /steersman-data/ to {ignored}: the administrator's token lies there"
    if (directory / SCHEMA).read_text(encoding="utf-8", errors="replace") != schema:
        yield f"steersman schema > {directory / SCHEMA}    # the schema is of another version"


def _next(directory: Path, written: Sequence[str], *, again: bool) -> Iterator[str]:
    """What is left to do, in order; `again`: it was a starting repository already."""
    if written and str(directory) != ".":
        yield f"cd {directory}"
    if not (directory / ".git").exists():
        yield "git init -b main"
    if written:
        yield f"git add -A && git commit -m '{'What init adds' if again else 'First specs'}'"
    if not again:
        yield "steersman serve --repo ."
        yield "steersman status                            # in a second terminal, in the same folder"
