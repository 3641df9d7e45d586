"""When a schedule is due next: cron texts with their standard meaning, and intervals. Pure: the time comes
as an argument.

Called by the build models (checks) and the calendar. APScheduler finds the next wall-clock time; this
module translates cron to it (its own `from_crontab` counts weekdays from Monday, joins day and weekday by
AND, and knows no `@daily`) and wall-clock times to instants (a time that daylight saving skips fires at the
first instant after the gap, a repeated one the first time only).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from specs.cron import CronError, Fields, parse_cron
from specs.nearest import did_you_mean
from specs.syntax import QUOTE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Starts:
    """How often a schedule is due in some time, at least once; the first and the last time, in UTC."""

    first: datetime
    last: datetime
    count: int


def check_cron(text: str) -> str | None:
    """What is wrong with a cron text, as a sentence after the field's name, or None."""
    try:
        parse_cron(text)
    except CronError as error:
        return f"{error}; {QUOTE}" if '"' in text or "'" in text else str(error)
    return None


def check_timezone(name: str) -> str | None:
    """What is wrong with a time zone's name, as a sentence after the field's name, or None."""
    try:
        _zone(name)
    except (ValueError, OSError, KeyError):
        return f'must be a time zone such as Europe/Amsterdam, not "{name}"{_near_zone(name)}'
    return None


def next_due(trigger: Mapping[str, Any], after: datetime, seed: str = "") -> datetime | None:
    """The first due time later than `after`, in UTC; None if there is none.

    `trigger` is a schedule trigger as stored: cron with timezone (UTC if absent), or interval_seconds, and
    jitter_seconds. `seed` (a KEY and the trigger's place, say) decides by how much jitter moves all its due
    times.
    """
    shift = _shift(trigger.get("jitter_seconds") or 0, seed)
    start = after.astimezone(UTC) - shift
    if trigger.get("cron"):
        due = _next_cron(trigger["cron"], trigger.get("timezone") or "UTC", start)
    elif trigger.get("interval_seconds"):
        due = _next_interval(int(trigger["interval_seconds"]), start)
    else:
        due = None
    return None if due is None else due + shift


def starts_within(
    trigger: Mapping[str, Any], begin: datetime, end: datetime, seed: str = ""
) -> Starts | None:
    """All due times from an instant to before another; None if there are none. What `next_due` finds one after the
    other is counted here, so that one that is due each minute costs no more than one that is due each night.
    """
    shift = _shift(trigger.get("jitter_seconds") or 0, seed)
    first, until = begin.astimezone(UTC) - shift, end.astimezone(UTC) - shift
    if trigger.get("cron"):
        found = _cron_within(trigger["cron"], trigger.get("timezone") or "UTC", first, until)
    elif trigger.get("interval_seconds"):
        found = _interval_within(int(trigger["interval_seconds"]), first, until)
    else:
        found = None
    return None if found is None else Starts(found.first + shift, found.last + shift, found.count)


def _interval_within(seconds: int, begin: datetime, end: datetime) -> Starts | None:
    first, step = _next_interval(seconds, begin - _TICK), timedelta(seconds=seconds)
    if first >= end:
        return None
    more = (end - _TICK - first) // step
    return Starts(first, first + more * step, more + 1)


def _cron_within(text: str, timezone: str, begin: datetime, end: datetime) -> Starts | None:
    found: Starts | None = None
    for each in _cron_days(text, _zone(timezone), begin, end):
        if found is None:
            found = each
        else:  # a skipped time may be due when the first one of the next day is
            found = Starts(found.first, each.last, found.count + each.count - (each.first == found.last))
    return found


