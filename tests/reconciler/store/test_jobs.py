"""Jobs in the store, on SQLite and PostgreSQL alike: claims, epochs, state moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, event

from reconciler.errors import Refused
from reconciler.model.job import Checkout, Job, Of, Reason, State
from reconciler.store import jobs
from reconciler.store.database import Database, Write, connect
from reconciler.store.jobs import Ending, NewJob
from tests.conftest import NewDatabase

T = TypeVar("T")


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on a fresh database."""

    async def run() -> T:
        database = connect(new_database())
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def new_job(key: str = "Build/shop/_/web", **more: Any) -> NewJob:
    fields: dict[str, Any] = {
        "key": key,
        "specification": {"tasks": [{"name": "a"}, {"name": "b", "needs": ["a"]}], "concurrency": "queue"},
        "work_digest": "w1",
        "checkout": Checkout("https://example.org/web.git", "c" * 40, "t" * 40, "main"),
        "trigger": {"type": "manual"},
        "inputs": {"x": "1"},
        "actor": "User/alice",
    }
    return NewJob(**(fields | more))


def create(write: Write, new: NewJob | None = None) -> int:
    return jobs.create(write.connection, new or new_job(), write.now, write.version)


async def with_trial(database: Database) -> tuple[int, str]:
    """A job with one pending trial of its first task."""

    def make(write: Write) -> tuple[int, str]:
        number = create(write)
        job = jobs.load(write.connection, number)
        assert job is not None
        return number, jobs.add_trial(write.connection, job.tasks[0].id, 1, {}, write.now)

    return await database.write(make)


def test_a_job_is_read_back_as_it_was_made(new_database: NewDatabase) -> None:
    """Number, specification with its key, checkout, tasks in order."""

    async def work(database: Database) -> None:
        first = await database.write(create)
        second = await database.write(create)
        job = await database.read(lambda c: jobs.load(c, second))
        assert (first, second) == (1, 2)
        assert job is not None
        assert job.state is State.PENDING
        assert job.specification["key"] == "Build/shop/_/web#2"
        assert job.checkout == Checkout("https://example.org/web.git", "c" * 40, "t" * 40, "main")
        assert [task.name for task in job.tasks] == ["a", "b"]
        assert await database.read(lambda c: jobs.by_id(c, job.id)) == 2

    with_database(new_database, work)


def test_the_newest_job_of_a_branch_is_found(new_database: NewDatabase) -> None:
    """By its head's tree however old, else among the last jobs of the KEY; of each other branch the newest."""
    url = "https://example.org/web.git"

    def at(tree: str, branch: str | None = None, tag: str | None = None) -> Checkout:
        return Checkout(url, tree * 40, tree * 40, branch, tag)

    def make(write: Write) -> None:
        some = [
            at("a", "main"),
            at("b", "x"),
            at("c"),
            at("a", "y"),
            at("d", None, "v1"),
            *[at("e", "x")] * 3,
        ]
        for checkout in some:
            create(write, new_job(checkout=checkout))
        create(write, new_job(checkout=at("a", "main"), work_digest="w2"))
        create(write, new_job("Build/shop/_/other", checkout=at("a", "main")))

    async def work(database: Database) -> None:
        async def newest(main: Checkout, work: str | None = "w1", *, of_tree: bool = True) -> int | None:
            job = await database.read(
                lambda c: jobs.latest_of_main(c, "Build/shop/_/web", main, work, of_tree=of_tree)
            )
            return None if job is None else job.number

        await database.write(make)
        assert await newest(at("a", "main")) == 4
        assert await newest(at("a", "main"), of_tree=False) == 1
        assert await newest(at("a", "main"), None) == 9
        assert await newest(at("f", "main")) == await newest(Checkout(branch="main")) == 1
        assert await newest(at("f", "nowhere")) == 3
        assert await newest(at("f", "main"), "w3") is None
        found = await database.read(lambda c: jobs.newest_by_ref(c, "Build/shop/_/web"))
        assert [(job.branch, job.tag, job.number) for job in found] == [
            ("main", None, 9),
            ("x", None, 8),
            (None, "v1", 5),
            ("y", None, 4),
        ]
        await database.write(lambda w: [create(w, new_job(checkout=at("e", "x"))) for _ in range(200)])
        assert await newest(at("a", "main")) == 4
        assert await newest(at("f", "main")) is None
        assert len(await database.read(lambda c: jobs.newest_by_ref(c, "Build/shop/_/web"))) == 1

    with_database(new_database, work)


