"""The conversation with one long-lived `git cat-file`: names in, headers or contents out.

Held by `reconciler.source.repository`, one for headers and one for contents, and used from one thread only.
Starts no process itself and never asks for more at once than fits a pipe, so that neither side can wait for
the other.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from subprocess import Popen

from reconciler.source.failures import GitFailed

_AT_ONCE = 32  # names sent before answers are read: 32 names of 41 bytes fit the smallest pipe


@dataclass(frozen=True, slots=True)
class Header:
    """What an object is."""

    id: str
    type: str
    size: int


class Batch:
    """One `git cat-file --batch-check` or `--batch`."""

    def __init__(self, process: Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("cat-file needs pipes")
        self._process = process
        self._names, self._answers, self._complaints = process.stdin, process.stdout, process.stderr
        os.set_blocking(self._complaints.fileno(), False)

    def headers(self, names: Sequence[str]) -> Iterator[Header | None]:
        """Of `--batch-check`: the header of each name in order, None for what does not resolve."""
        for few in _portions(names):
            self._send(few)
            for _ in few:
                yield self._header()

    def contents(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """Of `--batch`: the content of each name in order, None for what does not resolve."""
        for few in _portions(names):
            self._send(few)
            for _ in few:
                header = self._header()
                yield None if header is None else self._content(header.size)

    def close(self) -> None:
        """End the process and its pipes."""
        with contextlib.suppress(OSError):
            self._names.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()
        self._complaints.close()

    def _send(self, names: Sequence[str]) -> None:
        # Warnings nobody reads would fill their pipe and stop the process.
        self._complaints.read()
        try:
            self._names.write(b"".join(name.encode("utf-8", "surrogateescape") + b"\n" for name in names))
            self._names.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._died() from error

    def _header(self) -> Header | None:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        fields = line.split()
        if len(fields) == 3 and fields[2].isdigit():
            return Header(fields[0].decode("ascii"), fields[1].decode("ascii"), int(fields[2]))
        return None

    def _content(self, size: int) -> bytes:
        content = self._answers.read(size + 1)
        if len(content) != size + 1:
            raise self._died()
        return content[:-1]

    def _died(self) -> GitFailed:
        self._process.wait()
        return GitFailed(
            self._process.returncode, (self._complaints.read() or b"").decode("utf-8", "replace")
        )


def _portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
