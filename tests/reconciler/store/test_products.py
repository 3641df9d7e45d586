"""Numbers of products and changesets, on SQLite and PostgreSQL alike (pdc, 2.1, 2.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from reconciler.store import products
from reconciler.store.database import Database, Write, connect
from reconciler.store.products import Changeset, Wanted
from reconciler.store.tables import metadata
from tests.conftest import NewDatabase

AT = datetime(2031, 4, 9, 12, tzinfo=UTC)


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def test_numbers_stay_through_renames_and_never_come_again(new_database: NewDatabase) -> None:
    """Two that take each other's names at once keep theirs; what comes back is new."""

    async def work(database: Database) -> None:
        async def settle(
            gone: list[str], moved: dict[str, str], new: list[str], sort: str = "sla"
        ) -> dict[str, int]:
            return await database.write(lambda w: products.settle(w.connection, sort, gone, moved, new))

        assert await settle([], {}, ["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}
        assert await settle([], {}, ["a"], "product") == {"a": 1}
        assert await settle(["c"], {"a": "b", "b": "a"}, ["d"]) == {"a": 2, "b": 1, "d": 4}
        assert await settle([], {"unknown": "e"}, ["c"]) == {"c": 5, "e": 6}
        found = await database.read(products.load)
        assert {name: number for (sort, name), number in found.items() if sort == "sla"} == {
            "a": 2,
            "b": 1,
            "c": 5,
            "d": 4,
            "e": 6,
        }

    with_database(new_database, work)


def test_a_thousand_at_once(new_database: NewDatabase) -> None:
    """More than one statement can name."""

    async def work(database: Database) -> None:
        names = [f"n{at}" for at in range(1_000)]
        given = await database.write(lambda w: products.settle(w.connection, "sla", [], {}, names))
        assert [given[name] for name in names] == list(range(1, 1_001))
        assert await database.read(lambda c: products.of(c, "sla", names)) == given
        await database.write(lambda w: products.settle(w.connection, "sla", names, {}, []))
        assert await database.read(lambda c: products.of(c, "sla", names)) == {}

    with_database(new_database, work)


def test_changesets_are_found_by_what_they_are(new_database: NewDatabase) -> None:
    """By author, sort, words of the comment and time; newest first."""

    async def work(database: Database) -> None:
        def add(write: Write) -> None:
            for at, (author, comment, sort) in enumerate(
                [("a", "50% off_x", "sla"), ("b", None, "release"), ("a", "other", "releaseschedule")]
            ):
                made = AT + timedelta(hours=at)
                products.add(
                    write.connection, Changeset(0, author, comment, [{"resource": sort}], made, made), {sort}
                )

        await database.write(add)

        async def ids(wanted: Wanted, limit: int | None = None, offset: int = 0) -> list[int]:
            rows = await database.read(lambda c: products.listed(c, wanted, limit, offset))
            assert limit is not None or len(rows) == await database.read(lambda c: products.count(c, wanted))
            return [row.id for row in rows]

        assert await ids(Wanted()) == [3, 2, 1]
        assert await ids(Wanted(), 1, 1) == [2]
        assert await ids(Wanted(authors=("a",))) == [3, 1]
        assert await ids(Wanted(resources=("release",))) == [2]
        assert await ids(Wanted(resources=("sla", "releaseschedule"))) == [3, 1]
        assert await ids(Wanted(comment="0% off_")) == [1]
        assert await ids(Wanted(comment="0_ off")) == []
        assert await ids(Wanted(since=AT + timedelta(hours=1), until=AT + timedelta(hours=1))) == [2]
        assert (await database.read(products.changed))["release"] == AT + timedelta(hours=1)
        assert await database.read(lambda c: products.find(c, 4)) is None

    with_database(new_database, work)


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef")), st.permutations("abcdef")), max_size=5))
@settings(max_examples=25, deadline=None)
def test_no_number_is_ever_given_twice(steps: list[tuple[set[str], list[str]]]) -> None:
    """Whatever goes, comes and takes another's name."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    seen: dict[int, int] = {}
    now: dict[str, int] = {}
    with engine.begin() as connection:
        for turn, (wanted, names) in enumerate(steps):
            kept = sorted(now.keys() & wanted)
            moved = {
                old: new
                for old, new in zip(kept, (n for n in names if n in wanted), strict=False)
                if old != new
            }
            taken = {moved.get(old, old) for old in kept}
            gone = [old for old in now if old not in kept]
            new = sorted(wanted - taken)
            expected = {moved.get(old, old): now[old] for old in kept}
            given_now = products.settle(connection, "sla", gone, moved, new)
            now = expected | {name: given_now[name] for name in new}
            assert products.of(connection, "sla", "abcdef") == now
            assert not {now[name] for name in new} & seen.keys()
            seen |= dict.fromkeys(now.values(), turn)
