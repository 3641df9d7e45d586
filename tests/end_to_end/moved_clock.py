"""`steersman serve` with a wall clock that SIGUSR1 sets back an hour and SIGUSR2 forward; the monotonic one goes on.

Run by test_trouble as the daemon's program. Every module of the product and of its timer that has the class `datetime`
by name gets one whose `now` is moved, and so are `time.time` and `time.time_ns`: Linux has no such clock of a process.
"""

from __future__ import annotations

import datetime as dates
import signal
import sys
import time
from typing import Any

import api.serve  # noqa: F401  (so that all modules are there)
from api.cli import main

_TIME, _TIME_NS = time.time, time.time_ns
_behind = 0


class _Same(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, dates.datetime)


class Moved(dates.datetime, metaclass=_Same):
    """Gives plain datetimes."""

    @classmethod
    def now(cls, tz: dates.tzinfo | None = None) -> Any:
        return dates.datetime.now(tz) - dates.timedelta(seconds=_behind)


def _set(number: int, _frame: Any) -> None:
    global _behind
    _behind += 3600 if number == signal.SIGUSR1 else -3600


def _move() -> None:
    for name, module in list(sys.modules.items()):
        ours = name.partition(".")[0] in ("api", "reconciler", "specs", "apscheduler")
        if ours and getattr(module, "datetime", None) is dates.datetime:
            module.datetime = Moved  # type: ignore[attr-defined]
    time.time = lambda: _TIME() - _behind
    time.time_ns = lambda: _TIME_NS() - _behind * 1_000_000_000
    signal.signal(signal.SIGUSR1, _set)
    signal.signal(signal.SIGUSR2, _set)


if __name__ == "__main__":
    _move()
    main()
