"""Real scripts under the real supervisor, bare and in bubblewrap."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.execution import sandbox, supervisor
from reconciler.execution.lease import Term
from reconciler.execution.supervisor import Command, Exit, Supervised

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Runner:
    """Makes fresh run directories and workspaces, and ends what a failed test left running."""

    base: Path
    sandboxed: bool
    runs: list[Path] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        place = self.base / "data" / "workspaces" / "one"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def fresh(self) -> Path:
        """A run directory for one claim."""
        run = self.base / "data" / "runs" / str(len(self.runs))
        self.runs.append(run)
        return run

    def command(self, text: str, *, limit: int = 1 << 20, survivors: bool = False, **more: str) -> Command:
        script = self.base / "data" / f"script{len(self.runs)}"
        script.write_text(text)
        environment = {"PATH": PATH, "HOME": sandbox.HOME if self.sandboxed else str(self.base), **more}
        if not self.sandboxed:
            argv: tuple[str, ...] = ("/bin/sh", "-e", str(script))
        else:
            view = sandbox.View(
                workspace=self.workspace,
                hidden=self.base / "data",
                network="none",
                files=((script, "/run/steersman/script"),),
                survivors=survivors,
            )
            argv = sandbox.wrap(("/bin/sh", "-e", "/run/steersman/script"), view)
        return Command(argv, environment, self.workspace, self.sandboxed, limit, survivors)

    def start(
        self,
        text: str,
        *,
        limit: int = 1 << 20,
        survivors: bool = False,
        term: Term | None = None,
        **more: str,
    ) -> Supervised:
        command = self.command(text, limit=limit, survivors=survivors, **more)
        return supervisor.start(self.fresh(), command, term)

    def run(
        self, text: str, *, limit: int = 1 << 20, term: Term | None = None, **more: str
    ) -> tuple[Exit | None, bytes]:
        """Exit and log of a script."""
        supervised = self.start(text, limit=limit, term=term, **more)
        result = asyncio.run(supervisor.wait(supervised))
        return result, (supervised.run / "raw").read_bytes()

    def clean(self) -> None:
        for run in self.runs:
            for pid in supervisor.sweep(supervisor.cookie(run)):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue


def _runner(tmp_path: Path, sandboxed: bool) -> Iterator[Runner]:
    if sandboxed and sandbox.bubblewrap() is None:
        pytest.skip(f"needs bubblewrap: {sandbox.why_not()}")
    runner = Runner(tmp_path, sandboxed)
    (tmp_path / "data").mkdir()
    yield runner
    runner.clean()


@pytest.fixture(params=["bare", "sandboxed"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runner]:
    """Both ways to run a script."""
    yield from _runner(tmp_path, request.param == "sandboxed")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Runner]:
    """Without a sandbox."""
    yield from _runner(tmp_path, False)


@pytest.fixture
def boxed(tmp_path: Path) -> Iterator[Runner]:
    """In bubblewrap."""
    yield from _runner(tmp_path, True)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that another process does; fails after thirty seconds."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    return wait
