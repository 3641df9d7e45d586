"""The parts of a rule that says when (sqedule, 7.4): times of the day, days of the week and of the month,
months. A rule holds where all parts that it has hold.

Called by the models whose rules have these parts. Never knows a date; the time zone is the rule's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import AfterValidator

from specs.model import SpecFault, Steps

_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2}))?", re.ASCII)
_HIGHEST = (24, 60, 60)
_DAY = 24 * 3600
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip

SUNDAY = 7


def second_of_day(text: str) -> int:
    """The second of the day that `H:M` or `H:M:S` means, up to 86,400; ValueError with a sentence."""
    found = _TIME.fullmatch(text)
    numbers = [int(number or 0) for number in found.groups()] if found else []
    if not found or any(number > highest for number, highest in zip(numbers, _HIGHEST, strict=True)):
        raise ValueError(f'must be a time of the day such as "09:00", not "{text[:20]}"')
    seconds = numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    if seconds > _DAY:
        raise ValueError('must not be later than "24:00"')
    return seconds


def weekdays(text: str) -> frozenset[int]:
    """The weekdays that words mean, Monday 1 to Sunday 7; ValueError with a sentence."""
    numbers = {"0": SUNDAY} | {str(day): day for day in range(1, SUNDAY + 1)}
    return _words(text, numbers | _names(_WEEKDAYS), 'days such as "mon tue"')


def days_of_month(text: str) -> frozenset[int]:
    """The days of the month that numbers mean; ValueError with a sentence."""
    return _words(text, {str(day): day for day in range(32)}, 'days such as "1 15"')


def months(text: str) -> frozenset[int]:
    """The months that words mean, 1 to 12; ValueError with a sentence."""
    numbers = {str(month): month for month in range(1, 13)}
    return _words(text, numbers | _names(_MONTHS), 'months such as "jan feb"')


def _names(names: tuple[str, ...]) -> dict[str, int]:
    return {word: at for at, name in enumerate(names, 1) for word in (name, name[:3])}


def _words(text: str, known: Mapping[str, int], example: str) -> frozenset[int]:
    words = [word for word in text.lower().split(" ") if word]
    for word in words:
        if word not in known:
            raise ValueError(f'must be {example}, parted by spaces; "{word[:20]}" is none')
    return frozenset(known[word] for word in words)


def _checked(read: Callable[[str], object]) -> AfterValidator:
    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


A_TIME = _checked(second_of_day)
WEEKDAYS = _checked(weekdays)
DAYS_OF_MONTH = _checked(days_of_month)
MONTHS = _checked(months)

PARTS = ("begin_time", "end_time", "days_of_week", "days_of_month", "months_of_year")


def check(where: Steps, rule: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults between the parts of a rule."""
    for field, other in (("begin_time", "end_time"), ("end_time", "begin_time")):
        if rule[field] is not None and rule[other] is None:
            yield (*where, field), f"{field} needs {other} beside it"
