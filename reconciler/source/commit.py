"""Committing to the specifications' repository: one `Writer` beside its `Mirror`.

Held by the daemon and used by what writes declared things. A commit is made in a private repository of ours
(`scratch.py`) and pushed as a compare-and-swap (`push.py`), so that killing the daemon at any moment leaves
the pushed commit or nothing. Never uses an index or a work tree, never runs a hook of ours, never merges and
never tries again: a branch that has moved is the caller's to read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from reconciler.errors import Conflict, Moved, Refused, Stalled, SteersmanError, Transient, UnknownCommit
from reconciler.source import worktree
from reconciler.source.environment import NOTHING, hardened
from reconciler.source.git import Commands, Mirror
from reconciler.source.names import check_branch, check_file, git_dir_of, is_object_id, local_path
from reconciler.source.push import Push, send
from reconciler.source.scratch import Scratch
from reconciler.source.stream import FileChange, changes, cleaned
from reconciler.source.values import Author, Entry

__all__ = ["Author", "Writer"]

T = TypeVar("T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Writer:
    """Commits to one branch of one repository, one at a time; ended by `close`, before its mirror."""

    def __init__(
        self,
        mirror: Mirror,
        branch: str,
        folder: Path,
        committer: Author,
        *,
        signing_key: Path | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        """`folder` is where the private repositories are made (DATA/mirrors), and no other process's.

        `signing_key` is the file of an SSH private key without a passphrase; `now` tells the time of commits,
        with its zone.
        """
        self._mirror = mirror
        self._branch = check_branch(branch)
        name = hashlib.sha256(mirror.url.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._folder = folder.absolute() / f"commits-{name}"
        self._committer = cleaned(committer)
        self._signing_key = signing_key
        self._now = now
        self._turn = asyncio.Lock()
        self._sending: Commands | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="git-commit")

    async def commit(
        self,
        base: str | None,
        files: Mapping[str, bytes | None],
        author: Author,
        message: str,
        *,
        branch: str | None = None,
    ) -> str:
        """Commit the files on `base` and push; the id of the commit that the branch now has.

        `files` are contents by path from the repository's root, None removes; `base` is the commit that was
        edited, None for a branch without one. With `branch` a new branch of that name is pushed instead. What
        changes nothing makes no commit: the answer is `base`.

        Moved when the branch is not at `base` any more; PushRefused when a hook or a protection says no;
        Conflict when a work tree of the branch has changes, or the new branch is there already; Refused for
        a path that no file can have; Transient and Stalled when the repository cannot be reached or used.
        """
        if base is not None and not is_object_id(base):
            raise UnknownCommit("UnknownCommit", f"{base[:64]!r} is not a full commit id")
        target = self._branch if branch is None else check_branch(branch)
        async with self._turn:
            try:
                work = functools.partial(self._commit, base, files, cleaned(author), message, target)
                scratch, commit = await self._in_thread(work)
                if commit != base:
                    # It is pushed: what the mirror cannot take now, the next fetch brings.
                    with contextlib.suppress(SteersmanError):
                        await self._mirror.adopt(scratch, target, commit)
                return commit
            finally:
                with contextlib.suppress(SteersmanError):
                    await self._in_thread(self._clear)

    async def close(self) -> None:
        """End what runs; the writer cannot be used afterwards."""
        if (sending := self._sending) is not None:
            # Not more than that: a local repository is left without locks.
            sending.kill(signal.SIGTERM)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._mirror.guarded, work)
        except RuntimeError as error:
            where = self._mirror.redacted(self._mirror.url)
            raise Transient("GitClosed", f"commits to {where} are closed") from error
        return await running

    def _clear(self) -> None:
        """Remove the private repositories, also those of a killed process."""
        if self._folder.is_dir():
            for place in self._folder.iterdir():
                shutil.rmtree(place, ignore_errors=True)

    def _commit(
        self, base: str | None, files: Mapping[str, bytes | None], author: Author, message: str, branch: str
    ) -> tuple[Path, str]:
        """In the thread: the private repository and the pushed commit."""
        for path in files:
            check_file(path)
        git_dir = self._git_dir()
        object_format = self._object_format(base, git_dir)
        self._clear()
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = Scratch(Path(tempfile.mkdtemp(dir=self._folder)), git_dir, object_format)
        there = scratch.entries(base, files) if base is not None and files else {}
        changed = changes(files, there, object_format)
        if not changed:
            if base is None:
                raise Refused("NothingToCommit", "a first commit needs a file")
            return scratch.place, base
        people, when = (author, self._committer), self._now()
        commit = scratch.commit(base, changed, people, when, message)
        if self._signing_key is not None:
            commit = scratch.sign(commit, base, people, when, message, self._signing_key)
        self._push(
            scratch.place, Push(commit, branch, base if branch == self._branch else None), changed, there
        )
        return scratch.place, commit

    def _git_dir(self) -> Path:
        """Where the mirror's objects are, which may have gone since it was opened."""
        place = git_dir_of(self._mirror.place)
        if place is not None:
            return place
        if self._mirror.direct:
            raise Stalled("GitRefused", f"{self._mirror.place} is not a Git repository, or is not there")
        raise Transient("GitUnavailable", f"the mirror {self._mirror.place} is not there; fetch it again")

    def _object_format(self, base: str | None, git_dir: Path) -> str:
        if base is not None:
            return "sha1" if len(base) == 40 else "sha256"
        commands = Commands(git_dir, hardened(NOTHING, git_dir=git_dir))
        return commands.run("rev-parse", "--show-object-format").decode("ascii").strip()

    def _push(self, place: Path, push: Push, changed: list[FileChange], there: Mapping[str, Entry]) -> None:
        """Push to the branch, or to a new one; a work tree of it follows whole or not at all."""
        tree = self._checked_out(push.branch)
        if tree is not None:
            _check_that_it_can_follow(tree, changed, there)
        self._sending = self._mirror.commands(place)
        try:
            send(self._mirror, self._sending, push)
        except SteersmanError as error:
            if tree is not None:
                worktree.put_back(tree, push.commit)
            if isinstance(error, Moved) and push.branch != self._branch:
                raise Conflict("BranchExists", f"the branch {push.branch} is there already") from error
            raise
        finally:
            self._sending = None

    def _checked_out(self, branch: str) -> Path | None:
        place = local_path(self._mirror.url)
        git_dir = git_dir_of(place) if place is not None else None
        return worktree.checked_out(git_dir, branch) if git_dir is not None else None


def _check_that_it_can_follow(tree: Path, changed: list[FileChange], there: Mapping[str, Entry]) -> None:
    """Refuse what Git says badly, and to write over files that it ignores, which it would do."""
    if (lock := worktree.lock_of(tree)) is not None:
        raise Transient(
            "GitLocked", f"{tree} is locked: a Git command is at work, or was killed, with {lock}"
        )
    for change in changed:
        if change.path not in there and worktree.in_the_way(tree, change.path):
            raise Conflict(
                "WorkTreeDirty",
                f"{tree / change.path} is in the way of a new file: Git does not know it; move it",
            )
