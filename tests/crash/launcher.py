"""Starts daemons whose points are counted, forked from one that has imported them. Called by `tests.crash.drive`."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.crash import points
from tests.crash.points import Kill
from tests.forked import fork, quiet


@dataclass(frozen=True, slots=True)
class Order:
    """One start of a daemon: its settings as environment, where it writes, and when it is to die."""

    environment: Mapping[str, str]
    errors: Path
    points: Path
    kill: Kill | None


def launch(order: Order) -> ForkServerProcess:
    """Fork a daemon; it may be dead at any time from now."""
    return fork(_serve, order)


def killed(process: ForkServerProcess) -> bool:
    """It has ended, and by KILL."""
    return process.exitcode == -signal.SIGKILL


def _serve(order: Order) -> None:
    """In the fork: become a daemon as `steersman serve` starts one."""
    quiet(order.errors)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    os.environ.clear()
    os.environ.update(kept | dict(order.environment))
    points.install(order.points, order.kill)

    from api.serve import serve
    from reconciler.settings import load

    serve(load({}))
