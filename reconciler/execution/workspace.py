"""The folder in which a trial works: a clean checkout of its job's commit, or nothing at all.

Called by `reconciler.execution.run`; it never starts a script.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from reconciler.errors import SteersmanError, Transient
from reconciler.execution import leftovers
from reconciler.model.job import Checkout, Reason
from reconciler.source.git import UnknownCommit
from reconciler.source.mirrors import Mirrors

_PAUSES = (1.0, 5.0, 20.0)


class WorkspaceError(SteersmanError):
    """The workspace cannot be made; `reason` is a `Reason` of the model."""


async def prepare(directory: Path, checkout: Checkout, mirrors: Mirrors) -> None:
    """Make the workspace anew; what an interrupted attempt left is removed first."""
    await remove(directory)
    if checkout.url is None or checkout.commit is None:
        await asyncio.to_thread(directory.mkdir, 0o700, True)
        return
    try:
        await _steadily(directory, checkout.url, checkout.commit, checkout.branch, mirrors)
    except UnknownCommit as error:
        message = f"commit {checkout.commit} is no longer in {checkout.url}"
        raise WorkspaceError(Reason.COMMIT_GONE, message) from error
    except SteersmanError as error:
        raise WorkspaceError(Reason.CHECKOUT_FAILED, str(error)) from error


async def _steadily(directory: Path, url: str, commit: str, branch: str | None, mirrors: Mirrors) -> None:
    """Check out, and again after a pause where the repository only failed to answer."""
    for pause in (*_PAUSES, None):
        try:
            mirror = await mirrors.get(url)
            if await mirror.tree_of(commit) is None:
                mirror = await mirrors.fetched(url, 0)
            await mirror.checkout(commit, directory, branch=branch, url=url)
            return
        except Transient:
            if pause is None:
                raise
            await asyncio.sleep(pause)


async def remove(directory: Path) -> None:
    """Delete a workspace, also one that a script made hard to delete."""
    await asyncio.to_thread(_remove, directory)


def _remove(directory: Path) -> None:
    try:
        directory.rmdir()  # nothing there, or nothing in it, is the common case
    except FileNotFoundError:
        return
    except OSError:
        leftovers.remove([directory])