def test_a_checkout_keeps_the_secret_that_it_is_fetched_with(new_database: NewDatabase) -> None:
    """In the specification; a job that has none says nothing of it."""
    checkout = Checkout(
        "ssh://git@x.example/r.git", "c" * 40, "t" * 40, "main", None, "Secret/shop/_/git-key"
    )

    async def work(database: Database) -> None:
        plain = await database.write(create)
        keyed = await database.write(lambda w: create(w, new_job(checkout=checkout)))
        jobs_of = [await database.read(lambda c, n=n: jobs.load(c, n)) for n in (plain, keyed)]
        assert [job.checkout.secret for job in jobs_of if job] == [None, "Secret/shop/_/git-key"]
        assert jobs_of[1] is not None
        assert jobs_of[1].checkout == checkout
        assert ["checkout_secret" in job.specification for job in jobs_of if job] == [False, True]

    with_database(new_database, work)


def test_a_page_is_of_a_project_and_a_branch(new_database: NewDatabase) -> None:
    """Whole names, whatever a database makes of their letters; both where both are asked for."""

    async def work(database: Database) -> None:
        keys = ("Build/sh_p/_/b", "Deployment/sh_p/dev/sh/b", "Build/shop/_/b", "Build/sh_p2/_/b")
        for key in keys:
            for branch in ("main", "m%"):
                new = new_job(key, checkout=Checkout(url="u", commit="c", tree="t", branch=branch))
                await database.write(lambda w, new=new: create(w, new))

        async def found(of: Of) -> list[tuple[str, str | None]]:
            page = await database.read(
                lambda c: jobs.page(c, key=None, state=None, limit=99, after=None, of=of)
            )
            return [(job.key, job.checkout.branch) for job in reversed(page)]

        both = [(key, branch) for key in keys for branch in ("main", "m%")]
        assert await found(Of()) == both
        assert await found(Of(project="sh_p")) == both[:4]
        assert await found(Of(branch="m%")) == both[1::2]
        assert await found(Of(project="sh_p", branch="main")) == both[0:4:2]
        assert await found(Of(project="sh")) == []

    with_database(new_database, work)


def test_pages_go_backwards_by_number(new_database: NewDatabase) -> None:
    """Newest first; `after` goes on before a number; filters hold."""

    async def work(database: Database) -> None:
        for index in range(5):
            await database.write(lambda w, i=index: create(w, new_job(f"Build/shop/_/b{i % 2}")))
        page = await database.read(lambda c: jobs.page(c, key=None, state=None, limit=2, after=None))
        rest = await database.read(
            lambda c: jobs.page(c, key=None, state=None, limit=9, after=page[-1].number)
        )
        one = await database.read(
            lambda c: jobs.page(c, key="Build/shop/_/b1", state="pending", limit=9, after=None)
        )
        assert [job.number for job in page] == [5, 4]
        assert [job.number for job in rest] == [3, 2, 1]
        assert [job.number for job in one] == [4, 2]

    with_database(new_database, work)


def test_a_trial_is_claimed_once(new_database: NewDatabase) -> None:
    """Two claims at the same time: one gets the epoch, the other nothing."""

    async def work(database: Database) -> None:
        _, trial = await with_trial(database)
        claims = await asyncio.gather(
            *(
                database.write(lambda w: jobs.claim(w.connection, trial, "Executor/local", "x"))
                for _ in range(4)
            )
        )
        assert sorted(claims, key=str) == [1, None, None, None]

    with_database(new_database, work)


def test_only_the_newest_claim_may_begin_and_finish(new_database: NewDatabase) -> None:
    """A claim with an older epoch changes no row."""

    async def work(database: Database) -> None:
        number, trial = await with_trial(database)
        await database.write(lambda w: jobs.claim(w.connection, trial, "Executor/local", "x"))
        assert await database.write(lambda w: jobs.reclaim(w.connection, trial, 1, "y")) == 2
        assert not await database.write(lambda w: jobs.begin(w.connection, trial, 1, "run/1", w.now, 1))
        assert await database.write(lambda w: jobs.begin(w.connection, trial, 2, "run/2", w.now, 1))
        assert not await database.write(lambda w: jobs.begin(w.connection, trial, 2, "run/2", w.now, 1))
        passed = Ending(State.PASSED, None, None, 0, 12)
        assert await database.write(lambda w: jobs.finish(w.connection, trial, 1, passed, w.now)) is None
        assert (
            await database.write(lambda w: jobs.finish(w.connection, trial, 2, passed, w.now)) is State.PASSED
        )
        assert await database.write(lambda w: jobs.finish(w.connection, trial, 2, passed, w.now)) is None
        job = await database.read(lambda c: jobs.load(c, number))
        assert job is not None
        script = job.tasks[0].trials[0].scripts[0]
        assert (script.state, script.exit_status, script.log_size) == (State.PASSED, 0, 12)

    with_database(new_database, work)


