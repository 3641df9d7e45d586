"""What a builds.sr.ht manifest means for those who run it (builds-srht 5.2 to 5.7): one task, whose scripts are the
set-up and then the manifest's tasks, one after the other.

Called by the builds.sr.ht API when a job is stored. Never runs anything, and knows neither the job's number nor the
server's address: the scripts find those in their environment, so that equal manifests of one owner give equal work.

Whatever the manifest says stands in the generated scripts in single quotes or in quoted here-documents only, which
no shell reads; a task's script is the rest of its own file, behind a fixed preamble.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specs.manifest import Manifest, ManifestTask, Scalar, Trigger, Variable
from specs.model import RESERVED_PREFIX, variable_shape_fault

TASK = "build"
SET_UP = "(setup)"
"""The name of the first script, which no task of a manifest can have."""

MARK = ".complete-build"
"""The file in the home that `complete-build` makes."""

OWNER = "STEERSMAN_OWNER"
"""The variable that tells scripts whose job it is."""

MOST_ARTIFACTS = 8
TIMEOUT_SECONDS = 45 * 60

_SCM = re.compile(r"([A-Za-z][A-Za-z0-9]*)\+(.*)", re.ASCII | re.DOTALL)
_WILDCARD = re.compile(r"([\\*?\[])")
# Bash does not let these be set, or sets them anew with each command.
_OF_BASH = frozenset({"_", "BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

_PREAMBLE = """\
#!/usr/bin/env bash
cd ~
. ~/.buildenv
set -x
set -e
"""

_BUILDENV_HEAD = f"""\
# Every task begins with this file. What a task adds at the end counts for the tasks after it.
{RESERVED_PREFIX}COMPLETED=~/{MARK}
complete-build() {{
    : >|"${RESERVED_PREFIX}COMPLETED" || exit 1
    exit 0
}}
"""

_BUILDENV_FACTS = f"""\
export CI_NAME=sourcehut
export JOB_ID="$STEERSMAN_JOB"
export JOB_URL="${{STEERSMAN_SERVER%/}}/~${OWNER}/job/$STEERSMAN_JOB"
"""

# The token is named, not written down; curl reads it from a pipe, as arguments are seen by every process.
_BUILDENV_OAUTH = """\
export OAUTH2_TOKEN="$STEERSMAN_TOKEN"
acurl() (
    { set +x; } 2>/dev/null
    curl --config <(printf 'header = "Authorization: Bearer %s"\\n' "$OAUTH2_TOKEN") "$@"
)
"""

_SET_UP_HEAD = """\
#!/bin/sh
# Prepares the home of a build for its tasks.
set -eu
cd ~

step() { printf '==> %s\\n' "$1"; }
note() { printf '    %s\\n' "$1"; }
give_up() {
    printf 'steersman: %s\\n' "$1"
    exit 1
}

"""

_CLONING = """\
command -v git >/dev/null || give_up 'this image has no git, which the sources need; add it to packages'
# No transport that runs a command of the URL's, and nobody is there to be asked.
export GIT_ALLOW_PROTOCOL=file:git:http:https:ssh GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh} -o BatchMode=yes -o StrictHostKeyChecking=accept-new"

