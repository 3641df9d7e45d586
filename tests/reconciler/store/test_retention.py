"""What is forgotten after its time, and what never is, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from reconciler.execution.attachments import AttachmentStore
from reconciler.execution.caches import Caches
from reconciler.model.job import Checkout, Origin, State
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from reconciler.passes import retention as retention_pass
from reconciler.store import attachments, jobs, resources, retention
from reconciler.store.attachments import File, of_tree, of_trial
from reconciler.store.database import Connection, Database, Write, connect
from reconciler.store.jobs import Ending, NewJob
from reconciler.store.rows import new_id
from reconciler.store.tables import attachments as attachment_table
from reconciler.store.tables import jobs as job_table
from reconciler.store.tables import scripts, specifications, tasks, trials
from tests.conftest import NewDatabase

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=91)
RECENT = NOW - timedelta(days=89)
BEFORE = NOW - timedelta(days=90)
KEY = "Build/shop/_/web"


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database in which KEY is declared."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await database.write(lambda w: resources.save(w.connection, [declared()], w.version))
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def declared() -> Resource:
    return Resource(
        key=KEY,
        kind="Build",
        project="shop",
        environment=None,
        name="web",
        labels={},
        annotations={},
        path="web.yaml",
        line=1,
        revision="c" * 40,
        digest="d",
        spec={},
        references=(),
        files=(),
        generation=1,
        observed_generation=1,
        sync=Sync.SYNCED,
        health=Health.HEALTHY,
        conditions=(),
        uuid="",
        version=0,
    )


def make(
    connection: Connection,
    finished_at: datetime | None = OLD,
    *,
    key: str = KEY,
    work: str = "w1",
    tree: str = "t1",
    branch: str | None = "main",
    tag: str | None = None,
    trigger: str = "poll",
    trials_each: int = 1,
) -> int:
    """A job of one task, finished at a time, or still at work."""
    checkout = Checkout("https://example.org/web.git", tree.replace("t", "c"), tree, branch, tag)
    specification = {"tasks": [{"name": "a"}], "concurrency": "queue"}
    new = NewJob(key, specification, work, checkout, {"type": trigger}, {}, "User/alice")
    number = jobs.create(connection, new, OLD, 1)
    job = jobs.load(connection, number)
    assert job is not None
    for index in range(trials_each):
        trial = jobs.add_trial(connection, job.tasks[0].id, index + 1, {}, OLD)
        jobs.claim(connection, trial, "Executor/local", "x")
        jobs.begin(connection, trial, 1, f"{trial}/1", OLD, 1)
        if finished_at is not None:
            jobs.finish(connection, trial, 1, Ending(State.PASSED, None), finished_at)
    if finished_at is not None:
        assert jobs.move(connection, "job", job.id, State.PASSED, None, finished_at, version=1)
    return number


def trial_of(connection: Connection, number: int) -> str:
    job = jobs.load(connection, number)
    assert job is not None
    return job.tasks[0].trials[0].id


async def forget_all(database: Database) -> list[int]:
    """As the pass does it."""
    numbers = await database.read(lambda c: retention.outdated(c, BEFORE))
    await database.write(lambda w: retention.forget(w.connection, numbers))
    assert await database.read(lambda c: retention.outdated(c, BEFORE)) == []
    return numbers


def test_what_says_that_work_is_done_is_never_forgotten(new_database: NewDatabase) -> None:
    """A quiet estate builds nothing anew: heads, file filters and specifications keep their answer."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> list[int]:
            c = write.connection
            return [
                make(c, tree="t1"),
                make(c, tree="t2"),
                make(c, tree="t3", branch="next"),
                make(c, tree="t4", branch=None, tag="v1"),
                make(c, work="w0", tree="t2"),
            ]

        numbers = await database.write(fill)
        assert await forget_all(database) == numbers[:1]
        for digest, tree in (("w1", "t2"), ("w1", "t3"), ("w1", "t4"), ("w0", "t2")):
            assert await database.read(lambda c, d=digest, t=tree: jobs.exists(c, KEY, d, t))
        assert not await database.read(lambda c: jobs.exists(c, KEY, "w1", "t1"))
        assert await database.read(lambda c: jobs.last_commit(c, KEY, "main")) == "c2"
        assert await database.read(lambda c: jobs.load(c, numbers[0])) is None

    with_database(new_database, work)


