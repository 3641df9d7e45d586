"""Logs of jobs with several scripts: order, headings, offsets that stay good, and what following costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.access import EVERYTHING, ROOT, Caller
from reconciler.commands import jobs as commands
from reconciler.errors import NotFound
from reconciler.execution.logs import Logs
from reconciler.execution.sandbox import bubblewrap
from reconciler.installation import Installation
from reconciler.model.job import Checkout, State
from reconciler.passes import retention
from reconciler.queries import logs
from reconciler.queries.logs import Selection
from reconciler.store import jobs
from reconciler.store.database import Write
from reconciler.store.jobs import NewJob
from tests.conftest import NewDatabase
from tests.support import PROJECT, SpecRepository, daemon, eventually, settings_for

ALICE = Caller("User/alice", EVERYTHING)
KEY = "Build/shop/_/work"
WHOLE = Selection()
EXECUTORS = "".join(
    f"---\napiVersion: steersman/v1\nkind: Executor\nmetadata: {{name: {name}}}\n"
    f"spec: {{max_load: 9, traits: [{name}], sandbox: '{sandbox}'}}\n"
    for name, sandbox in (("good", "required"), ("bare", "off"))
)
REFUSED = (
    "(sandbox unavailable: Executor/bare says `sandbox: off`, which needs the setting allow_unsandboxed "
    "(STEERSMAN_ALLOW_UNSANDBOXED=1))\n"
)

pytestmark = pytest.mark.skipif(
    bubblewrap() is None, reason="bubblewrap is not installed or does not work here"
)


def live(
    tmp_path: Path, tasks: str, work: Callable[[Installation], Awaitable[None]], **settings: Any
) -> None:
    """A daemon with one Build of these tasks (YAML list items), and no job yet."""
    head = "apiVersion: steersman/v1\nkind: Build\nmetadata: {name: work, project: shop}\nspec:\n  tasks:\n"
    repo = SpecRepository(tmp_path / "specs")
    lines = "".join(f"    - {line}\n" for line in tasks.splitlines())
    repo.commit({"project.yaml": PROJECT + EXECUTORS, "work.yaml": head + lines})

    async def run() -> None:
        async with daemon(settings_for(repo, tmp_path / "data", **settings)) as running:
            await asyncio.wait_for(work(running.installation), 60)

    asyncio.run(run())


async def trigger(installation: Installation) -> int:
    made = await commands.trigger(installation, ALICE, KEY, {}, None, None)
    number: int = made["number"]
    return number


async def text(installation: Installation, number: int, selection: Selection = WHOLE, offset: int = 0) -> str:
    chunks = [chunk async for chunk in logs.read(installation, ROOT, number, selection, offset)]
    return b"".join(chunks).decode()


async def followed(
    installation: Installation, number: int, selection: Selection = WHOLE, offset: int = 0
) -> str:
    """The whole stream; every id is the offset behind its chunk."""
    found = b""
    async for position, chunk in logs.follow(installation, number, selection, offset):
        found += chunk
        assert offset + len(found) == position
    return found.decode()


async def growing(installation: Installation, number: int, selection: Selection = WHOLE) -> list[str]:
    """All that `read` gave while the job ran, and at its end."""
    seen = [""]
    while True:
        ended = (await logs.look(installation, number, WHOLE)).state.finished
        now = await text(installation, number, selection)
        assert now.startswith(seen[-1]), "what was given out has changed"
        if now != seen[-1]:
            seen.append(now)
        if ended:
            return seen
        await asyncio.sleep(0.02)


def test_a_follower_sees_every_script_where_the_log_has_it(tmp_path: Path, new_database: NewDatabase) -> None:
    """One task ends without having started while another runs, and a third starts later: none is lost or repeated."""
    tasks = (
        "{name: c, traits: [good], run: 'echo one; sleep 1; echo two'}\n"
        "{name: a, traits: [bare], run: 'echo never'}\n"
        "{name: b, traits: [good], needs: [c], run: 'echo three'}"
    )
    expected = f"==> c #1 run <==\none\ntwo\n==> a #1 run <==\n{REFUSED}==> b #1 run <==\nthree\n"

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        stream, seen = await asyncio.gather(followed(installation, number), growing(installation, number))
        parts = sorted(expected.replace("==>", "\0==>").split("\0"))
        assert sorted(stream.replace("==>", "\0==>").split("\0")) == parts
        assert stream.index("c #1") < stream.index("b #1")
        assert seen[-1] == stream
        size = len(stream.encode())
        for offset in {len(part.encode()) for part in seen} | {1, 5, size - 1, size, size + 9}:
            assert await followed(installation, number, WHOLE, offset) == stream[offset:]
            assert await text(installation, number, WHOLE, offset) == stream[offset:]

    live(tmp_path, tasks, work, database=new_database())


def test_scripts_beside_each_other_only_append(tmp_path: Path) -> None:
    """Whatever ends first, followers from the start and from every earlier end get the same text."""
    tasks = "\n".join(
        f"{{name: t{i}, traits: [good], max_trials: 2, run: 'echo a{i}; sleep 0.{9 - i}; printf b{i}; exit {i % 2}'}}"
        for i in range(4)
    )

    async def work(installation: Installation) -> None:
        number = await trigger(installation)

        async def resumed() -> str:
            """Broken off after each chunk."""
            found = b""
            while True:
                async for _, chunk in logs.follow(installation, number, WHOLE, len(found)):
                    found += chunk
                    break
                else:
                    return found.decode()

        whole, other, seen = await asyncio.gather(
            followed(installation, number), resumed(), growing(installation, number)
        )
        assert whole == other == seen[-1]
        headings = [line for line in whole.splitlines() if line.startswith("==>")]
        assert sorted(headings) == sorted(
            f"==> t{i} #{n} run <==" for i in range(4) for n in (1, 1 + i % 2)[: 1 + i % 2]
        )

    live(tmp_path, tasks, work)


def test_one_tasks_first_script_stays_without_heading(tmp_path: Path) -> None:
    """The second trial has one, on a line of its own; offsets given out before stay good; trials can be picked."""

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        stream, seen = await asyncio.gather(followed(installation, number), growing(installation, number))
        assert stream == "one" + "\n==> t #2 run <==\none" + "\n==> t #3 run <==\none"
        assert seen[-1] == stream
        for offset in range(len(stream) + 1):
            assert await text(installation, number, WHOLE, offset) == stream[offset:]
            assert await followed(installation, number, WHOLE, offset) == stream[offset:]
        assert await text(installation, number, Selection("t")) == stream
        assert await text(installation, number, Selection("t", 2)) == "one"
        assert await followed(installation, number, Selection(trial=3, script="run")) == "one"
        for wrong in (Selection("x"), Selection("t", 9), Selection(script="x")):
            with pytest.raises(NotFound, match="no such task"):
                await text(installation, number, wrong)

    live(tmp_path, "{name: t, traits: [good], max_trials: 3, run: 'printf one; exit 3'}", work)


def test_an_error_before_the_script_is_the_log(tmp_path: Path) -> None:
    """Alone when it is the only one."""

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        assert await followed(installation, number) == REFUSED
        assert await text(installation, number) == REFUSED
        assert await text(installation, number, WHOLE, 9) == REFUSED[9:]

    live(tmp_path, "{name: t, traits: [bare], run: 'echo never'}", work)


def test_a_job_cancelled_before_it_began_says_so(tmp_path: Path) -> None:
    """Until then its log is empty."""

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        assert await text(installation, number) == ""
        await commands.cancel(installation, ALICE, number)
        assert await followed(installation, number) == "(cancelled)\n"

    live(tmp_path, "{name: t, traits: [nowhere], run: 'echo never'}", work)


def test_following_a_task_ends_with_it(tmp_path: Path) -> None:
    """The job goes on; a task that was skipped has an empty log, not none."""
    tasks = (
        "{name: a, traits: [good], run: 'echo a; exit 4'}\n"
        "{name: b, traits: [good], needs: [a], run: 'echo b'}\n"
        "{name: c, traits: [good], run: 'sleep 600'}"
    )

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        assert await followed(installation, number, Selection("a")) == "a\n"
        assert await followed(installation, number, Selection("b")) == ""
        view = await logs.look(installation, number, Selection("a", 1))
        assert (view.state, view.reason) == (State.FAILED, "exit-status")
        assert not (await logs.look(installation, number, WHOLE)).state.finished
        await commands.cancel(installation, ALICE, number)

    live(tmp_path, tasks, work)


def test_a_resumed_follower_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished scripts before the offset are not read, but for their last byte; nor is the front of this one."""
    tasks = "\n".join(
        f"{{name: t{i}, traits: [good], run: 'head -c 1000000 /dev/zero | tr \"\\\\0\" {i}; echo; echo end'}}"
        for i in range(2)
    )
    reads: list[int] = []
    original = Logs.read

    async def counted(self: Logs, path: Path, offset: int, limit: int) -> bytes:
        chunk = await original(self, path, offset, limit)
        reads.append(len(chunk))
        return chunk

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        whole = await followed(installation, number)
        assert len(whole) > 2_000_000
        monkeypatch.setattr(Logs, "read", counted)
        assert await followed(installation, number, WHOLE, len(whole) - 7) == whole[-7:]
        assert await text(installation, number, WHOLE, len(whole) - 7) == whole[-7:]
        assert sum(reads) < 50

    live(tmp_path, tasks, work)


