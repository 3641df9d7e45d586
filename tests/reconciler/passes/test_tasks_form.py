"""The whole `tasks` form of a Build, run for real: what tasks hand on, when they start, how they are repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.access import EVERYTHING, ROOT, Caller
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Checkout, Job, Reason, State
from reconciler.queries import jobs as job_queries
from reconciler.store import jobs
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import SpecRepository, eventually

ALICE = Caller("User/alice", EVERYTHING)
KEY = "Build/shop/_/work"
S = State

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


def states(job: Job) -> dict[str, tuple[State, str | None]]:
    return {task.name: (task.state, task.reason) for task in job.tasks}


HANDED_ON = r"""
triggers: [{type: change}]
tasks:
  - name: make
    matrix: {flavour: [sweet, sour], size: [small, large], exclude: [{flavour: sour, size: large}]}
    attachments: ["out/*"]
    run: |
      mkdir out
      echo $MATRIX_FLAVOUR-$MATRIX_SIZE > out/what.txt
      printf '#!/bin/sh\necho ran\n' > out/tool
      chmod +x out/tool
      echo "taste=$MATRIX_FLAVOUR and $MATRIX_SIZE" >> "$STEERSMAN_OUTPUTS"
      echo no-pair >> "$STEERSMAN_OUTPUTS"
  - name: use
    needs: [make]
    run: |
      env | grep ^OUTPUT_ | sort
      cd $STEERSMAN_NEEDS
      cat */out/what.txt
      ls
      make-sour-small/out/tool
      echo spoilt > make-sour-small/out/what.txt
"""


def test_outputs_and_attachments_are_handed_on(tmp_path: Path, new_database: NewDatabase) -> None:
    """A matrix makes a task a row; who needs it sees values and files of every row, and cannot change the files."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        rows = ["make-sweet-small", "make-sweet-large", "make-sour-small"]
        assert [task.name for task in job.tasks] == [*rows, "use"]
        assert [task.state for task in job.tasks] == [S.PASSED, S.PASSED, S.PASSED, S.FAILED]
        found = (await text_of(running, task="use")).splitlines()
        assert found[:-1] == [
            "OUTPUT_make_sour_small_taste=sour and small",
            "OUTPUT_make_sweet_large_taste=sweet and large",
            "OUTPUT_make_sweet_small_taste=sweet and small",
            *("sour-small", "sweet-large", "sweet-small"),
            *("make-sour-small", "make-sweet-large", "make-sweet-small"),
            "ran",
        ]
        assert "Read-only file system" in found[-1]
        told = await text_of(running, task="make-sour-small")
        assert told == "steersman: line 2 of its outputs is not NAME=value and was left out\n"
        wanted = (running.installation, ROOT, 1, "out/what.txt", "make-sour-small", None)
        _, path = await job_queries.attachment(*wanted)
        assert path.read_text() == "sour-small\n"

    live(tmp_path, new_database, build(HANDED_ON), work)


WHEN = """
triggers: [{type: change}]
tasks:
  - {name: flaky, run: exit 3, ignore_failure: true}
  - {name: after-flaky, needs: [flaky], run: "true"}
  - {name: bad, run: exit 1}
  - {name: after-bad, needs: [bad], run: "true"}
  - {name: told, needs: [after-bad], when: failed, run: "true"}
  - {name: not-told, needs: [after-flaky], when: failed, run: "true"}
  - {name: always, needs: [after-bad, flaky], when: always, run: "true"}
"""


def test_when_and_ignore_failure(tmp_path: Path, new_database: NewDatabase) -> None:
    """A failure that is ignored holds nobody up; `when` picks what runs after the others."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        assert (job.state, job.reason) == (S.FAILED, Reason.EXIT_STATUS)
        assert states(job) == {
            "flaky": (S.FAILED, Reason.EXIT_STATUS),
            "after-flaky": (S.PASSED, None),
            "bad": (S.FAILED, Reason.EXIT_STATUS),
            "after-bad": (S.SKIPPED, Reason.NEEDS),
            "told": (S.PASSED, None),
            "not-told": (S.SKIPPED, Reason.WHEN),
            "always": (S.PASSED, None),
        }

    live(tmp_path, new_database, build(WHEN), work)


def test_an_ignored_failure_alone_passes(tmp_path: Path, new_database: NewDatabase) -> None:
    """The job's verdict counts it as passed."""
    specs = build("triggers: [{type: change}]\ntasks:\n  - {name: a, run: exit 3, ignore_failure: true}")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        assert (await finished(running)).state is S.PASSED

    live(tmp_path, new_database, specs, work)


