"""When rules of days and times hold: the edges one by one, and any rule against a model that looks at each minute."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.periods import happens, holds, leave_out, next_change, spans

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
OFFICE = {"begin_time": "09:00", "end_time": "18:00"}
NIGHT = {"begin_time": "22:00", "end_time": "6:00", "days_of_week": "fri"}
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def at(text: str, zone: Any = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("rule", "when", "expected"),
    [
        (OFFICE, "2031-04-09T18:00:00.000000", True),
        (OFFICE, "2031-04-09T18:00:00.000001", False),
        (OFFICE, "2031-04-09T08:59:59.999999", False),
        (OFFICE, "2031-04-09T09:00:00.000000", True),
        ({"begin_time": "16:00", "end_time": "24:00"}, "2031-04-09T23:59:59.999999", True),
        ({"begin_time": "16:00", "end_time": "24:00"}, "2031-04-10T00:00:00", False),
        ({"begin_time": "9:60", "end_time": "10:00:60"}, "2031-04-09T10:01:00", True),
        ({"begin_time": "12:00", "end_time": "12:00"}, "2031-04-09T12:00:00", True),
        ({"begin_time": "12:00", "end_time": "12:00"}, "2031-04-09T12:00:00.000001", False),
        ({"begin_time": "24:00", "end_time": "24:00"}, "2031-04-09T00:00:00", False),
        ({}, "2031-04-09T00:00:00", True),
        ({"days_of_week": "  Mon   FRIDAY 0 "}, "2031-04-07T12:00", True),
        ({"days_of_week": "  Mon   FRIDAY 0 "}, "2031-04-11T12:00", True),
        ({"days_of_week": "  Mon   FRIDAY 0 "}, "2031-04-13T12:00", True),
        ({"days_of_week": "  Mon   FRIDAY 0 "}, "2031-04-12T12:00", False),
        ({"days_of_week": ""}, "2031-04-09T12:00", False),
        ({"days_of_month": "0"}, "2031-04-09T12:00", False),
        ({"days_of_month": "9", "months_of_year": "April"}, "2031-04-09T12:00", True),
        (NIGHT, "2031-04-11T21:59:59.999999", False),
        (NIGHT, "2031-04-11T22:00:00", True),
        (NIGHT, "2031-04-12T06:00:00", True),  # the night belongs to the Friday that it begins on
        (NIGHT, "2031-04-12T06:00:00.000001", False),
        (NIGHT, "2031-04-11T03:00:00", False),
        (NIGHT, "2031-04-12T22:00:00", False),
    ],
)
def test_the_edges_of_a_rule(rule: dict[str, str], when: str, expected: bool) -> None:
    assert holds(rule, at(when), UTC) is expected


def test_a_repeated_time_holds_twice_and_a_skipped_one_never() -> None:
    rule = {"begin_time": "02:15", "end_time": "02:45"}
    autumn, spring = at("2030-10-27T00:00"), at("2030-03-31T00:00")
    assert list(spans(rule, autumn, autumn + timedelta(hours=6), AMSTERDAM)) == [
        (at("2030-10-27T00:15"), at("2030-10-27T00:45")),
        (at("2030-10-27T01:15"), at("2030-10-27T01:45")),
    ]
    assert list(spans(rule, spring, spring + timedelta(hours=12), AMSTERDAM)) == []
    assert next_change(rule, spring, AMSTERDAM) == at("2030-04-01T00:15")


def test_changes_come_at_the_beginning_and_right_after_the_end() -> None:
    assert next_change(OFFICE, at("2031-04-09T08:00"), UTC) == at("2031-04-09T09:00")
    assert next_change(OFFICE, at("2031-04-09T09:00"), UTC) == at("2031-04-09T18:00") + TICK
    weekend = {"days_of_week": "sat sun"}
    assert next_change(weekend, at("2031-04-12T09:00"), UTC) == at("2031-04-14T00:00")
    assert list(spans(weekend, at("2031-04-09T00:00"), at("2031-04-13T12:00"), UTC)) == [
        (at("2031-04-12T00:00"), at("2031-04-13T12:00"))
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"begin_time": "0:00", "end_time": "24:00", "days_of_week": "1 2 3 4 5 6 7"},
        {"days_of_week": ""},
        {"days_of_month": "0"},
        {"days_of_month": "30", "months_of_year": "feb"},
    ],
)
def test_what_always_or_never_holds_does_not_change(rule: dict[str, str]) -> None:
    assert next_change(rule, at("2031-04-09T12:00"), AMSTERDAM) is None


def test_a_rare_day_is_found_without_looking_at_each_hour() -> None:
    rule = {"days_of_month": "29", "months_of_year": "feb", "days_of_week": "mon"}
    begun = time.process_time()
    found = next_change(rule, at("2045-03-01T00:00"), AMSTERDAM)
    assert time.process_time() - begun < 0.2
    assert found == at("2072-02-29T00:00", AMSTERDAM)


def test_a_part_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="days such as"):
        holds({"days_of_week": "mon,fri"}, at("2031-04-09T12:00"), UTC)


def model(rule: Mapping[str, Any], when: datetime, zone: ZoneInfo) -> bool:
    """The same, word by word: no day is known but this one and the one before."""
    wall = when.astimezone(zone)
    now = wall.strftime("%H:%M")
    begin, end = rule["begin_time"] or "00:00", rule["end_time"] or "24:00"
    if begin <= end:
        return begin <= now <= end and _on(rule, wall.date())
    return (now >= begin and _on(rule, wall.date())) or (
        now <= end and _on(rule, wall.date() - timedelta(days=1))
    )


def _on(rule: Mapping[str, Any], day: date) -> bool:
    wanted = {
        "days_of_week": DAYS[day.weekday()],
        "days_of_month": str(day.day),
        "months_of_year": str(day.month),
    }
    return all(rule[part] is None or word in rule[part].split() for part, word in wanted.items())


CLOCK = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
TIMES = st.none() | st.tuples(CLOCK, CLOCK | st.just("24:00"))
TURNS = [  # where offsets change: by an hour, by half of one, by a whole day
    ("Europe/Amsterdam", "2030-03-31"),
    ("Europe/Amsterdam", "2030-10-27"),
    ("America/New_York", "2030-03-10"),
    ("America/New_York", "2030-11-03"),
    ("Australia/Lord_Howe", "2030-04-07"),
    ("Australia/Lord_Howe", "2030-10-06"),
    ("Africa/Casablanca", "2030-02-03"),
    ("America/St_Johns", "2006-10-29"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Kiritimati", "2030-01-01"),
    ("Asia/Kathmandu", "2030-01-01"),
]


@st.composite
def rules(draw: st.DrawFn, day: date) -> dict[str, Any]:
    """Rules that have something to do with a day."""
    near = [day + timedelta(days=shift) for shift in (-2, -1, 0, 1, 2)]

    def some(words: list[str]) -> Any:
        return draw(st.none() | st.lists(st.sampled_from(words), max_size=3).map(" ".join))

    begin, end = draw(TIMES) or (None, None)
    return {
        "begin_time": begin,
        "end_time": end,
        "days_of_week": some([DAYS[each.weekday()] for each in near]),
        "days_of_month": some([str(each.day) for each in near]),
        "months_of_year": some([str(each.month) for each in near]),
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data(), turn=st.sampled_from(TURNS))
def test_any_rule_agrees_with_the_model_minute_by_minute(data: st.DataObject, turn: tuple[str, str]) -> None:
    zone, day = ZoneInfo(turn[0]), date.fromisoformat(turn[1])
    rule = data.draw(rules(day))
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(
        days=1, minutes=data.draw(st.integers(0, 90))
    )
    end = start + timedelta(days=2)
    minutes = [start + each * MINUTE for each in range(2 * 24 * 60)]
    expected = [model(rule, each, zone) for each in minutes]
    assert [holds(rule, each, zone) for each in minutes] == expected

    changes = []
    change = next_change(rule, start, zone)
    while change is not None and change < end:
        assert holds(rule, change, zone) is not holds(rule, change - TICK, zone)
        changes.append(change)
        change = next_change(rule, change, zone)
    told, state = [], expected[0]
    for each in minutes:
        while changes and changes[0] <= each:
            del changes[0]
            state = not state
        told.append(state)
    assert told == expected

    where = list(spans(rule, start, end, zone))
    inside = [any(first <= each <= last for first, last in where) for each in minutes]
    edges = {last for _, last in where}
    assert [i for i, each in enumerate(minutes) if inside[i] != expected[i] and each not in edges] == []


@given(some=st.lists(rules(date(2031, 4, 9)), min_size=1, max_size=3))
def test_what_leaves_no_time_out_holds_at_all_times(some: list[dict[str, Any]]) -> None:
    """Looked at where all of them begin and end, and right beside that."""
    moments = [
        at("2031-04-07T00:00") + timedelta(hours=quarter / 4) + shift
        for quarter in range(4 * 24 * 7)
        for shift in (TICK, timedelta(0), -TICK)
    ]
    if not leave_out(some):
        assert all(any(holds(rule, each, UTC) for rule in some) for each in moments)
    for rule in some:
        assert happens(rule) or not any(holds(rule, each, UTC) for each in moments)


def test_a_rare_gap_between_rules_is_found() -> None:
    most = [{"days_of_month": " ".join(map(str, range(1, 29)))}, {"days_of_month": "30 31"}]
    but_mondays = {"days_of_month": "29", "days_of_week": "sun tue wed thu fri sat"}
    others = {"days_of_month": "29", "months_of_year": "1 3 4 5 6 7 8 9 10 11 12"}
    assert leave_out([*most, but_mondays, others])
    assert not leave_out([*most, but_mondays, others, {"days_of_week": "mon"}])
