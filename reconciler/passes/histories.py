"""Keeps what the store knows of a Repository's history up with its mirror (cider-ci 2.7, 4.2).

Called by the pass of a Repository. All is done in bounded transactions, and in an order in which a kill leaves nothing
that the next look does not end: new commits first, then the heads, then what no branch leads to any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from reconciler.installation import Installation
from reconciler.model.history import Branch, Commit
from reconciler.source.git import Mirror
from reconciler.store import history
from reconciler.store.database import Connection, Write


async def catch_up(installation: Installation, repository: str, mirror: Mirror, *, thorough: bool) -> None:
    """Bring it up to the mirror's branches. `thorough`: also where no head has moved, what a kill has left."""
    heads = await heads_of(mirror)
    known, loose = await installation.database.read(partial(_known, repository, heads, thorough))
    before = {name: branch.commit for name, branch in known.items()}
    if heads == before and not loose:
        return
    old, new = set(before.values()), set(heads.values())
    if await mirror.known(old | loose) == old | loose:
        await _add(installation, repository, mirror, new, old)
        gone = await _ids(mirror, old | loose, new)
    else:  # the mirror was made anew, and what was there before has been forced away
        gone = await _rebuild(installation, repository, mirror, new)
    await installation.database.write(partial(_move, repository, heads, gone[: history.AT_ONCE]))
    for start in range(history.AT_ONCE, len(gone), history.AT_ONCE):
        some = gone[start : start + history.AT_ONCE]
        await installation.database.write(partial(_remove, repository, some))


async def let_go(installation: Installation, repository: str) -> None:
    """Forget everything of a Repository whose history is not wanted any more."""
    if await installation.database.read(lambda c: history.is_known(c, repository)):
        while await installation.database.write(lambda w: history.forget(w.connection, repository)):
            pass


async def heads_of(mirror: Mirror) -> dict[str, str]:
    """Branch → commit, of those whose name is text: bytes that are none cannot be stored."""
    heads = await mirror.heads()
    return {
        name: commit for name, commit in heads.items() if not any("\ud800" <= c <= "\udfff" for c in name)
    }


def _known(
    repository: str, heads: Mapping[str, str], thorough: bool, connection: Connection
) -> tuple[dict[str, Branch], set[str]]:
    """The branches, and commits that somebody was killed at; these are sought where anything is done at all."""
    branches = history.of_repository(connection, repository)
    moved = heads != {name: branch.commit for name, branch in branches.items()}
    return branches, set(history.loose(connection, repository)) if moved or thorough else set()


async def _add(
    installation: Installation,
    repository: str,
    mirror: Mirror,
    heads: Collection[str],
    known: Collection[str],
) -> None:
    async with aclosing(mirror.history(heads, known, portion=history.AT_ONCE)) as commits:
        async for some in commits:
            await installation.database.write(partial(_insert, repository, some))


async def _ids(mirror: Mirror, heads: Collection[str], without: Collection[str]) -> list[str]:
    async with aclosing(mirror.history(heads, without)) as commits:
        return [commit.id async for some in commits for commit in some]


async def _rebuild(
    installation: Installation, repository: str, mirror: Mirror, heads: Collection[str]
) -> list[str]:
    """Add what is missing, whatever is known; gives the commits that no branch leads to."""
    stored = await installation.database.read(lambda c: history.ids(c, repository))
    gone = set(stored)
    async with aclosing(mirror.history(heads, portion=history.AT_ONCE)) as commits:
        async for some in commits:
            gone.difference_update(commit.id for commit in some)
            missing = [commit for commit in some if commit.id not in stored]
            if missing:
                await installation.database.write(partial(_insert, repository, missing))
    return sorted(gone)


def _insert(repository: str, commits: Sequence[Commit], write: Write) -> None:
    history.add(write, repository, commits)


def _move(repository: str, heads: Mapping[str, str], gone: Collection[str], write: Write) -> None:
    history.move(write, repository, heads)
    history.remove(write.connection, repository, gone)


def _remove(repository: str, gone: Collection[str], write: Write) -> None:
    history.remove(write.connection, repository, gone)
