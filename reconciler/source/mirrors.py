"""The daemon's mirrors of code repositories, opened when first asked for.

One for each URL and each Secret that it is fetched with: what one project's key may read is never shown to another
project that only names the same URL.

Held by the daemon; asked by the passes for heads and by the workers for checkouts. Callers that want the same
mirror, or the same fetch, at the same time share one. Never fetches by itself: who wants fresh refs says how
old they may be.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.source.git import Mirror
from reconciler.source.names import host_of
from reconciler.source.secrets import PrivateKey
from reconciler.source.values import Credentials

_Place = tuple[str, str | None]


class _Slot:
    """One mirror: being opened or open, when it was last fetched, the fetch that runs."""

    def __init__(self, opening: asyncio.Task[Mirror]) -> None:
        self.opening = opening
        self.fetching: asyncio.Task[None] | None = None
        self.fetched_at: float | None = None
        self.poked = False

    def fresh(self, max_age_seconds: float, now: float) -> bool:
        at = self.fetched_at
        return not self.poked and at is not None and now - at <= max_age_seconds


class Mirrors:
    """Mirrors by URL and the KEY of a Secret (None: the server's own credentials), below one directory."""

    def __init__(
        self,
        directory: Path,
        credentials: Mapping[str, Credentials],
        open_key: Callable[[str], bytes],
        *,
        awake_at_most: int = 16,
        timeout_seconds: float = 120,
    ) -> None:
        """`credentials` are by host; `open_key` gives the SSH key of a Secret, by KEY, or raises Stalled;
        `awake_at_most` mirrors keep processes between calls.
        """
        self._directory = directory
        self._credentials = credentials
        self._open_key = open_key
        self._awake_at_most = awake_at_most
        self._timeout_seconds = timeout_seconds
        self._slots: dict[_Place, _Slot] = {}
        self._resting: set[asyncio.Task[None]] = set()

    async def get(self, url: str, secret: str | None = None) -> Mirror:
        """The mirror of the URL, as it is; Stalled for a URL that may not be used."""
        return await self._opened(self._slot((url, secret)))

    async def fetched(
        self,
        url: str,
        max_age_seconds: float,
        secret: str | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> Mirror:
        """The mirror of the URL, fetched within `max_age_seconds` (counted from the start of that fetch).

        Callers that come while a fetch runs wait for it; after a `poke` that came later, a second one
        follows. Errors of the fetch reach all who wait for it.
        """
        slot = self._slot((url, secret))
        mirror = await self._opened(slot)
        if slot.fetching is None and slot.fresh(max_age_seconds, now()):
            return mirror
        while True:
            if slot.fetching is None:
                slot.fetching = asyncio.create_task(self._fetch(slot, mirror, now()))
                slot.fetching.add_done_callback(_retrieve)
            await asyncio.shield(slot.fetching)
            if not slot.poked:
                return mirror

    def poke(self, url: str, secret: str | None = None) -> None:
        """Something happened there: the next `fetched` really fetches."""
        if (slot := self._slots.get((url, secret))) is not None:
            slot.poked = True

    async def close(self) -> None:
        """End all mirrors' processes."""
        slots, self._slots = list(self._slots.values()), {}
        running = [task for slot in slots for task in (slot.opening, slot.fetching) if task is not None]
        for slot in slots:
            if slot.opening.done() and not slot.opening.cancelled() and slot.opening.exception() is None:
                await slot.opening.result().close()
            slot.opening.cancel()
        await asyncio.gather(*running, *self._resting, return_exceptions=True)

    def _slot(self, place: _Place) -> _Slot:
        """The slot of a mirror, moved to the end: the first ones are those not used for longest."""
        slot = self._slots.pop(place, None)
        if slot is None:
            slot = _Slot(asyncio.create_task(self._open(place)))
            slot.opening.add_done_callback(_retrieve)
        self._slots[place] = slot
        self._let_rest()
        return slot

    async def _open(self, place: _Place) -> Mirror:
        url, secret = place
        try:
            return await Mirror.open(
                url,
                self._directory / _folder(place),
                credentials=self._credentials.get(host_of(url)) if secret is None else None,
                private_key=None if secret is None else PrivateKey(secret, self._open_key),
                timeout_seconds=self._timeout_seconds,
            )
        except BaseException:
            # The next caller tries again.
            self._slots.pop(place, None)
            raise

    async def _opened(self, slot: _Slot) -> Mirror:
        return await asyncio.shield(slot.opening)

    async def _fetch(self, slot: _Slot, mirror: Mirror, started: float) -> None:
        slot.poked = False
        try:
            await mirror.fetch()
            slot.fetched_at = started
        except BaseException:
            slot.poked = True
            raise
        finally:
            slot.fetching = None

    def _let_rest(self) -> None:
        """End the processes of the mirrors that were not used for longest."""
        opened = [slot.opening for slot in self._slots.values() if slot.opening.done()]
        mirrors = [task.result() for task in opened if not task.cancelled() and task.exception() is None]
        awake = [mirror for mirror in mirrors if mirror.awake]
        for mirror in awake[: max(0, len(awake) - self._awake_at_most)]:
            task = asyncio.create_task(mirror.rest())
            self._resting.add(task)
            task.add_done_callback(self._resting.discard)


def _folder(place: _Place) -> str:
    """The name of a mirror's folder; of one without a Secret, a digest of its URL alone."""
    named = "\0".join(part for part in place if part is not None)
    return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _retrieve(task: asyncio.Task[Mirror] | asyncio.Task[None]) -> None:
    """Look at the error, so that one nobody waited for is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
