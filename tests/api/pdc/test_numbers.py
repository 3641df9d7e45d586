"""Numbers and changesets follow what is pushed, also what the daemon has not seen happen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.daemon import Daemon
from reconciler.passes import products
from reconciler.passes.commits import authors_of, told
from reconciler.store import products as rows
from reconciler.store.products import Changeset, Wanted
from tests.api.pdc.conftest import document, person, release
from tests.support import SpecRepository, daemon, settings_for

GROUND = {
    "people.yaml": person("bob", None),
    "slas.yaml": document("SLA", "a") + "---\n" + document("SLA", "b"),
    "r.yaml": release("r", "1", ", schedule: {a: '2031-01-01', b: '2031-01-02'}"),
}
RENAMED = """r 2: add, and 1 more

Steersman-Request: 0
Steersman-Actor: user:bob
Steersman-Endpoint: PATCH
Steersman-Renamed: ProductRelease/r-1 -> ProductRelease/r-2
Steersman-Renamed: schedule r-1%09b -> schedule r-2%09c%20%3E
Steersman-Comment: twice 100%25
"""


async def numbers(running: Daemon) -> dict[tuple[str, str], int]:
    """Of all entries."""
    found = await products.catalogue(running.installation)
    return {each.pair: each.number for each in found.schedules}


async def newest(running: Daemon) -> Changeset:
    """The last changeset."""
    found = await running.installation.database.read(lambda c: rows.listed(c, Wanted(), 1, 0))
    return found[0]


def sorts(changeset: Changeset) -> dict[str, int]:
    """How many changes there are of each sort."""
    names: list[str] = [change["resource"] for change in changeset.changes]
    return {name: names.count(name) for name in sorted(set(names))}


def test_a_rename_that_was_pushed_before_a_kill_keeps_its_numbers(tmp_path: Path) -> None:
    """The next start finds it in the commit; what is removed and comes again gets a new number."""
    repo = SpecRepository(tmp_path / "specs")
    first = repo.commit(GROUND, "Ground")

    async def go() -> None:
        settings: Any = settings_for(repo, tmp_path / "data")
        async with daemon(settings) as running:
            before = await numbers(running)
            made = await newest(running)
            assert sorts(made) == {"release": 1, "releaseschedule": 2, "sla": 2}
            assert (made.author, made.comment) == ("Alice", f"{first} Ground")
        repo.commit({"slas.yaml": GROUND["slas.yaml"] + "---\n" + document("SLA", "c >")}, "One more")
        repo.commit(
            {"r.yaml": release("r", "2", ", schedule: {a: '2031-01-01', 'c >': '2031-01-02'}")}, RENAMED
        )
        async with daemon(settings) as running:
            after = await numbers(running)
            assert after == {("r-2", "a"): before["r-1", "a"], ("r-2", "c >"): before["r-1", "b"]}
            changed = await newest(running)
            assert sorts(changed) == {"release": 1, "releaseschedule": 1, "sla": 1}
            assert changed.author == "bob"
            assert "twice 100%" in (changed.comment or "")
            repo.commit({"r.yaml": release("r", "2", ", schedule: {a: '2031-01-01'}")}, "Less")
            await running.installation.run_now("source")
            repo.commit(
                {"r.yaml": release("r", "2", ", schedule: {a: '2031-01-01', 'c >': '2031-01-02'}")}, "Again"
            )
            await running.installation.run_now("source")
            assert await numbers(running) == after | {("r-2", "c >"): 3}
            found = await told(running.installation, first, repo.head())
            assert [each.title for each in found] == ["One more", "r 2: add, and 1 more", "Less", "Again"]
            assert found[1].renamed[1] == ("schedule r-1\tb", "schedule r-2\tc >")
            assert [each.subject for each in found] == [None, "User/bob", None, None]
            repo.git("commit", "-q", "--allow-empty", "--author=B <BOB@example.org>", "-m", "By address")
            assert "User/bob" in await authors_of(running.installation, repo.head())
            assert await authors_of(running.installation, "0" * 40) == frozenset()

    asyncio.run(go())


def test_who_comes_without_credentials_may_stand_for_somebody(tmp_path: Path) -> None:
    """It is a subject of ours, or the settings are refused."""
    found = settings_for("/nowhere", tmp_path, anonymous_as={"pdc": "User/bob"})
    assert found.anonymous_as == {"pdc": "User/bob"}
    for wrong in ({"pdc": "bob"}, {"other": "User/bob"}, {"sqedule": "Team/x"}):
        with pytest.raises(ValidationError):
            settings_for("/nowhere", tmp_path, anonymous_as=wrong)