@pytest.mark.parametrize("later", ["retry", "manual", "schedule"])
def test_an_older_commit_built_again_does_not_hide_the_heads_job(
    new_database: NewDatabase, later: str
) -> None:
    """The head has not moved since: it is owed nothing."""

    async def work(database: Database) -> None:
        await database.write(lambda w: make(w.connection, tree="t2"))
        await database.write(lambda w: make(w.connection, tree="t1", trigger=later))
        assert await forget_all(database) == []
        assert await database.read(lambda c: jobs.exists(c, KEY, "w1", "t2"))

    with_database(new_database, work)


def test_a_schedule_leaves_one_job(new_database: NewDatabase) -> None:
    """Without any checkout too: nothing is not told apart from nothing."""

    async def work(database: Database) -> None:
        made = [
            await database.write(lambda w: make(w.connection, branch=None, trigger="schedule"))
            for _ in range(5)
        ]
        assert await forget_all(database) == made[:-1]

    with_database(new_database, work)


def test_jobs_of_what_is_no_longer_declared_go_entirely(new_database: NewDatabase) -> None:
    """With tasks, trials, scripts, specifications and attachments; nothing of others goes with them."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> list[int]:
            made = [make(write.connection, key=key) for key in ("Build/shop/_/gone", KEY)]
            for number in made:
                save(write.connection, trial_of(write.connection, number), "d" * 64, NOW + timedelta(days=1))
            return made

        gone, stays = await database.write(fill)
        assert await forget_all(database) == [gone]
        for table in (job_table, tasks, trials, scripts, specifications, attachment_table):
            count = await database.read(
                lambda c, t=table: c.execute(select(func.count()).select_from(t)).scalar()
            )
            assert count == 1, table.name
        assert await database.read(lambda c: jobs.load(c, stays)) is not None

    with_database(new_database, work)


def test_live_and_recent_jobs_are_not_touched(new_database: NewDatabase) -> None:
    """Whatever is declared; not even when asked for by number."""

    async def work(database: Database) -> None:
        other = "Build/shop/_/gone"

        def fill(write: Write) -> list[int]:
            c = write.connection
            made = [make(c, at, key=key) for key in (KEY, other) for at in (None, RECENT, BEFORE)]
            for number in made:
                save(c, trial_of(c, number), "d" * 64, NOW + timedelta(days=1))
            return made

        numbers = await database.write(fill)
        assert await forget_all(database) == []
        live = [numbers[0], numbers[3]]
        await database.write(lambda w: retention.forget(w.connection, live))
        for number in numbers:
            job = await database.read(lambda c, n=number: jobs.load(c, n))
            assert job is not None
            assert len(job.tasks[0].trials[0].scripts) == 1
            assert len(await database.read(lambda c, n=number: attachments.of_job(c, n))) == 1

    with_database(new_database, work)


def test_thousands_of_trials_are_forgotten_at_once(new_database: NewDatabase) -> None:
    """No statement names trials: 300 jobs of 120 trials each are more than SQLite has variables for."""

    async def work(database: Database) -> None:
        each = 120 if database.sqlite else 10

        def fill(write: Write) -> None:
            c = write.connection
            for _ in range(301):
                make(c, trials_each=0)
            for task in list(c.execute(select(tasks.c.id)).scalars()):
                rows = [trial_row(task, number) for number in range(each)]
                c.execute(insert(trials), rows)
                c.execute(insert(scripts), [script_row(row["id"]) for row in rows])

        await database.write(fill)
        assert len(await forget_all(database)) == 300
        left = await database.read(lambda c: c.execute(select(func.count()).select_from(scripts)).scalar())
        assert left == each

    with_database(new_database, work)


def trial_row(task: str, number: int) -> dict[str, Any]:
    times = {"created_at": OLD, "finished_at": OLD}
    return {
        "id": new_id(),
        "task": task,
        "number": number,
        "state": "passed",
        "epoch": 1,
        "load": 1.0,
    } | times


def script_row(trial: str) -> dict[str, Any]:
    return {"id": new_id(), "trial": trial, "position": 0, "name": "run", "state": "passed"}


def save(connection: Connection, trial: str, digest: str, expires: datetime, path: str = "a") -> None:
    attachments.save(connection, of_trial(trial), [File(path, digest, 1)], OLD, expires)


def test_attachments_go_at_their_time_or_with_an_old_job(new_database: NewDatabase) -> None:
    """Where the job's row stays too; those of a live job stay."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> None:
            c = write.connection
            live, old, recent = (trial_of(c, make(c, at, work=str(at))) for at in (None, OLD, RECENT))
            past, future = NOW, NOW + timedelta(seconds=1)
            for trial, name in ((live, "live"), (old, "old"), (recent, "recent")):
                save(c, trial, f"{name}-past", past, "a")
                save(c, trial, f"{name}-future", future, "b")
            save(c, "a trial that is no more", "orphan", past)

        names = [f"{job}-{at}" for job in ("live", "old", "recent") for at in ("past", "future")]
        kept = {"live-past", "live-future", "recent-future"}
        await database.write(fill)
        for _ in range(2):
            more = await database.write(lambda w: retention.drop_attachments(w.connection, NOW, BEFORE))
            assert not more
            assert await database.read(lambda c: retention.referred(c, [*names, "orphan"])) == kept
        assert await database.read(lambda c: retention.outdated(c, BEFORE)) == []

    with_database(new_database, work)


