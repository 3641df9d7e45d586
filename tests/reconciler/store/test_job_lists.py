"""Lists of the jobs of one KEY, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio

from reconciler.model.job import Checkout
from reconciler.store import job_lists, jobs
from reconciler.store.database import Write, connect
from reconciler.store.job_lists import Own
from reconciler.store.jobs import NewJob
from tests.conftest import NewDatabase

MINE = Own("mine", "User/ana", None)
NONE = Own("none", "User/ana", None)


def test_a_page_begins_where_it_is_asked_to(new_database: NewDatabase) -> None:
    """Newest first, whole, of that KEY only; the total is of all."""

    def make(write: Write) -> list[int]:
        return [
            jobs.create(
                write.connection,
                NewJob(key, {"tasks": [{"name": "a"}]}, "w", Checkout(), {}, {}, "User/jo"),
                write.now,
                write.version,
            )
            for key in ("mine", "mine", "other", "mine")
        ]

    async def run() -> None:
        database = connect(new_database())
        try:
            first, second, _, third = await database.write(make)
            for start, limit, expected in (
                (None, 9, [third, second, first]),
                (None, 2, [third, second]),
                (second, 9, [second, first]),
                (first - 1, 9, []),
            ):
                found = await database.read(
                    lambda c, s=start, n=limit: job_lists.page(c, MINE, start=s, limit=n)
                )
                assert [job.number for job in found] == expected
                assert all([task.name for task in job.tasks] == ["a"] for job in found)
            assert await database.read(lambda c: job_lists.total(c, MINE)) == 3
            assert await database.read(lambda c: job_lists.total(c, NONE)) == 0
        finally:
            await database.close()

    asyncio.run(run())
