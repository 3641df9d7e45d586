"""The folder in which a trial works: a clean checkout of its job's commit, or nothing at all, and its scratch space.

Called by `reconciler.execution.run`; it never starts a script.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SteersmanError, Transient
from reconciler.execution import leftovers
from reconciler.model.job import Checkout, Reason
from reconciler.source.git import UnknownCommit
from reconciler.source.mirrors import Mirrors

_PAUSES = (1.0, 5.0, 20.0)


class WorkspaceError(SteersmanError):
    """The workspace cannot be made; `reason` is a `Reason` of the model."""


@dataclass(frozen=True, slots=True)
class Folder:
    """DATA/workspaces/<trial>-<epoch>: everything of one claim that is removed with it."""

    path: Path

    @property
    def workspace(self) -> Path:
        """The checkout, in which the script starts."""
        return self.path / "workspace"

    @property
    def tmp(self) -> Path:
        """The script's own /tmp."""
        return self.path / "tmp"

    @property
    def home(self) -> Path:
        """The script's HOME."""
        return self.path / "home"

    @property
    def needs(self) -> Path:
        """Attachments of the tasks that this one needs, by task."""
        return self.path / "needs"

    @property
    def root(self) -> Path:
        """A private copy of a root image that packages are installed into."""
        return self.path / "root"


async def prepare(folder: Folder, checkout: Checkout, mirrors: Mirrors) -> None:
    """Make the workspace of a commit anew; what an interrupted attempt left is removed first."""
    await asyncio.to_thread(_make, folder)
    try:
        await _steadily(folder.workspace, checkout, mirrors)
    except UnknownCommit as error:
        message = f"commit {checkout.commit} is no longer in {checkout.url}"
        raise WorkspaceError(Reason.COMMIT_GONE, message) from error
    except SteersmanError as error:
        raise WorkspaceError(Reason.CHECKOUT_FAILED, str(error)) from error


async def _steadily(directory: Path, checkout: Checkout, mirrors: Mirrors) -> None:
    """Check out, and again after a pause where the repository only failed to answer."""
    url, commit, secret = checkout.url or "", checkout.commit or "", checkout.secret
    for pause in (*_PAUSES, None):
        try:
            mirror = await mirrors.get(url, secret)
            if await mirror.tree_of(commit) is None:
                mirror = await mirrors.fetched(url, 0, secret)
            await mirror.checkout(commit, directory, branch=checkout.branch, url=url)
            return
        except Transient:
            if pause is None:
                raise
            await asyncio.sleep(pause)


def make_empty(folder: Folder) -> None:
    """The same where there is nothing to check out. Blocks."""
    _make(folder)
    folder.workspace.mkdir(0o700)


def _make(folder: Folder) -> None:
    remove_now(folder.path)
    folder.path.mkdir(0o700, parents=True)
    folder.tmp.mkdir()
    folder.tmp.chmod(0o1777)
    folder.home.mkdir(0o700)


def usage(path: Path) -> int:
    """Bytes on the disk at and below a path, as the disk counts them; no link is followed. Blocks."""
    total, waiting = _blocks(path), [str(path)]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _deep_usage(path)
            continue  # a file, gone meanwhile, or made unreadable by its script
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        return _deep_usage(path)
                    continue
                total += found.st_blocks * 512
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
    return total


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def _deep_usage(path: Path) -> int:
    """The same by `du`, which goes down step by step where a whole path is too long for the kernel."""
    told = subprocess.run(
        ["du", "-s", "-B1", "--", path], stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).stdout.split()
    return int(told[0]) if told else 0


async def remove(directory: Path) -> None:
    """Delete a workspace, also one that a script made hard to delete."""
    await asyncio.to_thread(remove_now, directory)


def remove_now(directory: Path) -> None:
    """The same. Blocks."""
    if not os.path.lexists(directory):
        return
    for name in ("workspace", "tmp", "home", ""):  # nothing in them is a common case
        try:
            os.rmdir(f"{directory}/{name}")  # noqa: PTH106  (a hot path)
        except FileNotFoundError:
            continue
        except OSError:
            leftovers.remove([directory])
            return
