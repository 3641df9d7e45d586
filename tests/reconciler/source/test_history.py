"""The history of a repository, read in portions from real repositories."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Transient
from reconciler.model.history import Commit
from reconciler.source.git import Mirror


def reading(url: Path, use: Callable[[Mirror], Awaitable[None]]) -> None:
    """Open the repository in place, use it, close it."""

    async def run() -> None:
        mirror = await Mirror.open(str(url), Path("/nowhere"), direct=True)
        try:
            await use(mirror)
        finally:
            await mirror.close()

    asyncio.run(run())


async def all_of(mirror: Mirror, heads: list[str], without: list[str] | None = None) -> list[Commit]:
    """A whole history."""
    return [commit async for some in mirror.history(heads, without or [], portion=2) for commit in some]


def test_commits_come_with_tree_parents_and_date(work: Any) -> None:
    """Of a merge both parents, in their order; of a first commit none."""
    first = work.git("rev-parse", "HEAD")
    second = work.commit({"x": "1"}, "main")
    work.git("checkout", "-q", "-b", "side", first)
    third = work.commit({"y": "1"}, "side")
    work.git("merge", "-q", "--no-ff", "-m", "both", "main", GIT_COMMITTER_DATE="1900000000 +0100")
    merge = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        found = {commit.id: commit for commit in await all_of(mirror, [merge])}
        assert set(found) == {first, second, third, merge}
        assert found[merge].parents == (third, second)
        assert found[first].parents == ()
        assert found[merge].tree == work.git("rev-parse", f"{merge}^{{tree}}")
        assert found[merge].committed_at == datetime.fromtimestamp(1900000000, UTC)
        new = await all_of(mirror, [merge, second], [second])
        assert {commit.id for commit in new} == {third, merge}
        assert await all_of(mirror, []) == []
        assert await all_of(mirror, [first], [merge]) == []

    reading(work.path, use)


def test_what_is_known_is_told(work: Any) -> None:
    """Commits only: neither trees, nor names, nor what is not there."""
    commit, tree = work.git("rev-parse", "HEAD", "HEAD^{tree}").split()
    work.git("tag", "-a", "-m", "t", "v1")

    async def use(mirror: Mirror) -> None:
        asked = [commit, tree, "0" * 40, "main", work.git("rev-parse", "v1")]
        assert await mirror.known(asked) == {commit}

    reading(work.path, use)


def test_an_unknown_head_is_an_error(work: Any) -> None:
    """And no history that ends too early."""

    async def use(mirror: Mirror) -> None:
        with pytest.raises(Transient):
            await all_of(mirror, ["1" * 40])

    reading(work.path, use)


def test_a_history_may_be_left_before_its_end(work: Any) -> None:
    """Its process ends with it, and others read on meanwhile."""
    for number in range(5):
        work.commit({"x": str(number)})
    head = work.git("rev-parse", "HEAD")

    async def use(mirror: Mirror) -> None:
        async with aclosing(mirror.history([head], portion=2)) as history:
            async for some in history:
                assert len(some) == 2
                assert (await mirror.tree_of(some[0].id)) == some[0].tree
                break
        assert len(await all_of(mirror, [head])) == 6

    reading(work.path, use)


def test_a_date_that_no_clock_shows_harms_nobody(work: Any) -> None:
    """The epoch stands for it."""
    tree = work.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\nauthor x <y> 1 +0000\ncommitter x <y> 99999999999999999 +0000\n\nsubject\n"
    (work.path / "raw").write_text(raw)
    odd = work.git("hash-object", "-t", "commit", "-w", "--literally", "raw")

    async def use(mirror: Mirror) -> None:
        (found,) = await all_of(mirror, [odd])
        assert found.committed_at == datetime.fromtimestamp(0, UTC)

    reading(work.path, use)
