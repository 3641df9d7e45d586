"""Several scripts in one trial, with real processes: order, one home, ends, restarts; on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import ROOT
from reconciler.apply.jobs import insert
from reconciler.commands import jobs as commands
from reconciler.daemon import Daemon
from reconciler.execution import supervisor
from reconciler.execution.sandbox import bubblewrap
from reconciler.model.job import Checkout, Job, Reason, Script, State
from reconciler.sealing import load, make, seal
from reconciler.store import jobs, shipped_logs
from reconciler.store.jobs import NewJob
from tests import databases
from tests.conftest import NewDatabase
from tests.running import build, finished, live, text_of
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)
KEY = "Build/shop/_/work"
SPECS = build("tasks: [{name: unused, run: echo}]\n")


def after(*names: str, states: tuple[str, ...] = ("passed",)) -> list[dict[str, Any]]:
    """Conditions on others."""
    return [{"script": name, "states": list(states)} for name in names]


def chain(*scripts: tuple[str, str]) -> list[dict[str, Any]]:
    """One after the other."""
    found = []
    for place, (name, text) in enumerate(scripts):
        found.append({"name": name, "run": text, "start_when": after(scripts[place - 1][0]) if place else []})
    return found


async def submit(running: Daemon, scripts: list[dict[str, Any]], **policy: Any) -> int:
    """A job with one task of these scripts; its number."""
    task = {"name": "build", "scripts": scripts, "max_trials": 1, **policy}
    new = NewJob(
        KEY,
        {"tasks": [task], "concurrency": "allow"},
        "work",
        Checkout(),
        {"type": "manual"},
        {},
        "User/alice",
    )
    number: int = await running.installation.database.write(lambda w: insert(w, new))
    running.installation.wake("dispatch")
    return number


def states(job: Job) -> dict[str, tuple[State, str | None]]:
    """Those of the newest trial's scripts."""
    return {script.name: (script.state, script.reason) for script in job.tasks[0].trials[-1].scripts}


async def scripts_of(running: Daemon, number: int) -> dict[str, Script]:
    """As they are now."""
    job = await running.installation.database.read(lambda c: jobs.load(c, number))
    assert job is not None
    return {s.name: s for trial in job.tasks[0].trials for s in trial.scripts}


def run(tmp_path: Path, new_database: NewDatabase, work: Callable[[Daemon], Awaitable[None]]) -> None:
    """In a daemon."""

    async def inside(running: Daemon, _repo: SpecRepository) -> None:
        await work(running)

    live(tmp_path, new_database, SPECS, inside)


def test_one_after_the_other_in_one_home(tmp_path: Path, new_database: NewDatabase) -> None:
    """Files stay, variables and the place do not; each has a log of its own; outputs come together."""

    async def work(running: Daemon) -> None:
        number = await submit(
            running,
            chain(
                ("first", 'echo one; echo kept >~/file; X=1; cd /tmp; echo "A=1" >>$STEERSMAN_OUTPUTS'),
                ("second", 'cat ~/file; echo "[$X]"; pwd; echo "B=2" >>$STEERSMAN_OUTPUTS; touch out.txt'),
            ),
            directory="home",
            attachments=["out.txt"],
        )
        job = await finished(running, number)
        assert job.state is State.PASSED, job
        assert states(job) == {"first": (State.PASSED, None), "second": (State.PASSED, None)}
        assert await text_of(running, number, script="first") == "one\n"
        assert await text_of(running, number, script="second") == "kept\n[]\n/home/steersman\n"
        whole = await text_of(running, number)
        assert whole.startswith("==> build #1 first <==\none\n==> build #1 second <==\nkept\n")
        assert job.tasks[0].trials[0].outputs == {"A": "1", "B": "2"}
        one, two = job.tasks[0].trials[0].scripts
        assert one.finished_at is not None
        assert two.started_at is not None
        assert one.finished_at <= two.started_at

    run(tmp_path, new_database, work)


