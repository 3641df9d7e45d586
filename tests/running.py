"""Jobs of a daemon in this process: a Build's text, the daemon on it, the job once it has ended, its log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from reconciler.access import ROOT
from reconciler.daemon import Daemon
from reconciler.model.job import Job
from reconciler.queries import logs
from reconciler.queries.logs import Selection
from reconciler.store import jobs
from tests.conftest import NewDatabase
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for


def build(body: str, *, name: str = "work") -> str:
    """A Build of the project shop with these lines as its specification."""
    head = f"apiVersion: steersman/v1\nkind: Build\nmetadata: {{name: {name}, project: shop}}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in body.splitlines())


def live(
    tmp_path: Path,
    new_database: NewDatabase,
    specs: str,
    work: Callable[[Daemon, SpecRepository], Awaitable[None]],
    **settings: Any,
) -> None:
    """A daemon on a repository with one file of specs."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": specs})

    async def run() -> None:
        async with daemon(
            settings_for(repo, tmp_path / "data", database=new_database(), **settings)
        ) as running:
            await asyncio.wait_for(work(running, repo), 90)

    asyncio.run(run())


async def finished(running: Daemon, number: int = 1) -> Job:
    """Job NUMBER once it has ended."""

    async def check() -> Job | None:
        job = await running.installation.database.read(lambda c: jobs.load(c, number))
        return job if job is not None and job.state.finished else None

    job: Job = await eventually(check, 40)
    return job


async def text_of(running: Daemon, number: int = 1, **selection: Any) -> str:
    """A job's log, or that of a selection of its scripts."""
    chunks = [
        chunk async for chunk in logs.read(running.installation, ROOT, number, Selection(**selection), 0)
    ]
    return b"".join(chunks).decode()