def test_many_attachments_go_in_several_transactions(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each drops a bounded number of rows and says whether to go on."""
    monkeypatch.setattr(retention, "_ROWS", 3)

    async def work(database: Database) -> None:
        def fill(write: Write) -> None:
            trial = trial_of(write.connection, make(write.connection, RECENT))
            for index in range(7):
                save(write.connection, trial, str(index), NOW, str(index))

        def drop(write: Write) -> bool:
            return retention.drop_attachments(write.connection, NOW, BEFORE)

        await database.write(fill)
        assert [await database.write(drop) for _ in range(4)] == [True, True, False, False]

    with_database(new_database, work)


def test_questions_about_any_number_of_files_are_answered(new_database: NewDatabase) -> None:
    """70,000 digests and trials are more than either database takes at once."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> list[str]:
            c = write.connection
            found = [trial_of(c, make(c, at, work=str(at))) for at in (None, RECENT, OLD)]
            save(c, found[0], "69999", NOW)
            return found

        live, recent, old = await database.write(fill)
        many = [str(number) for number in range(70_000)]
        assert await database.read(lambda c: retention.referred(c, many)) == {"69999"}
        asked = [*many, live, old, recent]
        assert await database.read(lambda c: retention.with_logs(c, asked, BEFORE)) == {live, recent}

    with_database(new_database, work)


class Place:
    """An installation's database and files, as far as the pass looks at them."""

    def __init__(self, database: Database, data: Path) -> None:
        self.data = data
        self.store = AttachmentStore(data / "attachments")
        settings = SimpleNamespace(retention_days=90, data=data)
        self.installation: Any = SimpleNamespace(
            database=database,
            settings=settings,
            attachments=self.store,
            runs=SimpleNamespace(caches=Caches(data / "caches", 1 << 20)),
            desired=None,
            carrier=None,
            now=lambda: NOW,
        )

    def run_folder(self, trial: str) -> Path:
        path = self.data / "runs" / trial
        (path / "1").mkdir(parents=True)
        (path / "1" / "log").write_text("log")
        os.utime(path, (0, 0))
        return path

    def keep(self, content: bytes) -> str:
        work = self.data / "work"
        work.mkdir(exist_ok=True)
        (work / "a").write_bytes(content)
        digest = self.store.keep(work, ["a"])[0][0].digest
        os.utime(self.store.open(digest), (0, 0))
        return digest


def test_the_pass_forgets_all_in_batches_and_a_second_one_finds_nothing(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    """Rows, logs and bytes; the newest job's row stays without its log; nothing of a live job goes."""

    async def work(database: Database) -> None:
        place = Place(database, tmp_path)

        def fill(write: Write) -> list[str]:
            c = write.connection
            numbers = [make(c, tree=f"t{index}") for index in range(120)] + [make(c, None, tree="t999")]
            return [trial_of(c, number) for number in (numbers[0], numbers[-1])]

        old, live = await database.write(fill)
        done = await database.write(lambda w: trial_of(w.connection, make(w.connection, work="w2")))
        folders = [place.run_folder(trial) for trial in (old, done, live, new_id())]
        digests = [place.keep(content) for content in (b"old", b"live", b"nobody's")]
        shared = place.keep(b"shared")
        for trial, digest, path in (
            (old, digests[0], "a"),
            (live, digests[1], "a"),
            (old, shared, "b"),
            (live, shared, "b"),
        ):
            await database.write(lambda w, t=trial, d=digest, p=path: save(w.connection, t, d, NOW, p))
        for _ in range(2):
            assert await retention_pass.run(place.installation) == NOW + timedelta(hours=6)
            left = await database.read(lambda c: list(c.execute(select(job_table.c.number)).scalars()))
            assert sorted(left) == [121, 122]
            assert [path.exists() for path in folders] == [False, False, True, False]
            assert there(place, [*digests, shared]) == [False, True, False, True]

    with_database(new_database, work)


def there(place: Place, digests: list[str]) -> list[bool]:
    return [(place.data / "attachments" / digest[:2] / digest[2:]).exists() for digest in digests]


def test_content_that_a_trial_keeps_again_meanwhile_stays(new_database: NewDatabase, tmp_path: Path) -> None:
    """Between the last look at the rows and the deletion; its row comes only afterwards."""

    async def work(database: Database) -> None:
        place = Place(database, tmp_path)
        digest = place.keep(b"same")
        assert digest == hashlib.sha256(b"same").hexdigest()
        delete = place.store.delete

        def late(digests: list[str]) -> None:
            place.store.keep(tmp_path / "work", ["a"])
            delete(digests)

        place.store.delete = late  # type: ignore[method-assign,assignment]
        await retention_pass.run(place.installation)
        assert place.store.open(digest).read_bytes() == b"same"
        os.utime(place.store.open(digest), (0, 0))
        place.store.delete = delete  # type: ignore[method-assign]
        await retention_pass.run(place.installation)
        assert there(place, [digest]) == [False]

    with_database(new_database, work)


def test_what_a_tree_keeps_outlives_its_jobs(new_database: NewDatabase, tmp_path: Path) -> None:
    """For as long as it says, row and bytes; also where all of its jobs are forgotten."""

    async def work(database: Database) -> None:
        place = Place(database, tmp_path)
        long, short, of_trial_too = place.keep(b"long"), place.keep(b"short"), place.keep(b"trial")
        gone = "Configuration/shop/_/unit"

        def fill(write: Write) -> int:
            c = write.connection
            number = make(c, key=gone)
            tree = of_tree("shop", "t1")
            attachments.save(c, tree, [File("long", long, 4)], OLD, NOW + timedelta(days=300))
            attachments.save(c, tree, [File("short", short, 5)], OLD, NOW)
            save(c, trial_of(c, number), of_trial_too, NOW + timedelta(days=300))
            return number

        number = await database.write(fill)
        await retention_pass.run(place.installation)
        assert await database.read(lambda c: jobs.load(c, number)) is None
        left = await database.read(lambda c: attachments.page(c, of_tree("shop", "t1"), limit=9, offset=0))
        assert [file.path for file in left] == ["long"]
        assert there(place, [long, short, of_trial_too]) == [True, False, False]

    with_database(new_database, work)


def test_a_specification_stays_while_any_job_has_it(new_database: NewDatabase) -> None:
    """Jobs of project configurations share equal ones."""

    async def work(database: Database) -> None:
        def fill(write: Write) -> list[int]:
            c, found = write.connection, []
            for tree, at in (("t1", OLD), ("t2", RECENT)):
                checkout = Checkout("https://example.org/web.git", "c" * 40, tree, "main")
                new = NewJob(
                    "Configuration/shop/_/unit", {"tasks": []}, "w", checkout, {"type": "api"}, {}, "User/alice",
                    origin=Origin.CONFIGURATION, name="unit",
                )  # fmt: skip
                number = jobs.create(c, new, at, 1)
                job = jobs.load(c, number)
                assert job is not None
                assert jobs.move(c, "job", job.id, State.PASSED, None, at, version=1)
                found.append(number)
            return found

        old, recent = await database.write(fill)
        assert await forget_all(database) == [old]
        job = await database.read(lambda c: jobs.load(c, recent))
        assert job is not None
        assert job.specification == {"tasks": []}
        await database.write(lambda w: retention.forget(w.connection, [recent]))
        count = select(func.count()).select_from(specifications)
        assert await database.read(lambda c: c.execute(count).scalar()) == 0

    with_database(new_database, work)