@pytest.mark.parametrize(
    ("reported", "stored"),
    [(State.PASSED, State.PASSED), (State.FAILED, State.ABORTED), (State.DEFECTIVE, State.ABORTED)],
)
def test_a_cancelled_trial_is_aborted_unless_it_passed(
    new_database: NewDatabase, reported: State, stored: State
) -> None:
    """cider-ci 5.4 as design 13.4 has it."""

    async def work(database: Database) -> None:
        _, trial = await with_trial(database)
        await database.write(lambda w: jobs.claim(w.connection, trial, "Executor/local", "x"))
        await database.write(lambda w: jobs.begin(w.connection, trial, 1, "run", w.now, 1))
        aborting = (State.ABORTING, Reason.CANCELLED)
        assert await database.write(lambda w: jobs.move(w.connection, "trial", trial, *aborting, w.now))
        ending = Ending(reported, None, None, 1, 0)
        assert await database.write(lambda w: jobs.finish(w.connection, trial, 1, ending, w.now)) is stored

    with_database(new_database, work)


def test_a_job_is_read_without_the_results_of_its_trials(new_database: NewDatabase) -> None:
    """They may be large: each is read by itself."""
    asked: list[str] = []

    def look(connection: Connection, number: int) -> list[Job]:
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        event.listen(connection, "before_cursor_execute", note)
        return jobs.load_many(connection, [number])

    async def work(database: Database) -> None:
        number, trial = await with_trial(database)
        await database.write(lambda w: jobs.claim(w.connection, trial, "Executor/local", "x"))
        await database.write(lambda w: jobs.begin(w.connection, trial, 1, "run", w.now, 1))
        ending = Ending(State.PASSED, None, None, 0, 0, result={"score": [7, None]})
        await database.write(lambda w: jobs.finish(w.connection, trial, 1, ending, w.now))
        (job,) = await database.read(lambda c: look(c, number))
        assert job.tasks[0].trials[0].state is State.PASSED
        assert any("FROM tasks" in statement for statement in asked)
        assert not any("result" in statement for statement in asked)
        assert await database.read(lambda c: jobs.result_of(c, trial)) == {"score": [7, None]}
        assert await database.read(lambda c: jobs.result_of(c, "none")) is None

    with_database(new_database, work)


def test_states_move_only_along_the_tables(new_database: NewDatabase) -> None:
    """A finished job stays as it is."""

    async def work(database: Database) -> None:
        number = await database.write(create)
        job = await database.read(lambda c: jobs.load(c, number))
        assert job is not None
        assert await database.write(
            lambda w: jobs.move(w.connection, "job", job.id, State.PASSED, None, w.now, version=w.version)
        )
        for state in (State.EXECUTING, State.ABORTING, State.FAILED, State.PASSED):
            assert not await database.write(
                lambda w, s=state: jobs.move(w.connection, "job", job.id, s, None, w.now, version=w.version)
            )

    with_database(new_database, work)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_the_callers_fault(new_database: NewDatabase, text: str) -> None:
    """Never an error of the server."""

    async def work(database: Database) -> None:
        with contextlib.suppress(Refused):  # SQLite takes a NUL
            assert (
                await database.read(lambda c: jobs.page(c, key=text, state=None, limit=1, after=None)) == []
            )

    with_database(new_database, work)


def test_work_that_has_a_job_is_known(new_database: NewDatabase) -> None:
    """By KEY and work digest, with and without tree and branch; a tag of the branch's name is not the branch."""

    async def work(database: Database) -> None:
        await database.write(create)
        key = "Build/shop/_/web"
        assert await database.read(lambda c: jobs.exists(c, key, "w1"))
        assert await database.read(lambda c: jobs.exists(c, key, "w1", "t" * 40))
        assert not await database.read(lambda c: jobs.exists(c, key, "w1", "u" * 40))
        assert not await database.read(lambda c: jobs.exists(c, key, "w2"))
        for of, known in (
            (Checkout(branch="main"), True),
            (Checkout(branch="x"), False),
            (Checkout(tag="main"), False),
        ):
            assert known == await database.read(lambda c, of=of: jobs.exists(c, key, "w1", "t" * 40, of))
        assert await database.read(lambda c: jobs.last_commit(c, key, "main")) == "c" * 40

    with_database(new_database, work)
