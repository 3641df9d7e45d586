"""One more trial of a task by hand: in any state of it, and above `max_trials` (cider-ci 4.9, 5.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.access import ROOT, Caller
from reconciler.apply.jobs import insert
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.errors import Conflict, NotFound
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Checkout, Job, Reason, State
from reconciler.model.rights import Rights
from reconciler.store import jobs
from reconciler.store.jobs import NewJob
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import SpecRepository, eventually

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
KEY = "Build/shop/_/work"
FLAKY = 'echo "try $STEERSMAN_ATTEMPT"; case $STEERSMAN_ATTEMPT in {good}) true;; *) false;; esac'


def run(tmp_path: Path, new_database: NewDatabase, work: Callable[[Daemon], Awaitable[None]]) -> None:
    """In a daemon with nothing to do."""

    async def inside(running: Daemon, _repo: SpecRepository) -> None:
        await work(running)

    live(tmp_path, new_database, build("tasks: [{name: unused, run: echo}]\n"), inside)


async def submit(running: Daemon, good: str, **policy: object) -> Job:
    """A finished job with one task that passes at the attempts `good`, and of two at most by itself."""
    task = {"name": "flaky", "run": FLAKY.format(good=good), "max_trials": 2, **policy}
    new = NewJob(KEY, {"tasks": [task]}, "work", Checkout(), {"type": "manual"}, {}, "User/alice")
    number = await running.installation.database.write(lambda w: insert(w, new))
    running.installation.wake("dispatch")
    return await finished(running, number)


async def again(running: Daemon, job: Job) -> Job:
    """The job after one more trial of its task."""
    trials = len(job.tasks[0].trials)
    went_on, trial = await commands.try_again(running.installation, ROOT, job.number, job.tasks[0].id)
    assert not went_on.state.finished
    assert went_on.tasks[0].trials[-1].id == trial

    async def ended() -> Job | None:
        found = await running.installation.database.read(lambda c: jobs.load(c, job.number))
        assert found is not None
        return found if found.state.finished and len(found.tasks[0].trials) > trials else None

    found: Job = await eventually(ended, 40)
    return found


def test_what_failed_may_pass_in_the_end(tmp_path: Path, new_database: NewDatabase) -> None:
    """Case 22: two by itself, a third by hand; its log is there, and who asked for it is known."""

    async def work(running: Daemon) -> None:
        job = await submit(running, "3")
        assert (job.state, len(job.tasks[0].trials)) == (State.FAILED, 2)
        job = await again(running, job)
        assert (job.state, job.reason, job.tasks[0].state) == (State.PASSED, None, State.PASSED)
        assert [trial.actor for trial in job.tasks[0].trials] == [None, None, "User/admin"]
        assert await text_of(running, job.number, trial=3) == "try 3\n"

    run(tmp_path, new_database, work)


def test_what_passed_stays_so_whatever_comes_after(tmp_path: Path, new_database: NewDatabase) -> None:
    """`satisfy-any`; the new trial runs all the same."""

    async def work(running: Daemon) -> None:
        job = await again(running, await submit(running, "1"))
        assert job.state is State.PASSED
        assert [trial.state for trial in job.tasks[0].trials] == [State.PASSED, State.FAILED]

    run(tmp_path, new_database, work)


def test_the_last_one_decides_where_that_is_declared(tmp_path: Path, new_database: NewDatabase) -> None:
    """Case 23."""

    async def work(running: Daemon) -> None:
        job = await submit(running, "2", aggregate="satisfy-last")
        assert [trial.state for trial in job.tasks[0].trials] == [State.FAILED, State.PASSED]
        assert job.state is State.PASSED
        job = await again(running, job)
        assert (job.state, job.reason, job.tasks[0].state) == (
            State.FAILED, Reason.EXIT_STATUS, State.FAILED,
        )  # fmt: skip

    run(tmp_path, new_database, work)


def test_what_cannot_be_tried_again(tmp_path: Path, new_database: NewDatabase) -> None:
    """A task of another job, a job that is not seen, and one that is being ended."""

    async def work(running: Daemon) -> None:
        job = await submit(running, "1")
        with pytest.raises(NotFound):
            await commands.try_again(running.installation, ROOT, job.number, "nobody")
        stranger = Caller("User/bob", Rights())
        with pytest.raises(NotFound):
            await commands.try_again(running.installation, stranger, job.number, job.tasks[0].id)
        new = NewJob(
            KEY,
            {"tasks": [{"name": "t", "run": "trap '' TERM; sleep 60"}]},
            "work",
            Checkout(),
            {"type": "manual"},
            {},
            "User/alice",
        )
        number = await running.installation.database.write(lambda w: insert(w, new))
        running.installation.wake("dispatch")

        async def at_work() -> Job | None:
            found = await running.installation.database.read(lambda c: jobs.load(c, number))
            return found if found is not None and found.state is State.EXECUTING else None

        other: Job = await eventually(at_work)
        await commands.cancel(running.installation, ROOT, number)
        with pytest.raises(Conflict):
            await commands.try_again(running.installation, ROOT, number, other.tasks[0].id)

    run(tmp_path, new_database, work)