def test_the_first_failure_ends_a_sequence(tmp_path: Path, new_database: NewDatabase) -> None:
    async def work(running: Daemon) -> None:
        scripts = chain(("a", "true"), ("b", "exit 3"), ("c", "true"), ("d", "true"))
        job = await finished(running, await submit(running, scripts, completed_by=".done"))
        assert (job.state, job.reason) == (State.FAILED, Reason.EXIT_STATUS)
        assert states(job) == {
            "a": (State.PASSED, None),
            "b": (State.FAILED, Reason.EXIT_STATUS),
            "c": (State.SKIPPED, Reason.NOT_REACHED),
            "d": (State.SKIPPED, Reason.NOT_REACHED),
        }
        assert job.tasks[0].trials[0].scripts[1].exit_status == 3

    run(tmp_path, new_database, work)


def test_what_is_completed_leaves_the_rest_out(tmp_path: Path, new_database: NewDatabase) -> None:
    """The mark counts only when the script that left it has passed."""

    async def work(running: Daemon) -> None:
        scripts = chain(("a", "touch ~/.done"), ("b", "exit 1"))
        job = await finished(running, await submit(running, scripts, completed_by=".done"))
        assert job.state is State.PASSED
        assert states(job)["b"] == (State.SKIPPED, Reason.COMPLETED)
        scripts = chain(("a", "touch ~/.done; exit 1"), ("b", "true"))
        job = await finished(running, await submit(running, scripts, completed_by=".done"))
        assert job.state is State.FAILED
        assert states(job)["b"] == (State.SKIPPED, Reason.NOT_REACHED)

    run(tmp_path, new_database, work)


def test_beside_each_other_until_they_are_ended(tmp_path: Path, new_database: NewDatabase) -> None:
    """A server that a client waits for, ended when the client has passed; its end does not count."""
    server = {
        "name": "server",
        "run": "echo up >~/ready; sleep 600",
        "start_when": [],
        "terminate_when": after("client"),
        "ignore_state": True,
    }
    client = {
        "name": "client",
        "run": "while [ ! -e ~/ready ]; do sleep 0.02; done; cat ~/ready",
        "start_when": after("server", states=("executing",)),
    }

    async def work(running: Daemon) -> None:
        job = await finished(running, await submit(running, [server, client]))
        assert job.state is State.PASSED
        found = states(job)
        assert found["client"] == (State.PASSED, None)
        assert found["server"][0] is State.FAILED

    run(tmp_path, new_database, work)


def test_a_script_of_its_own_time(tmp_path: Path, new_database: NewDatabase) -> None:
    async def work(running: Daemon) -> None:
        slow = {"name": "slow", "run": "sleep 60", "start_when": [], "timeout_seconds": 0.5}
        rest = {"name": "rest", "run": "true", "start_when": after("slow")}
        job = await finished(running, await submit(running, [slow, rest]))
        assert (job.state, job.reason) == (State.DEFECTIVE, Reason.TIMEOUT)
        assert states(job) == {
            "slow": (State.DEFECTIVE, Reason.TIMEOUT),
            "rest": (State.SKIPPED, Reason.UNSATISFIABLE),
        }

    run(tmp_path, new_database, work)


def test_a_cancel_ends_what_runs_and_lets_the_cleaning_run(tmp_path: Path, new_database: NewDatabase) -> None:
    async def work(running: Daemon) -> None:
        scripts = [
            {"name": "long", "run": "echo up; sleep 600", "start_when": []},
            {"name": "next", "run": "true", "start_when": after("long")},
            {
                "name": "clean",
                "run": "echo cleaned",
                "start_when": after("long", states=("aborted", "passed", "failed")),
                "ignore_abort": True,
                "ignore_state": True,
            },
        ]
        number = await submit(running, scripts)

        async def is_up() -> bool:
            return (await scripts_of(running, number))["long"].state is State.EXECUTING

        await eventually(is_up)
        await commands.cancel(running.installation, ROOT, number)
        job = await finished(running, number)
        assert (job.state, job.reason) == (State.ABORTED, Reason.CANCELLED)
        assert states(job) == {
            "long": (State.ABORTED, Reason.CANCELLED),
            "next": (State.SKIPPED, Reason.NOT_REACHED),
            "clean": (State.PASSED, None),
        }
        assert await text_of(running, number, script="clean") == "cleaned\n"

    run(tmp_path, new_database, work)


