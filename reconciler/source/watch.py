"""Watching a local repository: wakes the source pass when a branch may have moved.

Run by the daemon for a local specification repository. It only says "look again" and never reads a ref: a
deleted file may be a packed branch. The directories that hold refs are watched one by one, without recursion,
because one watcher costs half of two and remote-tracking refs are nobody's desired state; when a directory
comes or goes, all are looked for again. The daemon's slow poll is the net below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import watchfiles

from reconciler.source.names import common_dir_of, git_dir_of, local_path

__all__ = ["git_dir_of", "local_path", "watch"]

# watchfiles looks every step and reports one step later: 12 ms cost 0.5 % of a core at rest and 18 ms until a
# wake-up, 1 ms would cost 1.5 % and 2 ms.
_STEP_MS = 12
_DEBOUNCE_MS = 1
_CHECK_MS = 2_000
_TOP = frozenset({"HEAD", "packed-refs", "refs", "reftable", "commondir"})
_REFS = frozenset({"heads", "tags"})
_BELOW = ("refs/heads", "refs/tags")

Identity = frozenset[tuple[str, int, int]]


async def watch(
    git_dir: Path, wake: Callable[[], None], stop: asyncio.Event, *, look_again_seconds: float = 2
) -> None:
    """Call `wake` on the event loop whenever a branch or tag may have changed, until `stop` is set.

    `git_dir` is what `git_dir_of` gives. While it is not there, it is looked for every `look_again_seconds`.
    Wakes once whenever watching begins, so that nothing is missed in between.
    """
    loop, ended = asyncio.get_running_loop(), threading.Event()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="watch")

    def woken() -> None:
        # The loop may have closed while the thread was ending.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    watching = loop.run_in_executor(pool, _watch, git_dir, woken, ended, look_again_seconds)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.set()
        stopping.cancel()
        await asyncio.shield(watching)
        pool.shutdown(wait=False)


def _watch(git_dir: Path, woken: Callable[[], None], ended: threading.Event, look_again: float) -> None:
    """In the thread: one session after another, each over the directories of its time."""
    while not ended.is_set():
        with contextlib.suppress(OSError, RuntimeError):
            identity = _identity(git_dir)
            if identity:
                _session(git_dir, identity, woken, ended)
                continue
        ended.wait(look_again)


def _session(git_dir: Path, directories: Identity, woken: Callable[[], None], ended: threading.Event) -> None:
    """Watch until directories come or go."""
    paths = {path for path, _, _ in directories}
    common = common_dir_of(git_dir)
    names = {str(git_dir): _TOP, str(common): _TOP, str(common / "refs"): _REFS}

    def matters(_: watchfiles.Change, name: str) -> bool:
        path = Path(name)
        return path.suffix != ".lock" and path.name in names.get(str(path.parent), {path.name})

    for changed in watchfiles.watch(
        *paths,
        watch_filter=matters,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        stop_event=_Stop(ended, woken),
        rust_timeout=_CHECK_MS,
        yield_on_timeout=True,
        recursive=False,
    ):
        if changed:
            woken()
        # A directory made anew may get the number of the old one, so its events count as well as its
        # identity.
        renewed = any(path in paths or Path(path).is_dir() for _, path in changed)
        if renewed or ended.is_set() or _identity(git_dir) != directories:
            return


class _Stop:
    """Tells watchfiles when to stop; its first question comes when it has begun to watch, and wakes."""

    def __init__(self, ended: threading.Event, begun: Callable[[], None]) -> None:
        self._ended = ended
        self._begun: Callable[[], None] | None = begun

    def is_set(self) -> bool:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun()
        return self._ended.is_set()


def _identity(git_dir: Path) -> Identity:
    """The directories that hold refs now: path, device and number; none while there is no repository."""
    if not (git_dir / "HEAD").is_file():
        return frozenset()
    common = common_dir_of(git_dir)
    wanted = [git_dir, common, common / "refs", common / "reftable", *_below(common)]
    return frozenset(_numbered(wanted))


def _below(common: Path) -> Iterator[Path]:
    for name in _BELOW:
        for directory, _, _ in os.walk(common / name):
            yield Path(directory)


def _numbered(paths: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        with contextlib.suppress(OSError):
            facts = path.stat()
            if stat.S_ISDIR(facts.st_mode):
                yield str(path), facts.st_dev, facts.st_ino
