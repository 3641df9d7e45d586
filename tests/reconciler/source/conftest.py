"""Real Git repositories for the tests of `reconciler.source`, made and changed by plain git processes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import UNTENDED

_WHO = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
} | UNTENDED


class Work:
    """A work tree with `commit` and `git`."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(self, *arguments: str, cwd: Path | None = None, **env: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=os.environ | _WHO | env,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, files: dict[str, str | bytes] | None = None, message: str = "change") -> str:
        """Write the files, commit everything, and give the commit's id."""
        for name, content in (files or {}).items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A repository `work` with one commit of `a.yaml` and `specs/b.yaml` on `main`."""
    made = Work(tmp_path / "work")
    made.commit({"a.yaml": "a: 1\n", "specs/b.yaml": "b: 1\n"}, "first")
    return made


@pytest.fixture
def make_work(tmp_path: Path) -> Callable[..., Work]:
    """Makes further repositories, empty ones."""
    return lambda name, *options: Work(tmp_path / name, *options)
