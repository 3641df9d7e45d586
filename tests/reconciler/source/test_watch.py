"""Watching a local repository wakes soon after every way a branch can move."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.source.watch import git_dir_of, watch

SOON = 1.0


class Bell:
    """Remembers wake-ups; `rung_by` runs a change and waits for the next one."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.count = 0

    def wake(self) -> None:
        self.count += 1
        self._rung.set()

    async def rung(self, within: float = SOON) -> None:
        await asyncio.wait_for(self._rung.wait(), within)
        self._rung.clear()

    async def quiet(self) -> None:
        """Wait until what happened before has been told."""
        while True:
            try:
                await self.rung(0.15)
            except TimeoutError:
                return

    async def rung_by(self, change: Callable[[], Any]) -> float:
        await self.quiet()
        await asyncio.to_thread(change)
        began = time.monotonic()
        await self.rung()
        return time.monotonic() - began


def watching(git_dir: Path, use: Callable[[Bell], Awaitable[None]]) -> None:
    async def run() -> None:
        bell, stop = Bell(), asyncio.Event()
        task = asyncio.create_task(watch(git_dir, bell.wake, stop, look_again_seconds=0.1))
        try:
            await use(bell)
        finally:
            stop.set()
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


def test_it_wakes_when_watching_begins_and_on_every_commit(work: Any) -> None:
    async def use(bell: Bell) -> None:
        await bell.rung()
        for _ in range(3):
            await bell.rung_by(work.commit)

    watching(work.path / ".git", use)


def test_it_wakes_on_a_push_into_a_bare_repository(work: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    work.git("clone", "-q", "--bare", ".", str(bare))
    work.git("remote", "add", "origin", str(bare))

    async def use(bell: Bell) -> None:
        await bell.rung()
        work.commit()
        await bell.rung_by(lambda: work.git("push", "-q", "origin", "main"))
        await bell.rung_by(lambda: work.git("push", "-q", "origin", "main:refs/heads/a/new/one"))
        work.commit()
        await bell.rung_by(lambda: work.git("push", "-q", "origin", "main:refs/heads/a/new/one"))
        await bell.rung_by(lambda: work.git("push", "-q", "origin", ":a/new/one"))

    watching(bare, use)


def test_it_wakes_on_packing_and_after_it(work: Any) -> None:
    async def use(bell: Bell) -> None:
        await bell.rung()
        await bell.rung_by(lambda: work.git("pack-refs", "--all", "--prune"))
        await bell.rung_by(work.commit)
        await bell.rung_by(lambda: work.git("gc", "-q"))
        await bell.rung_by(work.commit)

    watching(work.path / ".git", use)


def test_it_wakes_when_another_branch_is_checked_out(work: Any) -> None:
    async def use(bell: Bell) -> None:
        await bell.rung()
        await bell.rung_by(lambda: work.git("symbolic-ref", "HEAD", "refs/heads/other"))

    watching(work.path / ".git", use)


def test_it_hears_again_after_refs_was_made_anew(work: Any) -> None:
    refs = work.path / ".git/refs"

    def anew() -> None:
        shutil.copytree(refs, refs.with_name("copy"))
        shutil.rmtree(refs)
        refs.with_name("copy").rename(refs)

    async def use(bell: Bell) -> None:
        await bell.rung()
        for _ in range(3):
            await bell.rung_by(anew)
            await bell.rung_by(work.commit)

    watching(work.path / ".git", use)


@pytest.mark.parametrize("way", ["moved", "removed"])
def test_it_waits_for_a_repository_that_disappears(work: Any, tmp_path: Path, way: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(work.path, copy)

    def disappear() -> None:
        if way == "moved":
            work.path.rename(tmp_path / "away")
        else:
            shutil.rmtree(work.path)

    async def use(bell: Bell) -> None:
        await bell.rung()
        await asyncio.to_thread(disappear)
        await bell.quiet()
        copy.rename(work.path)
        await bell.rung(within=5)
        await bell.rung_by(work.commit)

    watching(work.path / ".git", use)


def test_it_waits_for_a_repository_that_is_not_there_yet(tmp_path: Path, make_work: Any) -> None:
    async def use(bell: Bell) -> None:
        with pytest.raises(TimeoutError):
            await bell.rung(0.2)
        work = make_work("late")
        await bell.rung(within=5)
        await bell.rung_by(work.commit)

    watching(tmp_path / "late/.git", use)


def test_a_linked_work_tree_is_watched_where_its_refs_are(work: Any, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    work.git("worktree", "add", "-q", "-b", "side", str(linked))
    git_dir = git_dir_of(linked)
    assert git_dir == work.path / ".git/worktrees/linked"

    async def use(bell: Bell) -> None:
        await bell.rung()
        await bell.rung_by(work.commit)
        await bell.rung_by(lambda: work.git("commit", "-q", "--allow-empty", "-m", "x", cwd=linked))
        await bell.rung_by(lambda: work.git("symbolic-ref", "HEAD", "refs/heads/other", cwd=linked))

    watching(git_dir, use)


def test_it_does_not_wake_for_the_index_or_remote_branches(work: Any) -> None:
    async def use(bell: Bell) -> None:
        await bell.rung()
        await bell.quiet()
        before = bell.count
        (work.path / "a.yaml").write_text("changed")
        await asyncio.to_thread(work.git, "add", "-A")
        await asyncio.to_thread(work.git, "update-ref", "refs/remotes/origin/x/y", "HEAD")
        await bell.quiet()
        assert bell.count == before
        await bell.rung_by(work.commit)

    watching(work.path / ".git", use)


def test_cancelling_ends_it(work: Any) -> None:
    async def run() -> None:
        task = asyncio.create_task(watch(work.path / ".git", lambda: None, asyncio.Event()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 2)

    asyncio.run(run())


def test_git_directories_are_found_without_git(work: Any, tmp_path: Path) -> None:
    assert git_dir_of(work.path) == work.path / ".git"
    assert git_dir_of(work.path / ".git") == work.path / ".git"
    assert git_dir_of(tmp_path) is None
    assert git_dir_of(tmp_path / "none") is None
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert git_dir_of(tmp_path) is None
