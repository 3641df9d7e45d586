"""Spec repositories for measuring: many small files, made by fast-import in one go."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

PER_PROJECT = 99  # with their Project a hundred


def document(number: int, version: int = 0) -> str:
    """A Build such as people write, in a file of its own."""
    project = number // PER_PROJECT
    return (
        "apiVersion: steersman/v1\nkind: Build\n"
        f"metadata:\n  name: build-{number}\n  project: project-{project}\n  labels: {{team: team-{number % 7}}}\n"
        "spec:\n  environment_variables:\n"
        f"    LEVEL: '{version}'\n    CC: gcc\n"
        "  timeout_seconds: 1800\n  tasks:\n"
        "    - name: lint\n      run: make lint\n"
        "    - name: test\n      needs: [lint]\n      run: make test\n      max_trials: 2\n"
    )


def files(count: int) -> dict[str, str]:
    """Projects of 99 Builds each, `count` (a multiple of 100) resources in all."""
    projects = count // (PER_PROJECT + 1)
    found = {
        f"projects/project-{i}/project.yaml": (
            f"apiVersion: steersman/v1\nkind: Project\nmetadata: {{name: project-{i}}}\n"
            f"spec: {{description: number {i}}}\n"
        )
        for i in range(projects)
    }
    return found | {path_of(number): document(number) for number in range(projects * PER_PROJECT)}


def path_of(number: int) -> str:
    """Where a Build is declared."""
    return f"projects/project-{number // PER_PROJECT}/builds/build-{number}.yaml"


class Repository:
    """A bare repository; commits are prepared first and published by one `update-ref`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
        self.head = ""

    def prepare(self, changes: Mapping[str, str]) -> str:
        """A commit on top of the last prepared one, not visible yet; its id."""
        lines = [b"commit refs/bench/next\ncommitter Bench <bench@example.org> 1700000000 +0000\ndata 1\nx\n"]
        if self.head:
            lines.append(f"from {self.head}\n".encode())
        for path, text in changes.items():
            data = text.encode()
            lines.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        command = ["git", "-C", str(self.path), "fast-import", "--quiet", "--force", "--date-format=raw"]
        subprocess.run(command, input=b"".join(lines), check=True)
        self.head = self._git("rev-parse", "refs/bench/next")
        return self.head

    def publish(self, commit: str) -> None:
        """Make a commit the head of main."""
        self._git("update-ref", "refs/heads/main", commit)

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()
