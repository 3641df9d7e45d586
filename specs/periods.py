"""When a rule of days and times holds: now, until when, and where in a stretch of time (sqedule, 7.4; Freeze).

Called by whoever judges schedule rules and freezes and by the calendar, all with the five parts of `specs.windows`.
Everything is compared on the wall clock of the rule's zone: a time that is repeated holds both times, one that is
skipped never. A time of the day later than its end goes on into the next day, and belongs to the day it begins. Knows
no clock: each instant is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from heapq import merge
from typing import Any

from specs import windows

_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_ONE = timedelta(seconds=1)
_MIDNIGHT = timedelta(0)
_YEARS = 50
_LASTING = timedelta(days=2 * 366)
_LAST = date(9990, 1, 1)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_FIRST_DAY, _DAYS = date(2001, 1, 1), 28 * 366
"""A stretch in which every day of the year falls on every weekday."""

Span = tuple[datetime, datetime]


def holds(rule: Mapping[str, Any], at: datetime, zone: tzinfo) -> bool:
    """Does a rule hold at an instant? ValueError where a part cannot be read."""
    read = _of(rule)
    wall = at.astimezone(zone)
    day, elapsed = wall.date(), _since_midnight(wall)
    return any(
        read.matches(begins) and start <= elapsed + (day - begins) < end
        for begins in (day, day - _DAY)
        for start, end in [(read.start, read.end)]
    )


def next_change(rule: Mapping[str, Any], after: datetime, zone: tzinfo) -> datetime | None:
    """The first instant later than `after` at which it holds no longer, or holds again; None: not in fifty years."""
    start = after.astimezone(UTC)
    within = holds(rule, start, zone)
    for begin, end in _merged(_of(rule), start, _horizon(start), zone):
        if not within:
            return begin
        if begin <= start:
            return end if end < _horizon(start) else None
    return None


def lasts(rules: Sequence[tuple[Mapping[str, Any], tzinfo]], at: datetime) -> datetime | None:
    """Until when one or another of them holds, from an instant on without a gap; that instant: none holds then.

    None: there is no end within two years.
    """
    start = at.astimezone(UTC)
    if not any(holds(rule, start, zone) for rule, zone in rules):
        return start
    horizon = min(start + _LASTING, datetime.combine(_LAST, time(), UTC))
    found = merge(*(_merged(_of(rule), start, horizon, zone) for rule, zone in rules))
    _, end = next(joined(found))
    return end if end < horizon else None


def happens(rule: Mapping[str, Any]) -> bool:
    """Is there a day in any year on which it holds?"""
    read = _of(rule)
    days = read.days if read.days is not None else {1}
    months = read.months if read.months is not None else {1}
    return read.weekdays != frozenset() and any(
        day <= _LONGEST_MONTH.get(month, 31) for day in days for month in months
    )


def leave_out(rules: Iterable[Mapping[str, Any]]) -> bool:
    """Is there a time at which none of these holds, all of one time zone?"""
    read = [_of(rule) for rule in rules]
    return not any(rule.always for rule in read) and any(
        not _fills(read, _FIRST_DAY + count * _DAY) for count in range(_DAYS)
    )


def _fills(rules: Iterable[_Rule], day: date) -> bool:
    """Does one or another of them hold at all times of a day?"""
    found = [(rule.start, rule.end) for rule in rules if rule.matches(day)]
    found += [(_MIDNIGHT, rule.end - _DAY) for rule in rules if rule.end > _DAY and rule.matches(day - _DAY)]
    filled = _MIDNIGHT
    for begin, end in sorted(found):
        if begin <= filled:
            filled = max(filled, end)
    return filled >= _DAY


def spans(rule: Mapping[str, Any], start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """Where it holds from one instant to another, in order, for people: each begins and ends as the rule says it."""
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    for begin, until in _merged(_of(rule), first, last, zone):
        yield begin, until.replace(microsecond=0) if until.microsecond == 1 and until < last else until


def joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Those that touch each other as one; they come by their beginning."""
    last: Span | None = None
    for begin, until in spans:
        if last is not None and begin <= last[1]:
            last = last[0], max(until, last[1])
            continue
        if last is not None:
            yield last
        last = begin, until
    if last is not None:
        yield last


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule, read: days that match (None: all), and on each the stretch from `start` to before `end`."""

    weekdays: frozenset[int] | None
    days: frozenset[int] | None
    months: frozenset[int] | None
    start: timedelta
    end: timedelta

    @property
    def always(self) -> bool:
        """Is there nothing that it leaves out?"""
        whole = self.start == _MIDNIGHT and self.end == _DAY
        return whole and self.weekdays is None and self.days is None and self.months is None

    def matches(self, day: date) -> bool:
        """Does it hold at some time of this day, which begins on it?"""
        return (
            (self.months is None or day.month in self.months)
            and (self.days is None or day.day in self.days)
            and (self.weekdays is None or day.isoweekday() in self.weekdays)
        )

    def next_match(self, day: date, last: date) -> date | None:
        """The first day that matches, from this one to the last."""
        while day <= last:
            if self.months is not None and day.month not in self.months:
                day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
            elif self.matches(day):
                return day
            else:
                day += _DAY
        return None


def _of(rule: Mapping[str, Any]) -> _Rule:
    return _read(*(rule.get(part) for part in windows.PARTS))


@lru_cache(maxsize=4096)
def _read(
    begin: str | None, end: str | None, weekdays: str | None, days: str | None, months: str | None
) -> _Rule:
    if (begin is None) != (end is None):
        raise ValueError("begin_time and end_time need each other")
    return _Rule(
        _some(None if weekdays is None else windows.weekdays(weekdays), 7),
        _some(None if days is None else windows.days_of_month(days) - {0}, 31),
        _some(None if months is None else windows.months(months), 12),
        *_times(begin, end),
    )


def _some(found: frozenset[int] | None, most: int) -> frozenset[int] | None:
    """Numbers, or None where all there can be are listed."""
    return None if found is None or len(found) == most else found


def _times(begin: str | None, end: str | None) -> tuple[timedelta, timedelta]:
    """When it begins, and the first moment after its end, both from the midnight of the day it begins on."""
    if begin is None or end is None:
        return _MIDNIGHT, _DAY
    start, last = (timedelta(seconds=windows.second_of_day(text)) for text in (begin, end))
    if start > last:
        return start, last + _DAY + _TICK
    return start, min(last + _TICK, _DAY)


def _since_midnight(wall: datetime) -> timedelta:
    return wall.replace(tzinfo=None) - datetime.combine(wall.date(), time())


def _horizon(start: datetime) -> datetime:
    day = min(start.date() + _YEARS * 366 * _DAY, _LAST)
    return datetime.combine(day, time(), UTC)


def _merged(rule: _Rule, start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """Where it holds, those that touch each other as one."""
    if rule.always:
        if start < end:
            yield start, end
        return
    yield from joined(_pieces(rule, start, end, zone))


def _pieces(rule: _Rule, start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """The same in pieces, a day of UTC after the other; the zone is asked only about days near those that match."""
    day, last = start.date(), end.date()
    while day <= last:
        # the wall clock is less than a day off, and what began the day before may go on
        near = rule.next_match(day - 2 * _DAY, last + _DAY)
        if near is None:
            return
        if near - _DAY > day:
            day = near - _DAY
            continue
        midnight = datetime.combine(day, time(), UTC)
        for first, until in _even(max(start, midnight), min(end, midnight + _DAY), zone):
            yield from _of_stretch(rule, first, until, zone)
        day += _DAY


def _of_stretch(rule: _Rule, start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """Where it holds in a stretch in which the zone's offset does not change."""
    offset = _offset(start, zone)
    first, until = ((at + offset).replace(tzinfo=None) for at in (start, end))
    day = first.date() - _DAY
    while day <= until.date():
        if rule.matches(day):
            midnight = datetime.combine(day, time())
            begin, stop = max(first, midnight + rule.start), min(until, midnight + rule.end)
            if begin < stop:
                yield (begin - offset).replace(tzinfo=UTC), (stop - offset).replace(tzinfo=UTC)
        day += _DAY


def _even(start: datetime, end: datetime, zone: tzinfo) -> Iterator[Span]:
    """A stretch, cut where the zone's offset changes."""
    while start < end:
        until, offset = end, _offset(start, zone)
        if _offset(end, zone) != offset:
            before, until = start, end
            while until - before > _ONE:
                middle = before + timedelta(seconds=(until - before) // _ONE // 2)
                if _offset(middle, zone) == offset:
                    before = middle
                else:
                    until = middle
            until = min(end, until.replace(microsecond=0))  # offsets change at whole seconds
        yield start, until
        start = until


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or _MIDNIGHT
