"""Numbers of products from what is applied, whatever the commits say of names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.apply import products as apply
from reconciler.model.product import SCHEDULE, name_of
from reconciler.model.resource import Resource
from reconciler.store import migrate, products
from reconciler.store.database import Database, connect
from tests import databases
from tests.reconciler.apply.test_reviews import resource, told


def release(version: str, **schedule: str) -> Resource:
    """A release with the last days of its services."""
    spec: dict[str, Any] = {"short": "r", "version": version, "display_name": "R", "release_type": "ga"}
    return resource("ProductRelease", f"r-{version}", schedule=schedule, **spec)


def entry(version: str, sla: str) -> str:
    """As a trailer names it."""
    return f"schedule {name_of((f'r-{version}', sla))}"


class State:
    """What is in force, and the store that is told of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.resources: dict[str, Resource] = {}

    async def apply(self, wanted: Iterable[Resource], *renamed: tuple[str, str]) -> dict[str, int]:
        """The next revision, whose commit says so; the numbers of all entries afterwards."""
        after: Mapping[str, Resource] = {each.key: each for each in wanted}
        before, removed = self.resources, self.resources.keys() - after.keys()
        changed = [each for key, each in after.items() if before.get(key) != each]
        await self.database.write(lambda w: apply.note(w, before, changed, removed, [told(*renamed)]))
        self.resources = dict(after)
        found = await self.database.read(products.load)
        return {name.replace("\t", " "): number for (sort, name), number in found.items() if sort == SCHEDULE}


def in_store(tmp_path: Path, work: Any) -> None:
    """Run `work` on a fresh store."""

    async def run() -> None:
        url = databases.url_of(tmp_path)
        migrate.prepare(url, may_migrate=True)
        database = connect(url)
        try:
            await work(State(database))
        finally:
            await database.close()

    asyncio.run(run())


def test_a_trailer_that_is_said_again_moves_no_number(tmp_path: Path) -> None:
    """Entries keep theirs while both names are there, and when one of them goes; real moves go on."""

    async def work(state: State) -> None:
        first = await state.apply([release("1", a="2031-01-01", b="2031-01-02")])
        again = (entry("1", "a"), entry("1", "b"))
        assert await state.apply([release("1", a="2031-02-01", b="2031-02-02")], again) == first
        assert await state.apply([release("1", b="2031-02-02")], again) == {"r-1 b": first["r-1 b"]}
        moved = await state.apply([release("1", a="2031-02-02")], (entry("1", "b"), entry("1", "a")))
        assert moved == {"r-1 a": first["r-1 b"]}
        both = await state.apply([release("1", a="2031-02-02", b="2031-02-03")])
        swapped = await state.apply(
            [release("1", a="2031-02-03", b="2031-02-02")], again, (entry("1", "b"), entry("1", "a"))
        )
        assert swapped == {"r-1 a": both["r-1 b"], "r-1 b": both["r-1 a"]}

    in_store(tmp_path, work)


def test_nonsense_in_trailers(tmp_path: Path) -> None:
    """Two successors of one name, chains whose end has not moved, and releases that are not there."""

    async def work(state: State) -> None:
        days = {"a": "2031-01-01", "b": "2031-01-02", "c": "2031-01-03"}
        first = await state.apply([release("1", **days)])
        chain = (entry("1", "a"), entry("1", "b")), (entry("1", "b"), entry("1", "c"))
        assert await state.apply([release("1", b="2032-01-02", c="2032-01-03")], *chain) == {
            "r-1 b": first["r-1 b"],
            "r-1 c": first["r-1 c"],
        }
        one = (entry("1", "b"), entry("1", "d")), (entry("1", "c"), entry("1", "d"))
        assert await state.apply([release("1", d="2032-01-02")], *one) == {"r-1 d": first["r-1 b"]}
        renamed = ("ProductRelease/r-1", "ProductRelease/r-2"), ("ProductRelease/r-9", "ProductRelease/r-2")
        elsewhere = (entry("1", "d"), entry("7", "d"))
        after = await state.apply([release("2", d="2032-01-02")], *renamed, elsewhere)
        assert after == {"r-2 d": first["r-1 b"]}

    in_store(tmp_path, work)
