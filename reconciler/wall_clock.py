"""How far the wall clock was set, as against the one that nobody sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
    """Remembers where it stood; `following` is held by whoever moves stored times after it.

    `steady`: the clock to compare with, in seconds; the default also goes on while the machine is suspended.
    """

    def __init__(self, steady: Callable[[], float] = clock) -> None:
        self.following = asyncio.Lock()
        self._steady = steady
        self._ahead = self._now_ahead()
        self._looked = steady()

    def look(self) -> Change | None:
        """Was it set since the last look, or what that found accepted?"""
        by, looked = self._now_ahead() - self._ahead, self._steady()
        if abs(by) < _NOTICED:
            self._looked = looked
            return None
        now = datetime.fromtimestamp(time.time(), UTC)
        return Change(timedelta(seconds=by), now - timedelta(seconds=looked - self._looked), now)

    def accept(self, change: Change) -> None:
        """What depends on it was moved."""
        self._ahead += change.by.total_seconds()

    def _now_ahead(self) -> float:
        return time.time() - self._steady()
