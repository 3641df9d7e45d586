"""What is reviewed, with its versions, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, event

from reconciler.model.request import Mode
from reconciler.model.review import DEFAULTS, Kind, Stage, application, binding, ruleset
from reconciler.store import requests, reviews
from reconciler.store.database import Database, Write, connect
from reconciler.store.requests import NewRequest
from tests.conftest import NewDatabase

RULES = {**DEFAULTS[Kind.RULESET], "rules": [{"type": "schedule", "enabled": True}]}
BOUND = {"mode": "enforcing", "enabled": True}


def with_database(new_database: NewDatabase, work: Callable[[Database], Awaitable[None]]) -> None:
    """Run `work` on a fresh database."""

    async def run() -> None:
        database = connect(new_database())
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


def declare(write: Write, name: str, *rulesets: str) -> None:
    """An application with rulesets bound to it, all approved."""
    reviews.add(write, application(name))
    reviews.approve(write, application(name), DEFAULTS[Kind.APPLICATION])
    for each in rulesets:
        if reviews.find(write.connection, ruleset(each)) is None:
            reviews.add(write, ruleset(each))
            reviews.approve(write, ruleset(each), RULES)
        reviews.add(write, binding(name, each))
        reviews.approve(write, binding(name, each), BOUND)


def test_what_is_in_force_is_copied(new_database: NewDatabase) -> None:
    """In the order of ids; with the numbers of that moment. Rulesets differ by case, applications do not."""

    async def work(database: Database) -> None:
        await database.write(lambda w: declare(w, "Shop", "b", "a", "B"))
        copies = await database.read(lambda c: reviews.copies(c, "sHOP"))
        assert copies is not None
        assert [(each.ruleset, each.mode) for each in copies] == [
            ("B", Mode.ENFORCING),
            ("a", Mode.ENFORCING),
            ("b", Mode.ENFORCING),
        ]
        assert len({rule["id"] for each in copies for rule in each.rules}) == 3
        assert await database.read(lambda c: reviews.copies(c, "nope")) is None
        assert await database.read(lambda c: reviews.copies(c, "a\x00b")) is None
        assert await database.read(lambda c: reviews.known(c, "SHOP")) == "Shop"
        off = {**RULES, "enabled": False}
        await database.write(lambda w: reviews.approve(w, ruleset("a"), off))
        left = await database.read(lambda c: reviews.copies(c, "shop"))
        assert [each.ruleset for each in left or ()] == ["B", "b"]
        assert await database.read(lambda c: reviews.copy_of(c, "a", Mode.PERMISSIVE)) is None
        one = await database.read(lambda c: reviews.copy_of(c, "b", Mode.PERMISSIVE))
        assert one is not None
        assert (one.mode, one.version["version_number"]) == (Mode.PERMISSIVE, 1)

    with_database(new_database, work)


def test_the_newest_requests_with_a_version_are_read_at_once(new_database: NewDatabase) -> None:
    """The newest hundred, however many others there are."""

    async def work(database: Database) -> None:
        await database.write(lambda w: declare(w, "shop", "a", "b"))
        copies = await database.read(lambda c: reviews.copies(c, "shop")) or ()
        both = [
            NewRequest("shop", bound, "User/x")
            for bound, count in ((copies[:1], 110), (copies[1:], 120))
            for _ in range(count)
        ]
        await database.write(lambda w: requests.register_all(w, both, lambda _: []))
        asked: list[str] = []

        def read(connection: Connection) -> list[int]:
            event.listen(connection, "before_cursor_execute", lambda *told: asked.append(told[2]))
            found = reviews.requests_with(connection, copies[0].version["id"])
            return [each.id for _, each in found]

        assert await database.read(read) == list(range(110, 10, -1))
        assert len(asked) == 1

    with_database(new_database, work)


def test_requests_are_found_by_the_version_that_they_copied(new_database: NewDatabase) -> None:
    """And counted; another id of the application takes them along."""

    async def work(database: Database) -> None:
        await database.write(lambda w: declare(w, "shop", "a", "b"))
        copies = await database.read(lambda c: reviews.copies(c, "shop"))
        new = NewRequest("shop", copies or (), "User/x")
        made = [await database.write(lambda w: requests.register(w, new)) for _ in range(2)]
        version = made[0].bindings[0].version["id"]
        found = await database.read(lambda c: reviews.requests_with(c, version))
        assert [(mode, each.id) for mode, each in found] == [(Mode.ENFORCING, 2), (Mode.ENFORCING, 1)]
        assert await database.read(lambda c: reviews.requests_with(c, 99)) == []
        counted = await database.read(reviews.counts)
        assert counted == {each.version["id"]: 2 for each in made[0].bindings}
        await database.write(lambda w: reviews.rename(w, application("shop"), application("Store")))
        assert len(await database.read(lambda c: requests.of_application(c, "store", None, 0))) == 2
        assert await database.read(lambda c: reviews.copies(c, "shop")) is None
        moved = await database.read(lambda c: reviews.copies(c, "store"))
        assert moved == copies
        await database.write(lambda w: reviews.rename(w, ruleset("a"), ruleset("z")))
        moved = await database.read(lambda c: reviews.copies(c, "store"))
        assert [each.ruleset for each in moved or ()] == ["b", "z"]

    with_database(new_database, work)


def test_one_approval_sends_others_back(new_database: NewDatabase) -> None:
    """What was in review is a draft again; numbers go up by one, ids stay."""

    async def work(database: Database) -> None:
        ref = application("shop")
        await database.write(lambda w: reviews.add(w, ref))
        content = DEFAULTS[Kind.APPLICATION]
        first, second, third = [
            await database.write(lambda w, stage=stage: reviews.propose(w, ref, content, stage))  # type: ignore[misc]
            for stage in (Stage.REVIEWING, Stage.REVIEWING, Stage.REJECTED)
        ]
        done = await database.write(lambda w: reviews.approve(w, ref, content, first))
        assert (done.id, done.number) == (first.id, 1)
        left = await database.read(lambda c: reviews.versions(c, ref, approved=False, limit=None, offset=0))
        assert [(each.id, each.stage) for each in left] == [
            (second.id, Stage.DRAFT),
            (third.id, Stage.REJECTED),
        ]
        again = await database.write(lambda w: reviews.approve(w, ref, content))
        assert (again.number, again.id > third.id) == (2, True)
        found = await database.read(lambda c: reviews.versions(c, ref, approved=True, limit=1, offset=0))
        assert [each.number for each in found] == [2]
        assert await database.read(lambda c: reviews.proposal(c, ref, first.id)) is None

    with_database(new_database, work)
