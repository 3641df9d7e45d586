"""Due times of schedules that were missed: the last one counts (design 6). Times that a wrong clock has given.

Pure; called by the controllers of whatever waits for its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from reconciler.model.timer import Timer
from specs.schedule import next_due

_SET_BACK = timedelta(hours=3)


def latest_due(
    trigger: Mapping[str, Any], due: datetime, now: datetime, seed: str
) -> tuple[datetime, datetime | None]:
    """The last due time not after now (missed ones run once), and the one to come."""
    candidate, following = due, next_due(trigger, due, seed)
    if following is not None and following <= now:
        probe = now - timedelta(minutes=1)
        while probe > due:
            found = next_due(trigger, probe, seed)
            if found is not None and found <= now:
                candidate = found
                break
            probe -= now - probe
        following = next_due(trigger, candidate, seed)
        while following is not None and following <= now:
            candidate, following = following, next_due(trigger, following, seed)
    return candidate, following


def waits(again_at: datetime | None, now: datetime, longest: timedelta) -> bool:
    """Is it too early for the next try? A time that no delay can have given was written by a clock that was wrong."""
    return again_at is not None and now < again_at <= now + longest


def is_astray(trigger: Mapping[str, Any], stored: Timer, now: datetime, seed: str) -> bool:
    """Was the timer of a schedule written by a clock that was far ahead of this one? It begins anew, or it would wait
    for as long as that was.

    What was due is not due again: a cron time within three hours of the last one, an interval's within one interval.
    """
    if stored.last_due is None:
        coming = next_due(trigger, now, seed)
        return coming is not None and stored.next_due is not None and coming < stored.next_due
    interval = trigger.get("interval_seconds")
    if interval:
        return stored.last_due - now > timedelta(seconds=interval)
    return is_far_ahead(stored.last_due, now)


def is_far_ahead(at: datetime, now: datetime) -> bool:
    """Was a moment that is past written by a clock that was too far ahead for its cron times to count as those of this
    one?
    """
    return at - now > _SET_BACK
