"""The work tree in which a local repository's owner has the followed branch checked out.

Called by `reconciler.source.commit` around a push, which Git itself lets such a clean work tree follow. Here is
what Git leaves open: files that it ignores are not written over, and a tree that has followed a push which then
failed goes back. Never touches anything else there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from reconciler.source import parse
from reconciler.source.environment import NOTHING, hardened
from reconciler.source.failures import GitFailed
from reconciler.source.git import Commands
from reconciler.source.names import git_dir_of
from reconciler.source.repository import EMPTY_TREE
from reconciler.source.stream import ancestors


def checked_out(git_dir: Path, branch: str) -> Path | None:
    """The work tree that has the branch checked out, also one without a commit."""
    commands = Commands(git_dir, hardened(NOTHING, git_dir=git_dir))
    place: Path | None = None
    for line in parse.text(commands.run("worktree", "list", "--porcelain")).split("\n"):
        word, _, rest = line.partition(" ")
        if word == "worktree":
            place = Path(rest)
        elif line == f"branch refs/heads/{branch}" and place is not None and place.is_dir():
            return place
    return None


def in_the_way(tree: Path, path: str) -> bool:
    """Whether a file that Git does not know stands where a new file shall be."""
    above = (tree / folder for folder in ancestors(path))
    return _exists(tree / path) or any(_exists(place) and not _folder(place) for place in above)


def _exists(place: Path) -> bool:
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def lock_of(tree: Path) -> Path | None:
    """The lock of a Git command that is at work in the tree, or was killed there."""
    git_dir = git_dir_of(tree)
    lock = git_dir / "index.lock" if git_dir else None
    return lock if lock is not None and lock.exists() else None


def put_back(tree: Path, commit: str) -> None:
    """Let a tree that has followed to the commit go back to its HEAD; nothing for any other tree."""
    git_dir = git_dir_of(tree)
    if git_dir is None:
        return
    inside = {"GIT_WORK_TREE": str(tree)}
    commands = Commands(tree, hardened(NOTHING, git_dir=git_dir) | inside)
    try:
        commands.run("diff-index", "--quiet", "--cached", commit, "--")
    except GitFailed:
        return
    try:
        head = parse.text(commands.run("rev-parse", "--verify", "--quiet", "HEAD")).strip()
    except GitFailed:
        head = EMPTY_TREE[len(commit)]
    if head != commit:
        # What has been changed there in between is the owner's, and stays.
        with contextlib.suppress(GitFailed):
            commands.run("read-tree", "-m", "-u", commit, head)
