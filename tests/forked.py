"""Daemons in processes of their own that are forked from one with all imports done.

A fork server (the standard library's) imports the daemon once; a daemon is up in a fraction of a second then. It is as
much a process of its own as one that was started from nothing: signals hit it alone, and nothing of ours is open in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

PRELOAD = [
    "api.serve", "api.cli", "alembic.command", "alembic.config", "anyio._backends._asyncio",
    "apscheduler.executors.asyncio", "apscheduler.triggers.date", "litestar._kwargs", "litestar.plugins.attrs",
    "litestar.plugins.pydantic", "litestar.plugins.pydantic.plugins.schema", "litestar.middleware.response_cache",
    "pydantic.networks", "pydantic.v1", "uvicorn.lifespan.on", "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
]  # fmt: skip
"""The daemon, and what it imports only when it starts; what is not there any more costs time and nothing else."""


class Forked:
    """A forked process, with what is used of `subprocess.Popen`."""

    stdout = None

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    @property
    def returncode(self) -> int | None:
        """How it ended; negative: by that signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("a forked daemon", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """To it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """TERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """KILL."""
        self.send_signal(signal.SIGKILL)


def fork(work: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Call `work`, of a module, in a new process; it may be dead at any time from now."""
    process = _context().Process(target=work, args=arguments, daemon=False)
    process.start()
    return process


def daemon(arguments: Sequence[str], environment: Mapping[str, str], errors: Path) -> Forked:
    """`steersman ARGUMENTS` with exactly this environment; it says nothing but on standard error."""
    return Forked(fork(_steersman, tuple(arguments), dict(environment), errors))


def quiet(errors: Path) -> None:
    """In the fork: a session of its own, and only standard error leads anywhere."""
    os.setsid()
    output = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nothing, 0), (nothing, 1), (output, 2)):
        os.dup2(source, target)


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # a child runs its parent's main module, which under pytest imports all of it
    context.set_forkserver_preload(PRELOAD + [name for name in ("pytest",) if name in sys.modules])
    return context


def _steersman(arguments: Sequence[str], environment: Mapping[str, str], errors: Path) -> None:
    quiet(errors)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["steersman", *arguments]

    from api.cli import main

    main()
