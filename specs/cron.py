"""Cron texts to sets of numbers, with the standard meaning (crontab(5)). Called by specs.schedule only.
Knows no times of a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_ITEM = re.compile(r"(?P<first>\*|[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?(?:/(?P<step>[0-9]+))?", re.ASCII)
_LONGEST = 200


class CronError(ValueError):
    """What is wrong with a cron text, as a sentence after the field's name."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The numbers that each field allows; weekdays are 0 (Sunday) to 6. `either_day`: day or weekday
    suffices.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def allows(self, day: date) -> bool:
        """Is it due at some time of this day?"""
        named, weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (named or weekday if self.either_day else named and weekday)


@dataclass(frozen=True, slots=True)
class _Range:
    label: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_RANGES = (
    _Range("minute", 0, 59),
    _Range("hour", 0, 23),
    _Range("day of month", 1, 31),
    _Range("month", 1, 12, _MONTHS),
    _Range("day of week", 0, 7, _WEEKDAYS),
)


def parse_cron(text: str) -> Fields:
    """The fields of a cron text; raises CronError."""
    parts = _NAMED.get(text.strip().lower(), text).lower().split()
    if len(text) > _LONGEST:
        raise CronError(f"must have at most {_LONGEST} characters")
    if text.strip().startswith("@") and len(parts) == 1:
        raise CronError(f"must be five fields or one of {', '.join(_NAMED)}")
    if len(parts) != len(_RANGES):
        raise CronError(
            f'must be five fields (minute hour day month weekday) such as "15 3 * * 1-5", not {len(parts)}'
        )
    minutes, hours, days, months, weekdays = (
        _field(part, of) for part, of in zip(parts, _RANGES, strict=True)
    )
    # As cron has it: a field that begins with * restricts only together with the other.
    either = not parts[2].startswith("*") and not parts[4].startswith("*")
    if not either and not any(min(days) <= _LONGEST_MONTH.get(month, 31) for month in months):
        raise CronError("never happens: none of its months has such a day")
    return Fields(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either)


def _field(text: str, of: _Range) -> frozenset[int]:
    return frozenset(number for item in text.split(",") for number in _item(item, of))


def _item(text: str, of: _Range) -> range:
    found = _ITEM.fullmatch(text)
    if not found:
        raise CronError(
            f'has a {of.label} "{text}" that is not a number, a range (1-5), a step (*/5) or a list (1,3)'
        )
    step = int(found["step"]) if found["step"] else 1
    if found["first"] == "*":
        if found["last"]:
            raise CronError(f'has a {of.label} "{text}"; a range is written 1-5')
        # Sunday is 7 too, but only where it is written.
        low, high = of.low, 6 if of.names is _WEEKDAYS else of.high
    else:
        low = _number(found["first"], of)
        high = _number(found["last"], of) if found["last"] else low
        if found["step"] and not found["last"]:
            raise CronError(
                f'has a {of.label} "{text}"; a step needs a range: {low}-{min(of.high, 59)}/{step}'
            )
    if high == 0 and low > 0 and of.names is _WEEKDAYS:
        high = 7
    if high < low:
        raise CronError(f'has a {of.label} "{text}" that runs backwards; write two, separated by a comma')
    if not 1 <= step <= of.high:
        raise CronError(f'has a {of.label} "{text}" with a step that is not between 1 and {of.high}')
    return range(low, high + 1, step)


def _number(text: str, of: _Range) -> int:
    if text in of.names:
        return of.names.index(text) + (1 if of.low else 0)
    if not text.isdigit() or not of.low <= int(text) <= of.high:
        names = f" or {of.names[0]} to {of.names[-1]}" if of.names else ""
        raise CronError(f'has a {of.label} "{text}"; it goes from {of.low} to {of.high}{names}')
    return int(text)