def test_one_at_a_time_over_all_trials(tmp_path: Path, new_database: NewDatabase) -> None:
    """Who does not get the lock waits, and says so."""

    async def work(running: Daemon) -> None:
        def alone(text: str) -> list[dict[str, Any]]:
            return [{"name": "s", "run": text, "start_when": [], "exclusive": "printer"}]

        first = await submit(running, alone("while [ ! -e /tmp/go ]; do sleep 0.02; done"))

        async def begun() -> bool:
            return (await scripts_of(running, first)).get("s", None) is not None and (
                await scripts_of(running, first)
            )["s"].state is State.EXECUTING

        await eventually(begun)
        second = await submit(running, alone("echo mine"))

        async def waits() -> bool:
            return (await scripts_of(running, second))["s"].state is State.WAITING

        await eventually(waits)
        await commands.cancel(running.installation, ROOT, first)
        assert (await finished(running, second)).state is State.PASSED
        assert (await finished(running, first)).state is State.ABORTED

    run(tmp_path, new_database, work)


def test_a_restart_goes_on_where_it_was(tmp_path: Path, new_database: NewDatabase) -> None:
    """What runs goes on, what has ended is not run again, and what follows follows; no line twice, none lost."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit(
        {
            "work.yaml": SPECS,
            "project.yaml": "apiVersion: steersman/v1\nkind: Project\nmetadata: {name: shop}\n",
        }
    )
    gate = tmp_path / "gate"
    gate.mkdir()
    scripts = chain(
        ("a", 'echo a >>~/trace; echo "A=1" >>$STEERSMAN_OUTPUTS'),
        ("b", "echo b >>~/trace; echo begun; while [ ! -e ~/go ]; do sleep 0.02; done; echo ended"),
        ("c", "echo c >>~/trace; cat ~/trace"),
    )
    settings = settings_for(repo, tmp_path / "data", database=new_database())

    async def first() -> int:
        async with Daemon(settings) as running:
            await running.installation.run_now("source")
            number = await submit(running, scripts)

            async def begun() -> bool:
                found = await scripts_of(running, number)
                return found.get("b") is not None and found["b"].state is State.EXECUTING

            await eventually(begun)
            await asyncio.sleep(0.3)
            return number

    async def second(number: int) -> None:
        async with daemon(settings) as running:
            (home,) = (tmp_path / "data/workspaces").glob("*/home")
            (home / "go").touch()
            job = await finished(running, number)
            assert job.state is State.PASSED, job
            assert await text_of(running, number, script="b") == "begun\nended\n"
            assert await text_of(running, number, script="c") == "a\nb\nc\n"
            assert len(job.tasks[0].trials) == 1
            assert job.tasks[0].trials[0].outputs == {"A": "1"}

    number = asyncio.run(first())
    asyncio.run(second(number))


PRINTS = "echo shown; sleep 600"


@pytest.mark.parametrize(
    ("policy", "log"),
    [
        ({"scripts": chain(("a", PRINTS))}, "scripts/000.0"),
        ({"run": PRINTS}, "."),
        ({"services": [{"name": "db", "run": PRINTS, "ready": "true"}], "run": "sleep 600"}, "services/db"),
    ],
    ids=["several", "one", "service"],
)
def test_what_a_power_cut_takes_of_a_log_comes_back_from_the_database(
    policy: dict[str, Any], log: str, tmp_path: Path
) -> None:
    """It was shown already."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"project.yaml": PROJECT, "work.yaml": SPECS})
    settings = settings_for(repo, tmp_path / "data", database=databases.internal(databases.new_postgresql()))

    async def before() -> list[Path]:
        async with Daemon(settings) as running:
            await running.installation.run_now("source")
            await submit(running, **{"scripts": [], "lost_retries": 0, **policy})

            async def shipped() -> list[Path]:
                folders = list((tmp_path / "data/runs").glob(f"*/*/{log}"))
                runs = [str(folder.relative_to(tmp_path / "data/runs")) for folder in folders]
                found = await running.installation.database.read(lambda c: shipped_logs.shipped(c, runs))
                return folders if [at for at, _ in found.values()] == [6] else []

            await eventually(shipped)
            return [start.parent for start in (tmp_path / "data/runs").rglob("start")]

    async def after_it(started: list[Path]) -> None:
        for folder in started:
            for pid in supervisor.sweep(supervisor.cookie(folder)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for name in ("log", "raw"):
                for path in folder.rglob(name):
                    os.truncate(path, 0)
        async with daemon(settings) as running:
            assert (await finished(running, 1)).tasks[0].reason == Reason.LOST
            assert "shown\n" in await text_of(running, 1)

    asyncio.run(after_it(asyncio.run(before())))


def sealed(name: str, value: bytes, data: Path) -> str:
    """A Secret of the project shop."""
    key = f"Secret/shop/_/{name}"
    text = seal(value, load(data / "server.key").recipient, key)
    return (
        f"apiVersion: steersman/v1\nkind: Secret\nmetadata: {{name: {name}, project: shop}}\n"
        f"spec: {{type: value, sealed: {text}}}\n"
    )


def with_secrets(
    tmp_path: Path,
    new_database: NewDatabase,
    secrets: dict[str, bytes],
    work: Callable[[Daemon, SpecRepository], Awaitable[None]],
) -> None:
    """A daemon with these Secrets."""
    data, repo = tmp_path / "data", SpecRepository(tmp_path / "specs")
    data.mkdir(mode=0o700)
    make(data / "server.key")
    files = {f"{name}.yaml": sealed(name, value, data) for name, value in secrets.items()}
    repo.commit({"project.yaml": PROJECT, "work.yaml": SPECS, **files})

    async def inside() -> None:
        async with daemon(settings_for(repo, data, database=new_database())) as running:
            await asyncio.wait_for(work(running, repo), 90)

    asyncio.run(inside())


def test_no_script_shows_a_secret_of_any(tmp_path: Path, new_database: NewDatabase) -> None:
    """Neither its own, nor its task's, nor one that another script left in the home; nor do outputs."""
    values = {"task": b"the-value-of-the-task", "own": b"the-value-of-one-script"}

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        own = {"U": {"secret_ref": "own"}}
        scripts = chain(
            ("a", 'echo "a $T"'),
            (
                "b",
                'echo "b $T $U" | tee ~/left; echo "OUT=$U" >>$STEERSMAN_OUTPUTS; echo "B=1" >>$STEERSMAN_OUTPUTS',
            ),
            ("c", "cat ~/left"),
        )
        scripts[1]["environment_variables"] = own
        number = await submit(running, scripts, environment_variables={"T": {"secret_ref": "task"}})
        job = await finished(running, number)
        assert job.state is State.PASSED, job
        text = await text_of(running, number)
        assert "b [" in text or "b *" in text
        for value in values.values():
            assert value.decode() not in text
        assert job.tasks[0].trials[0].outputs == {"B": "1"}

    with_secrets(tmp_path, new_database, values, work)


def test_a_secret_that_is_changed_between_two_scripts(tmp_path: Path, new_database: NewDatabase) -> None:
    """Both values are masked in what comes after."""

    async def work(running: Daemon, repo: SpecRepository) -> None:
        scripts = chain(
            ("a", 'echo "$T" >~/old; while [ ! -e ~/go ]; do sleep 0.05; done'), ("b", 'echo "$T"; cat ~/old')
        )
        number = await submit(running, scripts, environment_variables={"T": {"secret_ref": "task"}})
        home = await eventually(lambda: next((tmp_path / "data/workspaces").glob("*/home/old"), None))
        repo.commit({"task.yaml": sealed("task", b"the-new-value-of-it", tmp_path / "data")})
        await running.installation.run_now("source")
        (home.parent / "go").touch()
        assert (await finished(running, number)).state is State.PASSED
        text = await text_of(running, number)
        assert "the-new-value-of-it" not in text
        assert "the-old-value-of-it" not in text

    with_secrets(tmp_path, new_database, {"task": b"the-old-value-of-it"}, work)


def test_what_ignores_a_cancel_ignores_no_limit(tmp_path: Path, new_database: NewDatabase) -> None:
    """The task's own time is from the first script to the last."""

    async def work(running: Daemon) -> None:
        scripts = chain(("a", "sleep 0.3"), ("b", "sleep 60"), ("c", "true"))
        for script in scripts:
            script["ignore_abort"] = True
        job = await finished(running, await submit(running, scripts, timeout_seconds=5))
        assert (job.state, job.reason) == (State.DEFECTIVE, Reason.TIMEOUT)
        assert states(job)["a"] == (State.PASSED, None)
        assert states(job)["b"] == (State.DEFECTIVE, Reason.TIMEOUT)
        assert states(job)["c"][0] is State.SKIPPED

    run(tmp_path, new_database, work)


def test_the_disk_is_bounded_also_for_what_ignores_a_cancel(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    executor = (
        "---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {name: small}\n"
        "spec: {limits: {disk_bytes: 2097152}}\n"
    )
    fill = "i=0; while [ $i -lt 600 ]; do head -c 200000 /dev/zero >>big; sleep 0.05; i=$((i+1)); done"

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        script = {"name": "s", "run": fill, "start_when": [], "ignore_abort": True}
        job = await finished(running, await submit(running, [script]))
        assert (job.state, job.reason) == (State.FAILED, Reason.DISK_LIMIT)

    live(tmp_path, new_database, SPECS + executor, work)


def test_what_a_script_writes_to_its_outputs_is_bounded(tmp_path: Path, new_database: NewDatabase) -> None:
    """Beside what the trial has in its workspace."""
    executor = (
        "---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {name: small}\n"
        "spec: {limits: {disk_bytes: 2097152}}\n"
    )

    async def work(running: Daemon, _repo: SpecRepository) -> None:
        scripts = chain(("a", "true"), ("b", "head -c 20M /dev/zero >$STEERSMAN_OUTPUTS; sleep 60"))
        job = await finished(running, await submit(running, scripts))
        assert (job.state, job.reason) == (State.FAILED, Reason.DISK_LIMIT)

    live(tmp_path, new_database, SPECS + executor, work)


def test_who_waits_for_a_lock_has_been_chosen(tmp_path: Path, new_database: NewDatabase) -> None:
    """It is not skipped meanwhile, whatever else ends; and a restart does not let two in."""
    repo = SpecRepository(tmp_path / "specs")
    repo.commit({"work.yaml": SPECS, "project.yaml": PROJECT})
    settings = settings_for(repo, tmp_path / "data", database=new_database())
    hold = {
        "name": "hold", "run": "while [ ! -e ~/go ]; do sleep 0.05; done", "start_when": [], "exclusive": "one",
    }  # fmt: skip
    wait = [
        {"name": "other", "run": "true", "start_when": []},
        {"name": "mine", "run": "echo mine", "start_when": [], "exclusive": "one"},
    ]

    async def first() -> tuple[int, int]:
        async with Daemon(settings) as running:
            await running.installation.run_now("source")
            one = await submit(running, [hold])

            async def begun() -> bool:
                found = (await scripts_of(running, one)).get("hold")
                return found is not None and found.state is State.EXECUTING and found.run is not None

            await eventually(begun)
            two = await submit(running, wait)

            async def waits() -> bool:
                found = await scripts_of(running, two)
                return found["mine"].state is State.WAITING and found["other"].state is State.PASSED

            await eventually(waits)
            await asyncio.sleep(0.3)
            assert (await scripts_of(running, two))["mine"].state is State.WAITING
            return one, two

    async def second(one: int, two: int) -> None:
        async with daemon(settings) as running:
            await asyncio.sleep(0.5)
            assert (await scripts_of(running, two))["mine"].state is State.WAITING
            for home in (tmp_path / "data/workspaces").glob("*/home"):
                (home / "go").touch()
            assert (await finished(running, one)).state is State.PASSED
            assert (await finished(running, two)).state is State.PASSED

    asyncio.run(second(*asyncio.run(first())))


def test_a_script_that_never_began_has_no_place_in_the_log(tmp_path: Path, new_database: NewDatabase) -> None:
    """So that no byte of it moves when the trial ends."""

    async def work(running: Daemon) -> None:
        scripts = [
            *chain(("a", "echo one; exit 1"), ("b", "true")),
            {"name": "c", "run": "echo two", "start_when": []},
        ]
        scripts[-1]["start_when"] = after("a", states=("failed",))
        number = await submit(running, scripts)
        await finished(running, number)
        text = await text_of(running, number)
        assert text == "==> build #1 a <==\none\n==> build #1 c <==\ntwo\n"

    run(tmp_path, new_database, work)


def test_who_comes_second_waits_also_where_both_begin_at_once(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """One at a time holds within one trial too (cider-ci 5.5)."""

    async def work(running: Daemon) -> None:
        text = "[ ! -e ~/in ]; touch ~/in; while [ ! -e ~/go ]; do sleep 0.02; done; rm ~/in"
        both = [{"name": n, "run": text, "start_when": [], "exclusive": "port"} for n in ("a", "b")]
        number = await submit(running, both)

        async def one_waits() -> bool:
            found = await scripts_of(running, number)
            return {s.state for s in found.values()} == {State.EXECUTING, State.WAITING}

        await eventually(one_waits)
        home = await eventually(lambda: next((tmp_path / "data/workspaces").glob("*/home/in"), None))
        (home.parent / "go").touch()
        assert (await finished(running, number)).state is State.PASSED

    run(tmp_path, new_database, work)


def test_a_script_is_ended_once_all_conditions_hold_and_by_its_own_status(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """One of two is not enough; one that takes the end well has passed (cider-ci 5.5)."""

    async def work(running: Daemon) -> None:
        scripts = [
            {
                "name": "polite",
                "run": "trap 'echo bye; exit 0' TERM; echo up >~/up; while :; do sleep 0.02; done",
                "start_when": [],
                "terminate_when": after("first", "second"),
            },
            {"name": "first", "run": "while [ ! -e ~/up ]; do sleep 0.02; done", "start_when": []},
            {
                "name": "second",
                "run": "sleep 0.5; touch ~/late",
                "start_when": after("first"),
            },
        ]
        number = await submit(running, scripts)
        job = await finished(running, number)
        assert job.state is State.PASSED, job.tasks
        assert (await text_of(running, number, script="polite")).endswith("bye\n")
        found = {script.name: script for script in job.tasks[0].trials[0].scripts}
        ends = found["polite"].finished_at, found["second"].finished_at
        assert ends[0] is not None
        assert ends[1] is not None
        assert ends[0] >= ends[1]

    run(tmp_path, new_database, work)


def test_case_29_what_can_never_start_spoils_its_trial_unless_ignored(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """A condition on a script that is not there, or on itself, or on each other (cider-ci 5.4, 5.5)."""

    async def work(running: Daemon) -> None:
        fine = {"name": "fine", "run": "true", "start_when": []}
        for lost in (
            [{"name": "x", "run": "true", "start_when": after("gone")}],
            [{"name": "x", "run": "true", "start_when": after("x")}],
            [{"name": a, "run": "true", "start_when": after(b)} for a, b in (("x", "y"), ("y", "x"))],
            [{"name": "x", "run": "true", "start_when": after("fine", states=("failed", "aborted"))}],
        ):
            job = await finished(running, await submit(running, [fine, *lost]))
            assert (job.state, job.reason) == (State.DEFECTIVE, Reason.UNSATISFIABLE), lost
            assert states(job)["x"] == (State.SKIPPED, Reason.UNSATISFIABLE)
            ignored = [each | {"ignore_state": True} for each in lost]
            job = await finished(running, await submit(running, [fine, *ignored]))
            assert job.state is State.PASSED, lost

    run(tmp_path, new_database, work)


def test_a_script_may_start_by_the_skip_or_the_failure_of_another(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    async def work(running: Daemon) -> None:
        scripts: list[dict[str, Any]] = [
            {"name": "a", "run": "exit 1", "start_when": [], "ignore_state": True},
            {"name": "b", "run": "true", "start_when": after("a"), "ignore_state": True},
            {"name": "c", "run": "true", "start_when": after("a", states=("failed",))},
        ]
        scripts[-1]["start_when"] += after("b", states=("skipped",))
        job = await finished(running, await submit(running, scripts))
        assert job.state is State.PASSED, job.tasks
        assert [state for state, _ in states(job).values()] == [State.FAILED, State.SKIPPED, State.PASSED]

    run(tmp_path, new_database, work)


def test_a_trial_is_judged_by_the_worst_that_counts(tmp_path: Path, new_database: NewDatabase) -> None:
    """Defective before failed; nothing that counts is defective (cider-ci 5.4)."""

    async def work(running: Daemon) -> None:
        fails = {"name": "fails", "run": "exit 1", "start_when": []}
        slow = {"name": "slow", "run": "sleep 60", "start_when": [], "timeout_seconds": 0.3}
        fine = {"name": "fine", "run": "true", "start_when": []}
        for scripts, expected in (
            ([fine, fails], State.FAILED),
            ([fine, fails, slow], State.DEFECTIVE),
            ([fine, fails | {"ignore_state": True}], State.PASSED),
            ([fine | {"ignore_state": True}, fails | {"ignore_state": True}], State.DEFECTIVE),
        ):
            job = await finished(running, await submit(running, scripts))
            assert job.tasks[0].trials[0].state is expected, scripts

    run(tmp_path, new_database, work)


def test_case_28_a_time_out_ends_the_whole_tree_of_processes(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """Also what went its own way, and what does not mind being asked."""

    async def work(running: Daemon) -> None:
        text = (
            "trap '' TERM; (setsid sh -c 'trap \"\" TERM; while :; do date +%s%N >/workspace/beat; sleep 0.02; done' "
            "</dev/null >/dev/null 2>&1 &); while :; do sleep 0.1; done"
        )
        slow = {"name": "slow", "run": text, "start_when": [], "timeout_seconds": 0.5, "ignore_abort": True}
        look = {
            "name": "look",
            "run": "cat beat >a; sleep 0.3; cmp a beat",
            "start_when": after("slow", states=("defective",)),
        }
        job = await finished(running, await submit(running, [slow, look]))
        assert states(job) == {"slow": (State.DEFECTIVE, Reason.TIMEOUT), "look": (State.PASSED, None)}
        trial = job.tasks[0].trials[0]
        assert (trial.state, trial.error) == (State.DEFECTIVE, "slow: it took longer than timeout_seconds")

    run(tmp_path, new_database, work)


def test_a_cancel_does_not_start_what_waits_and_lets_pass_what_ignores_it(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    """A trial whose scripts all pass has passed, though it was to be aborted (cider-ci 5.4)."""

    async def work(running: Daemon) -> None:
        text = "echo up; while [ ! -e ~/go ]; do sleep 0.02; done"
        scripts = [
            {"name": "a", "run": text, "start_when": [], "ignore_abort": True},
            {"name": "b", "run": "true", "start_when": after("a"), "ignore_abort": True},
        ]
        number = await submit(running, scripts)

        async def is_up() -> bool:
            return (await scripts_of(running, number))["a"].state is State.EXECUTING

        await eventually(is_up)
        await commands.cancel(running.installation, ROOT, number)
        await asyncio.sleep(0.3)
        assert (await scripts_of(running, number))["a"].state is State.EXECUTING
        home = await eventually(lambda: next((tmp_path / "data/workspaces").glob("*/home"), None))
        (home / "go").touch()
        job = await finished(running, number)
        assert job.state is State.PASSED, job.tasks
        assert job.tasks[0].trials[0].state is State.PASSED

    run(tmp_path, new_database, work)
