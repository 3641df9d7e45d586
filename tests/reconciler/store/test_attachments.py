"""What trials and trees keep, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from reconciler.store import attachments
from reconciler.store.attachments import File, Owner, of_tree, of_trial
from reconciler.store.database import Database, connect
from tests.conftest import NewDatabase

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TREE = of_tree("shop", "t" * 40)


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


async def save(database: Database, owner: Owner, *files: File, now: datetime = NOW) -> None:
    """Note files."""
    expires = now + timedelta(days=1)
    await database.write(lambda w: attachments.save(w.connection, owner, files, now, expires))


async def paths(
    database: Database, owner: Owner, segment: str | None = None, limit: int = 99, offset: int = 0
) -> list[str]:
    """Those of one page."""
    found = await database.read(
        lambda c: attachments.page(c, owner, limit=limit, offset=offset, segment=segment)
    )
    return [file.path for file in found]


def test_files_are_found_by_owner_path_and_id(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await save(database, TREE, File("a", "d1", 1, content_type="text/plain"))
        await save(database, of_tree("other", "t" * 40), File("a", "d2", 2))
        await save(database, of_trial("t" * 40), File("a", "d3", 3, executable=True))
        found = await database.read(lambda c: attachments.at(c, TREE, "a"))
        assert found is not None
        assert (found.digest, found.size, found.content_type, found.created_at) == (
            "d1",
            1,
            "text/plain",
            NOW,
        )
        assert found.owner == TREE
        assert await database.read(lambda c: attachments.by_id(c, "tree", found.id)) == found
        assert await database.read(lambda c: attachments.by_id(c, "trial", found.id)) is None
        assert await database.read(lambda c: attachments.at(c, TREE, "b")) is None

    with_database(new_database, work)


def test_what_takes_the_place_of_a_file_has_another_id(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await save(database, TREE, File("a", "d1", 1, content_type="text/plain"), File("b", "d1", 1))
        before = await database.read(lambda c: attachments.page(c, TREE, limit=9, offset=0))
        await save(database, TREE, File("a", "d2", 2), now=NOW + timedelta(hours=1))
        after = await database.read(lambda c: attachments.page(c, TREE, limit=9, offset=0))
        assert after[1] == before[1]
        assert after[0].id != before[0].id
        assert (after[0].digest, after[0].size, after[0].content_type) == ("d2", 2, None)
        assert after[0].created_at == NOW + timedelta(hours=1)

    with_database(new_database, work)


def test_a_file_is_removed_once(new_database: NewDatabase) -> None:
    async def work(database: Database) -> None:
        await save(database, TREE, File("a", "d", 1), File("b", "d", 1))
        assert await database.write(lambda w: attachments.remove(w.connection, TREE, "a"))
        assert not await database.write(lambda w: attachments.remove(w.connection, TREE, "a"))
        assert await paths(database, TREE) == ["b"]

    with_database(new_database, work)


def test_pages_are_in_the_order_of_paths(new_database: NewDatabase) -> None:
    """By code points on either database; part of a path is looked for as it is."""

    async def work(database: Database) -> None:
        names = ["b/x%.log", "a", "B", "é", "b/x_.log", "b/xy.log", "~"]
        await save(database, TREE, *(File(name, "d", 1) for name in names))
        ordered = ["B", "a", "b/x%.log", "b/x_.log", "b/xy.log", "~", "é"]
        assert await paths(database, TREE) == ordered
        assert await paths(database, TREE, limit=3, offset=2) == ordered[2:5]
        assert await paths(database, TREE, limit=3, offset=7) == []
        assert await paths(database, TREE, "x%") == ["b/x%.log"]
        assert await paths(database, TREE, "_") == ["b/x_.log"]
        assert await paths(database, TREE, "B") == ["B"]

    with_database(new_database, work)
