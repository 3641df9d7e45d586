"""Versions from what is applied: names that change on the way, ids that differ in case only, much at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.apply import reviews as apply
from reconciler.model.resource import Resource
from reconciler.model.review import application, binding, ruleset
from reconciler.model.status import Health, Sync
from reconciler.model.told import Told
from reconciler.store import migrate, reviews
from reconciler.store.database import Database, connect
from specs.kinds import KINDS
from tests import databases


def resource(kind: str, name: str, **spec: Any) -> Resource:
    """One that is in force."""
    whole = KINDS[kind].model.model_validate(spec).model_dump(mode="json")
    return Resource(
        f"{kind}/{name}", kind, None, None, name, {}, {}, "a.yaml", 1, "c" * 40, "d", whole, (), (), 1, 1,
        Sync.SYNCED, Health.HEALTHY, (), "u",
    )  # fmt: skip


def told(*renamed: tuple[str, str]) -> Told:
    """A commit that has renamed something."""
    return Told("c" * 40, None, "n", "e", "t", renamed=renamed)


class State:
    """What is in force, and the store that is told of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.resources: dict[str, Resource] = {}

    async def apply(self, wanted: Iterable[Resource], *commits: Told) -> None:
        """The next revision."""
        after: Mapping[str, Resource] = {each.key: each for each in wanted}
        before, removed = self.resources, self.resources.keys() - after.keys()
        changed = [each for key, each in after.items() if before.get(key) != each]
        await self.database.write(lambda w: apply.note(w, before, changed, removed, commits))
        self.resources = dict(after)

    async def numbers(self, ref: Any) -> list[int | None]:
        """Of the approved versions."""
        found = await self.database.read(
            lambda c: reviews.versions(c, ref, approved=True, limit=None, offset=0)
        )
        return [each.number for each in found]


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


RULES = resource("ApprovalRuleset", "r")
BOUND = {"approval_ruleset_bindings": [{"approval_ruleset": "r"}]}


def test_names_that_change_twice_before_they_are_applied(tmp_path: Path) -> None:
    """One thing all the time; without such a word, one that goes and one that comes."""

    async def work(state: State) -> None:
        await state.apply([RULES, resource("Application", "a", **BOUND)])
        commits = told(("Application/a", "Application/b")), told(("Application/b", "Application/C"))
        await state.apply([RULES, resource("Application", "C", **BOUND)], *commits)
        assert await state.database.read(lambda c: reviews.known(c, "a")) is None
        assert await state.database.read(lambda c: reviews.known(c, "c")) == "C"
        assert await state.numbers(application("c")) == [1]
        assert await state.numbers(binding("C", "r")) == [1]
        await state.apply([RULES, resource("Application", "d", **BOUND)])
        assert await state.numbers(application("c")) == [2, 1]
        assert await state.numbers(binding("c", "r")) == [2, 1]
        assert await state.numbers(application("d")) == [1]
        # what is still there was not renamed, whatever a commit says
        both = [RULES, resource("Application", "d", **BOUND), resource("Application", "e")]
        await state.apply(both, told(("Application/d", "Application/e")))
        assert await state.numbers(application("d")) == [1]
        assert await state.numbers(application("e")) == [1]

    in_store(tmp_path, work)


def test_ids_that_differ_in_case_only(tmp_path: Path) -> None:
    """The first by its KEY counts; another spelling of the same one is no version."""

    async def work(state: State) -> None:
        both = (
            resource("Application", "A", display_name="one"),
            resource("Application", "a", display_name="two"),
        )
        await state.apply(both)
        await state.apply([*both, RULES])
        assert await state.numbers(application("a")) == [1]
        assert await state.database.read(lambda c: reviews.known(c, "a")) == "A"
        await state.apply([resource("Application", "a", display_name="one"), RULES])
        assert await state.numbers(application("A")) == [1]

    in_store(tmp_path, work)


def test_many_at_once(tmp_path: Path) -> None:
    """As one by one."""

    async def work(state: State) -> None:
        many = [resource("Application", f"a{number}", **BOUND) for number in range(60)]
        await state.apply([RULES, *many])
        assert await state.numbers(binding("a59", "r")) == [1]
        await state.apply(
            [
                resource("ApprovalRuleset", "r", description="x"),
                *(resource("Application", each.name) for each in many),
            ]
        )
        assert await state.numbers(binding("a0", "r")) == [2, 1]
        assert await state.numbers(application("a0")) == [1]
        assert await state.numbers(ruleset("r")) == [2, 1]

    in_store(tmp_path, work)
