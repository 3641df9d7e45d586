"""Starts daemons whose points are counted, each in a process of its own that is forked from one with all imports done.

Called by `tests.crash.drive`. A fork server (the standard library's) imports the daemon once; a daemon is up in a
fraction of a second then, and KILL hits it alone: it has no threads of ours, no pipe that its end would close.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.crash import points
from tests.crash.points import Kill

PRELOAD = [
    "api.serve", "tests.crash.launcher", "alembic.command", "alembic.config", "anyio._backends._asyncio",
    "apscheduler.executors.asyncio", "apscheduler.triggers.date", "litestar._kwargs", "litestar.plugins.attrs",
    "litestar.plugins.pydantic", "litestar.plugins.pydantic.plugins.schema", "litestar.middleware.response_cache",
    "pydantic.networks", "pydantic.v1", "uvicorn.lifespan.on", "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
]  # fmt: skip
"""The daemon, and what it imports only when it starts; what is not there any more costs time and nothing else."""


@dataclass(frozen=True, slots=True)
class Order:
    """One start of a daemon: its settings as environment, where it writes, and when it is to die."""

    environment: Mapping[str, str]
    errors: Path
    points: Path
    kill: Kill | None


def launch(order: Order) -> ForkServerProcess:
    """Fork a daemon; it may be dead at any time from now."""
    process = _context().Process(target=_serve, args=(order,), daemon=False)
    process.start()
    return process


def killed(process: ForkServerProcess) -> bool:
    """It has ended, and by KILL."""
    return process.exitcode == -signal.SIGKILL


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # a child runs its parent's main module, which under pytest imports all of it
    context.set_forkserver_preload(PRELOAD + [name for name in ("pytest",) if name in sys.modules])
    return context


def _serve(order: Order) -> None:
    """In the fork: become a daemon as `steersman serve` starts one."""
    os.setsid()
    output = os.open(order.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    os.environ.clear()
    os.environ.update(kept | dict(order.environment))
    points.install(order.points, order.kill)

    from api.serve import serve
    from reconciler.settings import load

    serve(load({}))
