"""Runs a worker until a signal. TERM and INT end it; with `drain`, first all that runs here, until a second signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from api.serve import configure_logging
from reconciler.execution import processes
from reconciler.settings import Settings, forget_environment
from reconciler.store.engine import shown
from reconciler.worker import WorkerProcess


def work(settings: Settings, *, drain: bool) -> None:
    """Blocks. Raises `Stalled` with a sentence for people if it cannot start."""
    forget_environment()
    processes.spare_children()
    configure_logging(settings.log_format)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        # asyncio's own loop: uvloop starts processes several times slower
        runner.run(_work(settings, drain=drain))


async def _work(settings: Settings, *, drain: bool) -> None:
    leaving, at_once = asyncio.Event(), asyncio.Event()

    def leave() -> None:
        (at_once if leaving.is_set() or not drain else leaving).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    async with WorkerProcess(settings) as worker:
        names = ", ".join(settings.executors)
        _say(f"Steersman's worker runs scripts of {names} for the daemons on {shown(settings.database_url)}")
        if ready := os.environ.get("STEERSMAN_READY_FILE"):
            await asyncio.to_thread(Path(ready).write_text, "ready\n", encoding="utf-8")
        waits = [asyncio.create_task(each) for each in (leaving.wait(), at_once.wait(), worker.failed())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if waits[2].done():
                waits[2].result()
            if leaving.is_set():
                _say(f"Waiting for {worker.active} scripts to end; a second signal ends the worker at once")
                draining = asyncio.create_task(worker.drain())
                waits.append(draining)
                await asyncio.wait({draining, waits[1]}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