def test_a_follower_looks_only_after_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet: no query at all; others' commits: the job's version a few times a second, never the job."""
    counts = {"version": 0, "scripts": 0}
    version_of, scripts_of = jobs.version_of, jobs.scripts_of

    def counted_version(*arguments: Any) -> Any:
        counts["version"] += 1
        return version_of(*arguments)

    def counted_scripts(*arguments: Any) -> Any:
        counts["scripts"] += 1
        return scripts_of(*arguments)

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        stream = logs.follow(installation, number, WHOLE, 0)
        assert (await anext(stream))[1] == b"up\n"
        monkeypatch.setattr(jobs, "version_of", counted_version)
        monkeypatch.setattr(jobs, "scripts_of", counted_scripts)
        waiting = asyncio.ensure_future(anext(stream, None))
        for _ in range(60):  # until nothing is committed for a while
            await asyncio.sleep(0.6)
            counts.update(version=0, scripts=0)
            before = installation.database.version
            await asyncio.sleep(0.5)
            quiet = dict(counts)
            if installation.database.version == before and not counts["version"]:
                break
        began = time.monotonic()
        for _ in range(50):
            await installation.database.write(lambda w: None)
            await asyncio.sleep(0.01)
        assert quiet == {"version": 0, "scripts": 0}
        assert 1 <= counts["version"] <= min(8 + 6 * (time.monotonic() - began), 40)
        assert counts["scripts"] == 0
        await commands.cancel(installation, ALICE, number)
        await waiting
        await stream.aclose()

    live(tmp_path, "{name: t, traits: [good], run: 'echo up; sleep 600'}", work)


def test_a_follower_ends_with_what_it_was_told_by_nobody_else(tmp_path: Path) -> None:
    """Its watcher goes with it: left early, nothing keeps looking."""

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        stream = logs.follow(installation, number, WHOLE, 0)
        await anext(stream)
        await stream.aclose()

        def gone() -> bool:
            return not any(task.get_name() == f"log of job {number}" for task in asyncio.all_tasks())

        await eventually(gone, 2)
        await commands.cancel(installation, ALICE, number)

    live(tmp_path, "{name: t, traits: [good], run: 'echo up; sleep 600'}", work)


def test_a_claim_that_is_made_anew_gave_nothing_out(tmp_path: Path) -> None:
    """A daemon died between the claim and the start: the script begins later, and so stands later."""

    async def work(installation: Installation) -> None:
        database = installation.database
        new = NewJob(KEY, {"tasks": [{"name": "a"}, {"name": "b"}]}, "d", Checkout(), {}, {}, "User/alice")

        def begun(write: Write) -> tuple[int, list[str]]:
            number = jobs.create(write.connection, new, write.now, write.version)
            found = jobs.load(write.connection, number)
            assert found is not None
            trials = [jobs.add_trial(write.connection, task.id, 1, {}, write.now) for task in found.tasks]
            for trial in trials:
                assert jobs.claim(write.connection, trial, "Executor/local", "dead") == 1
            return number, trials

        def begin(trial: str, epoch: int) -> Callable[[Write], None]:
            return lambda w: _must(jobs.begin(w.connection, trial, epoch, f"{trial}/{epoch}", w.now, 1))

        def written(trial: str, epoch: int) -> None:
            path = installation.runs.log_folder(f"{trial}/{epoch}") / "log"
            path.parent.mkdir(parents=True)
            path.write_text(f"{epoch}\n")

        number, (a, b) = await database.write(begun)
        await database.write(begin(a, 1))
        await database.write(begin(b, 1))
        written(b, 1)
        assert await text(installation, number) == ""
        await database.write(lambda w: jobs.reclaim(w.connection, a, 1, "alive"))
        assert await text(installation, number) == "==> b #1 run <==\n1\n"
        await database.write(begin(a, 2))
        written(a, 2)
        assert await text(installation, number) == "==> b #1 run <==\n1\n"
        ending = jobs.Ending(State.PASSED, None, None, 0, 2)
        await database.write(lambda w: jobs.finish(w.connection, b, 1, ending, w.now))
        assert await text(installation, number) == "==> b #1 run <==\n1\n==> a #1 run <==\n2\n"

    live(tmp_path, "{name: t, traits: [good], run: 'true'}", work)


def test_a_trial_with_services_has_headings_and_its_own_script_first(tmp_path: Path) -> None:
    """One script of it alone has none; a service that never began has no folder, and no log."""

    async def work(installation: Installation) -> None:
        database = installation.database
        policy = {"name": "t", "services": [{"name": "db"}, {"name": "web"}]}
        new = NewJob(KEY, {"tasks": [policy]}, "d", Checkout(), {}, {}, "User/alice")

        def begun(write: Write) -> tuple[int, str]:
            number = jobs.create(write.connection, new, write.now, write.version)
            found = jobs.load(write.connection, number)
            assert found is not None
            trial = jobs.add_trial(write.connection, found.tasks[0].id, 1, policy, write.now)
            assert jobs.claim(write.connection, trial, "Executor/local", "dead") == 1
            _must(jobs.begin(write.connection, trial, 1, f"{trial}/1", write.now, 1))
            return number, trial

        number, trial = await database.write(begun)
        folder = installation.runs.log_folder(f"{trial}/1")
        (folder / "services" / "db").mkdir(parents=True)
        (folder / "services" / "db" / "log").write_text("ready\n")
        assert await text(installation, number) == ""
        (folder / "log").write_text("own")
        assert await text(installation, number) == "==> t #1 run <==\nown"
        assert await text(installation, number, Selection(script="run")) == "own"
        assert await text(installation, number, Selection("t", 1, "db")) == "ready\n"
        await database.write(lambda w: jobs.finish(w.connection, trial, 1, ending, w.now))
        whole = "==> t #1 run <==\nown\n==> t #1 db <==\nready\n==> t #1 web <==\n"
        assert await text(installation, number) == whole
        found = await logs.now(installation, ROOT, number, WHOLE)
        assert [part.script.name for part in found.parts] == ["run", "db", "web"]

    ending = jobs.Ending(State.PASSED, None, None, 0, 3, {"db": 6})
    live(tmp_path, "{name: t, traits: [good], run: 'true'}", work)


def test_a_compressed_log_is_the_same_log(tmp_path: Path) -> None:
    """To readers and followers, from any offset. The retention pass compresses what a kill left uncompressed."""
    tasks = "\n".join(f"{{name: t{i}, traits: [good], run: 'seq {i}00000 {i}20000'}}" for i in (1, 2))

    async def work(installation: Installation) -> None:
        number = await trigger(installation)
        stream = await followed(installation, number)
        data = installation.settings.data

        def packed() -> bool:
            return len(list((data / "runs").glob("*/*/log.zst"))) == 2

        await eventually(packed)
        sides = [await text(installation, number, WHOLE, offset) for offset in (0, 77, 150_000)]
        assert sides == [stream, stream[77:], stream[150_000:]]
        assert await followed(installation, number, WHOLE, 150_000) == stream[150_000:]
        found = await logs.now(installation, ROOT, number, WHOLE)
        for part in found.parts:
            assert part.folder is not None
            content = await text(installation, number, Selection(part.script.task))
            (part.folder / "log.zst").unlink()
            (part.folder / "log").write_text(content)
            (part.folder / "raw").write_text("secret")
        running = data / "runs" / "0199f000-0000-7000-8000-000000000000" / "1"
        running.mkdir(parents=True)
        (running / "log").write_text("x" * 100_000)
        (running / "raw").write_text("x" * 100_000)
        await retention.run(installation)
        assert packed()
        assert not list((data / "runs").glob(f"{found.parts[0].script.run}/raw"))
        assert sorted(path.name for path in running.iterdir()) == ["log", "raw"]
        assert await text(installation, number) == stream

    live(tmp_path, tasks, work)


def _must(done: bool) -> None:
    assert done