def _cron_days(text: str, zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[Starts]:
    """Those of each day of the zone, in order; of the day before, what it skips may be due on the next one."""
    fields = _fields(text)
    day, last = begin.astimezone(zone).date() - _DAY, end.astimezone(zone).date()
    while day <= last:
        if fields.allows(day):
            midnight = datetime.combine(day, time(), zone)
            if midnight.utcoffset() == datetime.combine(day + _DAY, time(), zone).utcoffset():
                since = midnight.astimezone(UTC)
                low, high = (bisect_left(_minutes(text), (at - since) / _MINUTE) for at in (begin, end))
                if low < high:
                    times = _minutes(text)
                    yield Starts(since + times[low] * _MINUTE, since + times[high - 1] * _MINUTE, high - low)
            else:
                due = [at for at in _uneven(text, zone, day) if begin <= at < end]
                if due:
                    yield Starts(due[0], due[-1], len(due))
        day += _DAY


@lru_cache(maxsize=1024)
def _uneven(text: str, zone: ZoneInfo, day: date) -> Sequence[datetime]:
    """The due times of a day on which the zone's offset changes."""
    midnight = datetime.combine(day, time())
    return sorted({_instant(midnight + minute * _MINUTE, zone) for minute in _minutes(text)})


@lru_cache(maxsize=4096)
def _fields(text: str) -> Fields:
    return parse_cron(text)


@lru_cache(maxsize=4096)
def _minutes(text: str) -> Sequence[int]:
    """The minutes of a day at which it is due."""
    fields = _fields(text)
    return sorted(60 * hour + minute for hour in fields.hours for minute in fields.minutes)


def _shift(jitter_seconds: int, seed: str) -> timedelta:
    if jitter_seconds <= 0:
        return timedelta(0)
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    return timedelta(seconds=number % (jitter_seconds + 1))


def _next_interval(seconds: int, after: datetime) -> datetime:
    step = timedelta(seconds=seconds)
    return _EPOCH + ((after - _EPOCH) // step + 1) * step


def _next_cron(text: str, timezone: str, after: datetime) -> datetime | None:
    zone, trigger = _zone(timezone), _trigger(text)
    # Wall-clock times are handed to APScheduler as if they were UTC, which has no gaps.
    wall = after.astimezone(zone).replace(tzinfo=UTC, fold=0, microsecond=0)
    while True:
        wall = trigger.get_next_fire_time(None, wall + _SECOND)
        if wall is None:
            return None
        due = _instant(wall.replace(tzinfo=None), zone)
        if due > after:
            return due


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    """The instant of a wall-clock time: its first one; the end of the gap where it does not exist."""
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
        return early
    return _gap_end(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), early, zone)


def _gap_end(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The instant between two, to the second, at which the zone's offset changes."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


@lru_cache(maxsize=4096)
def _trigger(text: str) -> CronTrigger | OrTrigger:
    fields = parse_cron(text)
    if fields.either_day:
        return OrTrigger([_cron_trigger(fields, weekdays=None), _cron_trigger(fields, days=None)])
    return _cron_trigger(fields)


def _cron_trigger(fields: Fields, **without: None) -> CronTrigger:
    days = None if "days" in without else fields.days
    weekdays = None if "weekdays" in without else fields.weekdays
    return CronTrigger(
        month=_listed(fields.months),
        day=_listed(days),
        # APScheduler counts weekdays from Monday, cron from Sunday.
        day_of_week=_listed(None if weekdays is None else frozenset((day - 1) % 7 for day in weekdays)),
        hour=_listed(fields.hours),
        minute=_listed(fields.minutes),
        second=0,
        timezone=UTC,
    )


def _listed(values: frozenset[int] | None) -> str:
    return "*" if values is None else ",".join(str(value) for value in sorted(values))


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _near_zone(name: str) -> str:
    common = ("UTC", "Europe/Amsterdam", "Europe/Berlin", "Europe/London", "Europe/Paris", "Europe/Zurich")
    more = (
        "America/New_York",
        "America/Los_Angeles",
        "America/Chicago",
        "Asia/Tokyo",
        "Asia/Kolkata",
        "Australia/Sydney",
    )
    return did_you_mean(name, (*common, *more))
