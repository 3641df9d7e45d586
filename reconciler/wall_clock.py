"""How far the wall clock was set, as against the one that nobody sets."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.execution.presence import clock

_NOTICED = 1.0  # seconds; what a clock is adjusted by little by little is less


@dataclass(frozen=True, slots=True)
class Change:
    """By how much it was set. What was stored with a time from `since` to `until` already knew of it."""

    by: timedelta
    since: datetime
    until: datetime


class WallClock:
    """Remembers where it stood; `following` is held by whoever moves stored times after it."""

    def __init__(self) -> None:
        self.following = asyncio.Lock()
        self._ahead = _ahead()
        self._looked = clock()

    def look(self) -> Change | None:
        """Was it set since the last look, or what that found accepted?"""
        by, looked = _ahead() - self._ahead, clock()
        if abs(by) < _NOTICED:
            self._looked = looked
            return None
        now = datetime.fromtimestamp(time.time(), UTC)
        return Change(timedelta(seconds=by), now - timedelta(seconds=looked - self._looked), now)

    def accept(self, change: Change) -> None:
        """What is stored was moved."""
        self._ahead += change.by.total_seconds()


def _ahead() -> float:
    return time.time() - clock()