def test_attempts_are_repeated_after_a_delay(tmp_path: Path, new_database: NewDatabase) -> None:
    """`retry_on` names what is repeated; `retry_delay_seconds` passes between two, doubled."""
    specs = build(
        "triggers: [{type: change}]\ntasks:\n"
        "  - {name: again, run: exit 1, max_trials: 3, retry_delay_seconds: 1}\n"
        "  - {name: once, run: exit 1, max_trials: 3, retry_on: [timeout]}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        again, once = job.tasks
        assert (len(again.trials), len(once.trials)) == (3, 1)
        ends = [(trial.created_at, trial.finished_at) for trial in again.trials]
        waits = [(ends[i + 1][0] - ends[i][1]).total_seconds() for i in range(2)]  # type: ignore[operator]
        assert waits[0] >= 1
        assert waits[1] >= 2

    live(tmp_path, new_database, specs, work)


def test_who_waits_to_be_repeated_holds_no_lock(tmp_path: Path, new_database: NewDatabase) -> None:
    """Between two attempts nothing of the task runs: another one that needs the same lock goes on."""
    specs = build(
        "triggers: [{type: change}]\ntasks:\n"
        "  - {name: first, run: exit 1, max_trials: 2, retry_delay_seconds: 3600, exclusive: [board], priority: 9}\n"
        "  - {name: second, run: 'true', exclusive: [board]}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        async def passed() -> bool:
            job = await running.installation.database.read(lambda c: jobs.load(c, 1))
            return job is not None and job.tasks[1].state is S.PASSED and len(job.tasks[0].trials) == 1

        await eventually(passed, 20)

    live(tmp_path, new_database, specs, work)


def test_of_eager_trials_the_first_to_pass_wins(tmp_path: Path, new_database: NewDatabase) -> None:
    """Side by side; the others are ended, and the task has passed."""
    specs = build(
        "triggers: [{type: change}]\ntasks:\n"
        "  - {name: race, max_trials: 3, eager_trials: 2, run: 'test $STEERSMAN_ATTEMPT = 2 || sleep 600'}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        assert job.state is S.PASSED
        found = [(trial.state, trial.reason) for trial in job.tasks[0].trials]
        assert found == [(S.ABORTED, Reason.SUPERSEDED), (S.PASSED, None)]

    live(tmp_path, new_database, specs, work)


def test_a_lock_has_one_holder(tmp_path: Path, new_database: NewDatabase) -> None:
    """Over all Builds: scripts that hold the same lock never overlap."""
    out = tmp_path / "out"
    out.mkdir()
    script = f"echo in >> {out}/log; sleep 0.3; echo out >> {out}/log"
    executor = (
        "apiVersion: steersman/v1\nkind: Executor\nmetadata: {name: local}\n"
        f"spec: {{max_load: 8, writable: ['{out}']}}\n---\n"
    )
    body = f"triggers: [{{type: change}}]\ntasks: [{{name: t, exclusive: [db], run: '{script}'}}]"

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        for number in (1, 2, 3):
            assert (await finished(running, number)).state is S.PASSED
        assert (out / "log").read_text().split() == ["in", "out"] * 3

    live(
        tmp_path,
        new_database,
        executor + "---\n".join(build(body, name=name) for name in ("a", "b", "c")),
        work,
    )


CACHED = r"""
triggers: [{type: change}]
tasks:
  - name: t
    cache: [{key: "v1-{files:*.lock}", paths: [deps, .tool]}]
    run: |
      echo NOTE
      ls -A deps 2>/dev/null || true
      ./deps/run 2>/dev/null || echo empty
      mkdir -p deps .tool
      printf '#!/bin/sh\necho cached\n' > deps/run
      chmod +x deps/run
      ln -sfn /etc deps/out
"""


def test_a_cache_comes_back(tmp_path: Path, new_database: NewDatabase) -> None:
    """What passed under a key is there the next time, with its modes and links."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        assert (await finished(running)).state is S.PASSED
        repo.commit({"work.yaml": build(CACHED.replace("NOTE", "second"))})
        await running.installation.run_now("source")
        assert (await finished(running, 2)).state is S.PASSED
        assert await text_of(running, 1) == "first\nempty\n"
        assert await text_of(running, 2) == "second\nout\nrun\ncached\n"

    live(tmp_path, new_database, build(CACHED.replace("NOTE", "first")), work)


SERVICES = """
triggers: [{type: change}]
tasks:
  - name: t
    network: none
    environment_variables:
      ASK: import urllib.request as u; print(u.urlopen("http://localhost:8123/").status)
    run: python3 -c "$ASK"
    services:
      - name: web
        environment_variables: {GREETING: hi}
        ready: python3 -c "$ASK"
        run: |
          echo $GREETING
          exec python3 -m http.server --bind 127.0.0.1 8123
  - name: broken
    services: [{name: gone, run: "echo bye; exit 3", ready: "false"}]
    run: echo never
  - name: late
    timeout_seconds: 2
    services: [{name: slow, run: sleep 600, ready: "echo not yet; false"}]
    run: echo never
  - name: flooded
    services: [{name: loud, run: "yes | head -c 3M; sleep 600"}]
    run: sleep 3
"""


def test_services_run_beside_the_script(tmp_path: Path, new_database: NewDatabase) -> None:
    """Started before it, ready when it starts, ended with it, on localhost without a network, with their own logs."""

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        job = await finished(running)
        web, broken, late, flooded = job.tasks
        assert web.state is S.PASSED
        assert [(s.name, s.state) for s in web.trials[0].scripts] == [("web", S.PASSED), ("run", S.PASSED)]
        assert await text_of(running, task="t", script="run") == "200\n"
        assert (await text_of(running, task="t", script="web")).startswith("hi\n")
        assert (broken.state, broken.reason) == (S.DEFECTIVE, Reason.SERVICE)
        assert broken.trials[0].error == "the service gone was not ready; its log says more"
        assert await text_of(running, task="broken", script="gone") == "bye\n"
        assert "never" not in await text_of(running, task="broken", script="run")
        assert (late.state, late.reason) == (S.DEFECTIVE, Reason.TIMEOUT)
        slow = (
            "it took longer than timeout_seconds, waiting for the service slow to be ready; its log says more"
        )
        assert late.trials[0].error == slow
        assert [(s.name, s.state) for s in late.trials[0].scripts] == [
            ("slow", S.DEFECTIVE),
            ("run", S.DEFECTIVE),
        ]
        assert (await text_of(running, task="late", script="slow")).startswith("not yet\n")
        assert flooded.state is S.PASSED
        told = "steersman: the service loud was ended: its log grew beyond the limit of log_bytes\n"
        assert await text_of(running, task="flooded", script="run") == told

    live(tmp_path, new_database, build(SERVICES), work, log_bytes=1 << 20)


def test_a_newer_job_ends_a_running_one(tmp_path: Path, new_database: NewDatabase) -> None:
    """`concurrency: replace` with `cancel_running`."""
    specs = build("concurrency: replace\ncancel_running: true\ntasks: [{name: t, run: 'echo on; sleep 600'}]")

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, KEY, {}, None, None)

        async def begun() -> bool:
            job = await running.installation.database.read(lambda c: jobs.load(c, 1))
            return job is not None and job.state is S.EXECUTING and bool(await text_of(running))

        await eventually(begun)
        await commands.trigger(running.installation, ALICE, KEY, {}, None, None)
        first = await finished(running, 1)
        assert (first.state, first.reason) == (S.ABORTED, Reason.SUPERSEDED)
        await commands.cancel(running.installation, ALICE, 2)
        await finished(running, 2)

    live(tmp_path, new_database, specs, work)


def test_tasks_of_other_branches_are_skipped(tmp_path: Path, new_database: NewDatabase) -> None:
    """A task kept to branches or tags runs there only; what needs it is skipped as well, and the job passes."""
    code = SpecRepository(tmp_path / "code")
    code.commit({"a.txt": "1"})
    code.git("branch", "feature")
    specs = build(
        f"repo: '{code.path}'\nbranches: [main, feature]\ntasks:\n"
        "  - {name: test, run: 'true'}\n"
        "  - {name: publish, needs: [test], branches: [main], tags: ['v*'], run: 'true'}\n"
        "  - {name: tell, needs: [publish], run: 'true'}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        await commands.trigger(running.installation, ALICE, KEY, {}, "feature", None)
        await commands.trigger(running.installation, ALICE, KEY, {}, "main", None)
        elsewhere, here = await asyncio.gather(finished(running, 1), finished(running, 2))
        assert (elsewhere.state, here.state) == (S.PASSED, S.PASSED)
        assert isinstance(elsewhere.checkout, Checkout)
        assert states(elsewhere)["publish"] == (S.SKIPPED, Reason.OTHER_REF)
        assert states(elsewhere)["tell"] == (S.SKIPPED, Reason.NEEDS)
        assert states(here)["tell"] == (S.PASSED, None)

    live(tmp_path, new_database, specs, work)
