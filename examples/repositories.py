"""Makes Git repositories out of the examples, for `make run` and `make demo`.

Specifications are plain YAML without templates, so what differs between machines (a path, say) is put into the copies
by replacing the very text that stands in the example.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parent
_SCHEMA = re.compile(r"(?m)^(# yaml-language-server: \$schema=).*$")


def git(folder: Path, *arguments: str) -> str:
    """Standard output of a Git command that has to work; without the hooks and signing keys of the user."""
    identity = ("-c", "user.name=Steersman example", "-c", "user.email=example@steersman.invalid")
    quiet = (
        "-c",
        "commit.gpgsign=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "advice.detachedHead=false",
    )
    argv = ("git", "-C", str(folder), *identity, *quiet, *arguments)
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"`git {' '.join(arguments)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout.strip()


def new_repository(folder: Path) -> None:
    """An empty repository on the branch main."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/main")  # as `init -b main`, which older Gits lack


def commit(folder: Path, message: str) -> str:
    """Commit everything; gives the new commit's id."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def put(example: str, target: Path, values: Mapping[str, str] | None = None) -> list[Path]:
    """Copy an example's specifications into a repository, with `values` (old → new text) replaced.

    The comment that names the schema for editors is pointed at the copy in `target/.steersman`.
    """
    schema = target / ".steersman" / "schema.json"
    schema.parent.mkdir(exist_ok=True)
    schema.write_bytes((EXAMPLES / "schema.json").read_bytes())
    source = EXAMPLES / example / "specs"
    written = []
    for path in sorted(item for item in source.rglob("*") if item.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        for old, new in (values or {}).items():
            text = text.replace(old, new)
        relative = os.path.relpath(schema, place.parent)
        place.write_text(_SCHEMA.sub(lambda found, to=relative: found[1] + to, text), encoding="utf-8")
        written.append(place.relative_to(target))
    return written
