"""The conversation with one `git rev-list`: commits in portions, as they are wanted.

Held by `reconciler.source.git.Mirror.history`, and used from one thread only. Never holds more than a portion, so that
a history of any length takes no more memory than a short one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Collection
from subprocess import Popen

from reconciler.model.history import Commit
from reconciler.source import parse
from reconciler.source.failures import GitFailed

ARGUMENTS = ("rev-list", "--stdin", f"--format=tformat:{parse.HISTORY_FORMAT}")


class History:
    """The commits that lead to some and not to others, newest first."""

    def __init__(self, process: Popen[bytes], heads: Collection[str], without: Collection[str]) -> None:
        """`process` runs ARGUMENTS; it reads all names before it answers. Nothing is read for no heads."""
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("rev-list needs pipes")
        self._process = process
        self._complaints = process.stderr
        self._output = process.stdout
        whole = itertools.takewhile(lambda line: line.endswith(b"\n"), process.stdout)
        self._commits = parse.history(whole)
        names = [*heads, *(f"^{commit}" for commit in without)]
        with contextlib.suppress(BrokenPipeError), process.stdin as names_pipe:  # why, it tells at the end
            names_pipe.write("".join(f"{name}\n" for name in names).encode("ascii"))

    def portion(self, most: int) -> list[Commit]:
        """The next commits; none at the end. GitFailed."""
        found = list(itertools.islice(self._commits, most))
        if not found and self._process.wait() != 0:
            complaints = self._complaints.read().decode("utf-8", "replace")
            raise GitFailed(self._process.returncode, complaints)
        return found

    def close(self) -> None:
        """End the process and its pipes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
        self._complaints.close()
