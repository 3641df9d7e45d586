"""Lists of jobs and tasks by filters, and what has an id, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reconciler.model.job import State
from reconciler.store import by_id, grants, job_lists, jobs
from reconciler.store.database import Database, Write
from reconciler.store.history import GitFilter
from reconciler.store.job_lists import Span, Wanted
from reconciler.store.jobs import Sight
from tests.conftest import NewDatabase
from tests.reconciler.store.test_jobs import new_job, with_database

NAMES = ("b", "a", "C", "é", "aa", "_", "B")
KEYS = ("Build/shop/_/web", "Configuration/shop/_/a%20b%23c", "Manifest/~jo/_/build", "Build/tools/_/web")


def specification(*names: str) -> dict[str, Any]:
    """Tasks with these names."""
    return {"tasks": [{"name": name} for name in names]}


async def filled(database: Database, count: int = 4) -> list[str]:
    """Ids of jobs, the oldest first; two of them at the same time."""

    def work(write: Write) -> list[str]:
        found = []
        for place in range(count):
            new = new_job(KEYS[place % len(KEYS)], specification=specification(*NAMES))
            when = write.now + timedelta(seconds=place // 2)
            number = jobs.create(write.connection, new, when, write.version)
            job = jobs.load(write.connection, number)
            assert job is not None
            found.append(job.id)
        return found

    return await database.write(work)


def test_tasks_are_ordered_letter_by_letter(new_database: NewDatabase) -> None:
    """By code points, whatever the database's collation is (cider-ci, 4.6); also behind one of them."""

    async def run(database: Database) -> None:
        await filled(database, 1)
        wanted = Wanted(job=1)
        ids = await database.read(lambda c: job_lists.by_name(c, wanted, None, Span(100)))
        job = await database.read(lambda c: jobs.load(c, 1))
        assert job is not None
        names = {task.id: task.name for task in job.tasks}
        assert [names[each] for each in ids] == sorted(NAMES)
        for place, each in enumerate(ids):
            rest = await database.read(
                lambda c, each=each: job_lists.by_name(c, wanted, None, Span(100, 3, each))
            )
            assert rest == ids[place + 1 :]

    with_database(new_database, run)


def test_jobs_newest_first_and_those_that_are_seen(new_database: NewDatabase) -> None:
    """Then by id; behind one of them; and only by what somebody has."""

    async def run(database: Database) -> None:
        ids = await filled(database)
        order = [*sorted(ids[2:]), *sorted(ids[:2])]

        async def found(sight: Sight | None, span: Span, **wanted: Any) -> list[str]:
            asked = Wanted(**wanted)
            return [
                each.id for each in await database.read(lambda c: job_lists.newest(c, asked, sight, span))
            ]

        assert await found(None, Span(10)) == order
        assert await found(None, Span(2, 1)) == order[1:3]
        for place, each in enumerate(order):
            assert await found(None, Span(10, 0, each)) == order[place + 1 :]
        shop = Sight(("Build/shop/", "Configuration/shop/"))
        assert set(await found(shop, Span(10))) == set(ids[:2])
        assert await found(Sight(), Span(10)) == []
        assert await found(Sight((), own=4), Span(10)) == [ids[3]]
        await database.write(lambda w: grants.save(w.connection, 3, {"User/jo": grants.Level.READ}))
        assert await found(Sight((), subject="User/jo"), Span(10)) == [ids[2]]
        assert await found(None, Span(10), states=(State.PASSED,)) == []
        assert await found(None, Span(10), tree="t" * 40) == order
        assert await found(None, Span(10), git=GitFilter(("Repository/shop/web",), "main", "main")) == []

    with_database(new_database, run)


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("Build/shop/_/web#1", 1),
        ("a b#c#2", 2),  # as it is no job of a configuration's tree, it has its number
        ("srht-3", 3),
        ("Build/tools/_/web#4", 4),
        ("Build/tools/_/web#1", None),
        ("Build/shop/_/web", None),
        ("srht-1", None),
        ("srht-03", None),
        ("a b#c", None),
        ("%", None),
    ],
)
def test_jobs_by_the_key_that_is_shown(new_database: NewDatabase, key: str, number: int | None) -> None:
    """Exactly, whatever sort of job it is (design 13.2)."""

    async def run(database: Database) -> None:
        ids = await filled(database)
        found = await database.read(lambda c: job_lists.newest(c, Wanted(key=key), None, Span(10)))
        assert [each.id for each in found] == ([] if number is None else [ids[number - 1]])

    with_database(new_database, run)


def test_whose_job_it_is(new_database: NewDatabase) -> None:
    """Of everything that has an id; specifications only where a job that is seen has them."""

    async def run(database: Database) -> None:
        await filled(database)

        def work(write: Write) -> dict[str, str]:
            job = jobs.load(write.connection, 2)
            assert job is not None
            trial = jobs.add_trial(write.connection, job.tasks[0].id, 1, {}, write.now)
            (script,) = jobs.scripts_of_trial(write.connection, trial)
            return {"job": job.id, "task": job.tasks[0].id, "trial": trial, "script": script.id}

        for noun, row_id in (await database.write(work)).items():
            assert await database.read(lambda c, n=noun, i=row_id: by_id.job_of(c, n, i)) == 2
            assert await database.read(lambda c, n=noun: by_id.job_of(c, n, "nothing")) is None
        job = await database.read(lambda c: jobs.load(c, 2))
        assert job is not None
        assert job.specification_id is not None
        shop, tools = Sight(("Configuration/shop/",)), Sight(("Build/nobody/",))
        for sight, seen in ((None, True), (shop, True), (tools, False)):
            whole = await database.read(
                lambda c, s=sight: by_id.job_specification(c, str(job.specification_id), s)
            )
            assert (whole == job.specification) == seen
            task = await database.read(
                lambda c, s=sight: by_id.task_specification(c, str(job.tasks[0].specification), s)
            )
            assert (task == {"name": "b"}) == seen
        assert await database.read(lambda c: job_lists.newest_with(c, "t" * 40)) == [1, 2, 3, 4]
        assert await database.read(lambda c: job_lists.projects_with(c, "t" * 40, shop)) == {"shop"}

    with_database(new_database, run)