# clone URL DIRECTORY [REF]
clone() {
    git clone -- "$1" "$2" || give_up "the source could not be cloned: $1"
    if [ $# -gt 2 ]; then
        git -c advice.detachedHead=false -C "$2" checkout "$3" -- || give_up "the source has no ref $3"
    fi
    git -C "$2" submodule update --init --recursive || give_up "the submodules of $2 could not be fetched"
}

"""


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a request adds to its manifest. `owner` is without ~; `secrets` False: neither secrets nor a token are
    given; `refusal`: why it cannot be run at all, which the set-up tells; `triggers` come after the manifest's.
    """

    owner: str
    secrets: bool = True
    refusal: str | None = None
    timeout_seconds: int = TIMEOUT_SECONDS
    triggers: tuple[Trigger, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One source (builds-srht 5.4). `ref` None: what the repository offers; `directory` is empty where none can be
    told from the URL.
    """

    scm: str
    url: str
    directory: str
    ref: str | None


def work(manifest: Manifest, *, job: JobFacts) -> dict[str, Any]:
    """The specification of the manifest's job."""
    names = [SET_UP, *(task.name for task in manifest.tasks)]
    first = set_up(manifest, secrets=job.secrets) if job.refusal is None else _refused(job.refusal)
    texts = [first, *(task_script(task) for task in manifest.tasks)]
    before = [None, *names[:-1]]
    task = {
        "name": TASK,
        "scripts": [_script(*parts) for parts in zip(names, texts, before, strict=True)],
        "directory": "home",
        "completed_by": MARK,
        "max_trials": 1,
        "eager_trials": 1,
        "aggregate": "satisfy-any",
        "lost_retries": 0,
        "timeout_seconds": None,
        "load": 1.0,
        "traits": [],
        "exclusive": [],
        "priority": 0,
        "environment_variables": {OWNER: job.owner},
        "image": manifest.image if job.refusal is None else None,
        "packages": list(manifest.packages) if job.refusal is None else [],
        "repositories": dict(manifest.repositories) if job.refusal is None else {},
        "secrets": list(manifest.secrets) if job.secrets else [],
        "packages_optional": True,
        "attachments_required": True,
        "attachments": [_WILDCARD.sub(r"\\\1", artifact_file(path)) for path in kept_artifacts(manifest)],
    }
    facts = {
        "text": manifest.text,
        "artifacts": list(kept_artifacts(manifest)),
        "secrets": job.secrets,
        "oauth": manifest.oauth if job.secrets else None,
        "triggers": [trigger.data() for trigger in (*manifest.triggers, *job.triggers)],
    }
    return {"tasks": [task], "timeout_seconds": job.timeout_seconds, "manifest": facts}


def _refused(why: str) -> str:
    return f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(f'steersman: {why}')}\nexit 1\n"


def kept_artifacts(manifest: Manifest) -> tuple[str, ...]:
    """Paths of the artifacts as written; none where there are too many (builds-srht 5.6)."""
    return manifest.artifacts if len(manifest.artifacts) <= MOST_ARTIFACTS else ()


def artifact_file(path: str) -> str:
    """The file that an artifact's path means, from the home."""
    return posixpath.normpath(path)


def source(text: str) -> Source:
    """What `[dir::][scm+]url[#ref]` means."""
    directory, rest = text.split("::") if text.count("::") == 1 else ("", text)
    url, ref = rest.split("#") if rest.count("#") == 1 else (rest, "")
    found = _SCM.fullmatch(url)
    scm, url = (found[1], found[2]) if found else ("git", url)
    if not directory:
        path = url.rstrip("/")
        directory = path.rpartition("/" if "/" in path else ":")[2]
        if scm == "git" and "::" not in text:
            directory = directory.removesuffix(".git")
    return Source(scm, url, "" if directory in (".", "..") else directory, ref or None)


def task_script(task: ManifestTask) -> str:
    """The file that is run for a task."""
    return _PREAMBLE + task.script


def set_up(manifest: Manifest, *, secrets: bool) -> str:
    """The script that writes ~/.buildenv and clones the sources; its output is the set-up log."""
    return _SET_UP_HEAD + "".join(f"{line}\n" for line in _steps(manifest, secrets))


def build_environment(manifest: Manifest, *, secrets: bool) -> str:
    """The text of ~/.buildenv; what the service sets comes last, so it is stronger."""
    lines = [_assignment(name, value) for name, value in manifest.environment.items() if not _unusable(name)]
    token = _BUILDENV_OAUTH if manifest.oauth and secrets else ""
    return "".join([_BUILDENV_HEAD, *(f"{line}\n" for line in lines), _BUILDENV_FACTS, token])


def _script(name: str, text: str, before: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "run": text,
        "start_when": [] if before is None else [{"script": before, "states": ["passed"]}],
        "terminate_when": [],
        "timeout_seconds": None,
        "environment_variables": {},
        "ignore_abort": False,
        "ignore_state": False,
        "exclusive": None,
    }


# -- the set-up, line by line


def _steps(manifest: Manifest, secrets: bool) -> Iterator[str]:
    yield _say("step", f"image: {manifest.image}")
    if manifest.arch is not None:
        yield from _architecture(manifest.arch)
    yield "command -v bash >/dev/null || give_up 'this image has no bash, which runs the tasks; add it to packages'"
    yield _say("step", "environment: ~/.buildenv")
    yield from _left_out(manifest)
    yield from _written("~/.buildenv", build_environment(manifest, secrets=secrets))
    yield from _given(manifest, secrets)
    # What the image's package manager does is done before any script runs.
    if manifest.repositories:
        yield _say("step", f"repositories: {', '.join(manifest.repositories)}")
    if manifest.packages:
        yield _say("step", f"packages: {', '.join(manifest.packages)}")
    if manifest.sources:
        yield ""
        yield _CLONING.rstrip("\n")
        yield ""
        for text in manifest.sources:
            yield from _cloned(text)
    if manifest.shell:
        yield _say("step", "shell: this server offers no interactive shell; the job ends after its tasks")
    if len(manifest.artifacts) > MOST_ARTIFACTS:
        yield _say(
            "step", f"artifacts: {len(manifest.artifacts)} are more than {MOST_ARTIFACTS}; none is kept"
        )
    yield _say("step", f"tasks: {', '.join(task.name for task in manifest.tasks) or 'none'}")


def _architecture(arch: str) -> Iterator[str]:
    yield _say("step", f"architecture: {arch}")
    yield f"wanted={shlex.quote(_MACHINES.get(arch, arch))} machine=$(uname -m)"
    yield '[ "$machine" = "$wanted" ] || give_up "the manifest asks for $wanted; this is $machine"'


def _left_out(manifest: Manifest) -> Iterator[str]:
    for name, value in manifest.environment.items():
        if why := _unusable(name):
            yield _say("note", f"left out: {why}")
        elif isinstance(value, tuple) and (others := sum(not isinstance(item, str) for item in value)):
            yield _say("note", f"left out: {others} of {name} in the list, which are no strings; quote them")


def _given(manifest: Manifest, secrets: bool) -> Iterator[str]:
    if not secrets and (manifest.secrets or manifest.oauth):
        yield _say("step", "secrets: the job was submitted without them")
        return
    if manifest.secrets:
        yield _say("step", f"secrets: {len(manifest.secrets)}")
    if manifest.oauth:
        yield _say("step", f"oauth: OAUTH2_TOKEN, for {manifest.oauth}")


def _cloned(text: str) -> Iterator[str]:
    found = source(text)
    yield _say("step", f"source: {text}")
    if found.scm != "git":
        told = (
            "Mercurial is not offered here"
            if found.scm == "hg"
            else f"{found.scm} is not a kind of source; git is"
        )
        yield _say("give_up", f"{told}: {text}")
    elif not found.directory:
        yield _say("give_up", f"the URL names no directory; write directory:: in front of it: {text}")
    elif (found.ref or "").startswith("-"):
        yield _say("give_up", f"no branch, tag or commit begins with -: {text}")
    else:
        words = [found.url, found.directory, *([found.ref] if found.ref else [])]
        yield f"clone {' '.join(shlex.quote(word) for word in words)}"


def _written(path: str, text: str) -> Iterator[str]:
    """A quoted here-document, whose last line is one that the text does not have."""
    end, lines = "END", text.split("\n")
    while end in lines:
        end += "_"
    yield f"cat >{path} <<'{end}'"
    yield f"{text}{end}"


def _say(function: str, text: str) -> str:
    return f"{function} {shlex.quote(''.join(c if c.isprintable() else ' ' for c in text))}"


# -- the environment, by type


def _unusable(name: str) -> str | None:
    """Why a variable cannot be given to tasks, or None."""
    if fault := variable_shape_fault(name):
        return fault
    if name.startswith(RESERVED_PREFIX):
        return f"{name}, as variables that begin with {RESERVED_PREFIX} are set by the server"
    return f"{name}, which bash keeps for itself" if name in _OF_BASH else None


def _assignment(name: str, value: Variable) -> str:
    if isinstance(value, tuple):
        return f"{name}=({' '.join(shlex.quote(item) for item in value if isinstance(item, str))})"
    return f"export {name}={shlex.quote(_written_out(value))}"


def _written_out(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)
