"""A Repository's pass that dies after any of its commits: another daemon goes on, and nothing is missing in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon import Daemon
from reconciler.errors import Stalled
from reconciler.installation import Installation
from reconciler.model.job import State
from reconciler.passes import repositories
from reconciler.store import events, history
from reconciler.store.database import Database, Write
from tests.reconciler.passes.test_repositories import (
    ALL,
    KEY,
    MANIFEST,
    NOBODY,
    Team,
    conditions,
    configured,
    keys,
)
from tests.support import daemon, settings_for

BAD = '{"jobs": {}, "job": 1}'
Work = Callable[[Daemon], Awaitable[None]]


def _dying(patch: pytest.MonkeyPatch, after: int, commits: list[int]) -> None:
    """From now on passes of Repositories commit so often, and never again. The list grows by each commit."""
    run, write = repositories.run, Database.write
    passes: set[asyncio.Task[Any] | None] = set()

    async def watched(installation: Installation, key: str) -> datetime | None:
        passes.add(asyncio.current_task())
        return await run(installation, key)

    async def counted(database: Database, work: Callable[[Write], Any], *rest: Any, **named: Any) -> Any:
        if asyncio.current_task() not in passes:
            return await write(database, work, *rest, **named)
        if len(commits) < after:
            result = await write(database, work, *rest, **named)
            commits.append(len(commits) + 1)
            if len(commits) < after:
                return result
        raise Stalled("Killed", "the pass ends here")

    patch.setattr(repositories, "run", watched)
    patch.setattr(Database, "write", counted)


def _use(team: Team, work: Work) -> None:
    """Do something with a daemon that has come to rest."""

    async def use() -> None:
        async with daemon(settings_for(team.specs, team.data)) as running:
            await running.loop.idle()
            await work(running)

    asyncio.run(use())


def _declared(team: Team, spec: Mapping[str, Any], after: int) -> int:
    """Declare the Repository anew; its pass dies after so many commits. How many there were."""
    commits: list[int] = []

    async def work(running: Daemon) -> None:
        with pytest.MonkeyPatch.context() as patch:
            _dying(patch, after, commits)
            team.declare(**spec)
            await running.installation.run_now("source")
            await running.loop.idle()

    _use(team, work)
    return len(commits)


def _after_each_commit(
    tmp_path: Path, begun: Callable[[Path], Team], spec: Mapping[str, Any], work: Work
) -> int:
    """Let the pass die after its first commit, its second and so on; what another daemon makes of it passes `work`.

    Gives the number of commits of a pass that nobody has ended.
    """
    for number in count(1):
        team = begun(tmp_path / str(number))
        commits = _declared(team, spec, number)
        _use(team, work)
        if commits < number:
            return commits
    raise AssertionError


def test_a_pass_that_dies_after_a_commit_is_gone_on_with(tmp_path: Path) -> None:
    """History, jobs and manifests once each; what is wrong is told of, though the head was judged by a dead one."""

    def begun(folder: Path) -> Team:
        team = Team(folder)
        team.code.commit({".builds/good.yml": MANIFEST % "", ".builds/bad.yml": "image: [\n"})
        team.configure(unit=NOBODY | ALL)
        team.code.git("checkout", "-q", "-b", "bad")
        team.code.commit({"cider-ci.yml": BAD})
        team.code.git("checkout", "-q", "main")
        return team

    async def work(running: Daemon) -> None:
        read = running.installation.database.read
        found = await configured(running)
        assert keys(found) == ["unit"]
        pushed = [job.trigger["path"] for job in found if "path" in job.trigger]
        assert pushed == [".builds/good.yml"]
        said = conditions(running)
        assert said["ConfigurationInvalid"].startswith("cider-ci.yml on bad (")
        assert ".builds/bad.yml" in said["ManifestInvalid"]
        assert len(await read(lambda c: events.after(c, 0, 100, KEY, "tree-issue"))) == 1
        assert len(await read(lambda c: history.ids(c, KEY))) == 3
        branches = (await read(lambda c: history.of_repository(c, KEY))).values()
        assert {branch.name for branch in branches if branch.judged == branch.commit} == {"main", "bad"}

    spec = {"cider_ci": {}, "srht": {"submit_as": "jo", "manifests": [".builds/*.yml"]}}
    assert _after_each_commit(tmp_path, begun, spec, work) > 5


def test_what_is_asked_for_no_more_ends_whoever_dies(tmp_path: Path) -> None:
    """Jobs of a Repository with which nothing is done any more: its history is forgotten last."""

    def begun(folder: Path) -> Team:
        team = Team(folder, cider_ci={})
        team.configure(unit=NOBODY | ALL)
        return team

    async def work(running: Daemon) -> None:
        (job,) = await configured(running)
        assert job.state is State.ABORTED
        assert await running.installation.database.read(history.repositories) == set()

    assert _after_each_commit(tmp_path, begun, {"description": "only that"}, work) > 1
