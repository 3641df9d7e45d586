"""When schedules are due: cron's standard meaning against a minute-by-minute reference, daylight saving, intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.schedule import Starts, check_cron, check_timezone, next_due, starts_within

WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def allows(field: str, number: int, low: int, high: int, names: list[str]) -> bool:
    """The reference: whether one field of a cron text allows a number."""
    for item in field.split(","):
        span, _, step = item.partition("/")
        if span == "*":
            first, last = low, high
        else:
            parts = [names.index(part) + low if part in names else int(part) for part in span.split("-")]
            first, last = parts[0], parts[-1]
        if number in range(first, last + 1, int(step or 1)):
            return True
    return False


def fits(cron: str, wall: datetime) -> bool:
    """The reference: whether a cron text allows a wall-clock minute."""
    minute, hour, day, month, weekday = cron.split()
    if not (allows(minute, wall.minute, 0, 59, []) and allows(hour, wall.hour, 0, 23, [])):
        return False
    if not allows(month, wall.month, 1, 12, MONTHS):
        return False
    today = wall.isoweekday() % 7
    on_weekday = allows(weekday, today, 0, 6, WEEKDAYS) or (today == 0 and allows(weekday, 7, 0, 6, WEEKDAYS))
    on_day = allows(day, wall.day, 1, 31, [])
    if day.startswith("*") or weekday.startswith("*"):
        return on_day and on_weekday
    return on_day or on_weekday


def reference(cron: str, zone: ZoneInfo, after: datetime, minutes: int) -> list[datetime]:
    """The reference: all due times within so many minutes, by looking at every wall-clock minute."""
    due = set()
    wall = (
        (after - timedelta(hours=26)).astimezone(zone).replace(tzinfo=None, second=0, microsecond=0, fold=0)
    )
    for _ in range(minutes + 52 * 60):
        wall += timedelta(minutes=1)
        if fits(cron, wall):
            instant = wall.replace(tzinfo=zone).astimezone(UTC)
            while instant.astimezone(zone).replace(tzinfo=None) > wall and not exists(wall, zone):
                earlier = instant - timedelta(minutes=1)
                if earlier.astimezone(zone).replace(tzinfo=None) < wall:
                    break
                instant = earlier
            due.add(instant)
    return sorted(instant for instant in due if after < instant <= after + timedelta(minutes=minutes))


def exists(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether a wall-clock time is not skipped."""
    return wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall


def dues(cron: str, zone: str, after: datetime, minutes: int) -> list[datetime]:
    """All due times within so many minutes, as next_due gives them one after the other."""
    found, at = [], after
    while True:
        due = next_due({"type": "schedule", "cron": cron, "timezone": zone}, at)
        if due is None or due > after + timedelta(minutes=minutes):
            return found
        found.append(due)
        at = due


def field(low: int, high: int, names: list[str]) -> st.SearchStrategy[str]:
    """A cron field: star, step, number, name, range, range with step, list."""
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    word = number.map(lambda n: names[n - low] if names else str(n))
    item = st.one_of(
        st.just("*"),
        st.integers(1, max(high, 1)).map(lambda step: f"*/{step}"),
        word,
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.tuples(pair, st.integers(1, high)).map(lambda p: f"{p[0][0]}-{p[0][1]}/{p[1]}"),
    )
    return st.lists(item, min_size=1, max_size=2).map(",".join)


CRONS = st.tuples(
    field(0, 59, []), field(0, 23, []), field(1, 28, []), field(1, 12, MONTHS), field(0, 6, WEEKDAYS)
).map(" ".join)
ZONES = st.sampled_from(
    ["UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
)
# Around the changes of clocks in 2026, and ordinary days.
DAYS = st.sampled_from([(3, 28), (10, 24), (3, 7), (10, 31), (4, 4), (10, 3), (6, 15), (12, 31), (2, 28)])


@settings(max_examples=25, deadline=None)
@given(CRONS, ZONES, DAYS, st.integers(0, 24 * 60 * 60))
def test_cron_agrees_with_the_reference(cron: str, zone: str, day: tuple[int, int], second: int) -> None:
    """Every due time of two days, in order, none twice."""
    after = datetime(2026, *day, tzinfo=UTC) + timedelta(seconds=second)
    minutes = 2 * 24 * 60
    found = dues(cron, zone, after, minutes)
    if len(found) > 400:
        after = found[-1] - timedelta(minutes=90)
        found, minutes = dues(cron, zone, after, 90), 90
    assert reference(cron, ZoneInfo(zone), after, minutes) == found


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-01-01T03:00:00", "2026-01-02T03:00:00"),
        ("0 3 * * *", "UTC", "2026-01-01T02:59:59.999999", "2026-01-01T03:00:00"),
        ("0 0 * * 0", "UTC", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * * 7", "UTC", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * * sun", "UTC", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * * sat-sun", "UTC", "2026-01-03T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 * * 1-5", "UTC", "2026-01-02T00:00:00", "2026-01-05T00:00:00"),
        ("0 0 13 * fri", "UTC", "2026-01-09T00:00:00", "2026-01-13T00:00:00"),
        ("0 0 13 * *", "UTC", "2026-01-09T00:00:00", "2026-01-13T00:00:00"),
        ("0 0 1 JAN *", "UTC", "2026-01-09T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 29 2 *", "UTC", "2026-01-09T00:00:00", "2028-02-29T00:00:00"),
        ("@daily", "UTC", "2026-01-09T00:00:00", "2026-01-10T00:00:00"),
        ("@hourly", "UTC", "2026-01-09T00:00:00", "2026-01-09T01:00:00"),
        ("@weekly", "UTC", "2026-01-09T00:00:00", "2026-01-11T00:00:00"),
        ("@monthly", "UTC", "2026-01-09T00:00:00", "2026-02-01T00:00:00"),
        ("@yearly", "UTC", "2026-01-09T00:00:00", "2027-01-01T00:00:00"),
        # 29 March 2026: 02:00 to 03:00 does not exist in Amsterdam.
        ("30 2 * * *", "Europe/Amsterdam", "2026-03-29T00:00:00", "2026-03-29T01:00:00"),
        ("30 2 * * *", "Europe/Amsterdam", "2026-03-29T01:00:00", "2026-03-30T00:30:00"),
        ("*/10 2 * * *", "Europe/Amsterdam", "2026-03-29T00:00:00", "2026-03-29T01:00:00"),
        ("*/10 2 * * *", "Europe/Amsterdam", "2026-03-29T01:00:00", "2026-03-30T00:00:00"),
        # 25 October 2026: 02:00 to 03:00 comes twice.
        ("30 2 * * *", "Europe/Amsterdam", "2026-10-24T22:00:00", "2026-10-25T00:30:00"),
        ("30 2 * * *", "Europe/Amsterdam", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
        ("*/30 * * * *", "Europe/Amsterdam", "2026-10-25T00:30:00", "2026-10-25T02:00:00"),
        # Samoa had no 30 December 2011 at all.
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00", "2011-12-30T10:00:00"),
    ],
)  # fmt: skip
def test_the_next_due_time(cron: str, zone: str, after: str, expected: str) -> None:
    """Sunday twice, names, day or weekday, named schedules, and changes of the clock."""
    trigger = {"type": "schedule", "cron": cron, "timezone": zone}
    due = next_due(trigger, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert datetime.fromisoformat(expected).replace(tzinfo=UTC) == due


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 0 30 2 *", "never happens"),
        ("0 0 31 4,6 *", "never happens"),
        ("0 0 30 2 */2", "never happens"),
        ("60 * * * *", "goes from 0 to 59"),
        ("* 24 * * *", "goes from 0 to 23"),
        ("* * 0 * *", "goes from 1 to 31"),
        ("* * * 13 *", "goes from 1 to 12"),
        ("* * * foo *", "goes from 1 to 12 or jan to dec"),
        ("* * * * 8", "goes from 0 to 7"),
        ("* * * *", "must be five fields"),
        ("0 * * * * *", "must be five fields"),
        ("@reboot", "must be five fields or one of @hourly"),
        ("5/15 * * * *", "a step needs a range: 5-59/15"),
        ("*/0 * * * *", "with a step that is not"),
        ("*/99 * * * *", "with a step that is not"),
        ("10-5 * * * *", "runs backwards"),
        ("* * L * *", "goes from 1 to 31"),
        ("1,,2 * * * *", "that is not a number"),
        ("*-5 * * * *", "a range is written 1-5"),
        ("", "must be five fields"),
        ("* " * 300, "at most 200 characters"),
        ("١ * * * *", "is not a number"),
    ],
)
def test_a_wrong_cron_text_is_told(cron: str, told: str) -> None:
    """Each kind of mistake has its sentence."""
    assert told in (check_cron(cron) or "right")


@pytest.mark.parametrize(
    "cron", ["0 0 30 2 1", "0 0 29 2 *", "* * * * *", "0 0 31 */2 *", "0,30 8-18/2 * * MON-FRI"]
)
def test_a_right_cron_text_has_no_fault(cron: str) -> None:
    """30 February with a weekday happens on that weekday."""
    assert check_cron(cron) is None


def test_time_zones_are_checked() -> None:
    """Unknown ones and paths are refused, with the nearest of the usual ones."""
    assert check_timezone("Europe/Amsterdam") is None
    assert 'did you mean "Europe/Amsterdam"?' in (check_timezone("Europe/Amsterdan") or "")
    assert check_timezone("../../etc/passwd")
    assert check_timezone("/etc/localtime")
    assert check_timezone("")
    assert check_timezone("Europe")


@given(st.integers(1, 10**7), st.integers(0, 2**32), st.integers(0, 999_999))
def test_intervals_are_aligned_to_the_epoch(seconds: int, at: int, microsecond: int) -> None:
    """A restart does not shift them; the next one is later, by one interval at most."""
    after = datetime.fromtimestamp(at, UTC).replace(microsecond=microsecond)
    due = next_due({"type": "schedule", "interval_seconds": seconds}, after)
    assert due is not None
    assert after < due <= after + timedelta(seconds=seconds)
    assert int(due.timestamp()) % seconds == 0


@settings(deadline=None)
@given(st.text(max_size=10), st.integers(1, 3600))
def test_jitter_moves_all_due_times_alike(seed: str, jitter: int) -> None:
    """The same seed, the same shift, never more than asked for; each start happens once."""
    trigger = {"type": "schedule", "cron": "0 * * * *", "timezone": "UTC", "jitter_seconds": jitter}
    at, shifts = datetime(2026, 1, 1, tzinfo=UTC), []
    for hour in range(5):
        due = next_due(trigger, at, seed)
        assert due is not None
        base = due.replace(minute=0, second=0)
        shifts.append((due - base).total_seconds() if jitter < 3600 else 0)
        assert due > at or hour == 0
        at = due
    assert len(set(shifts)) == 1
    assert 0 <= shifts[0] <= jitter


def test_a_trigger_without_times_is_never_due() -> None:
    """Poll, webhook and change triggers have no schedule."""
    assert next_due({"type": "webhook"}, datetime(2026, 1, 1, tzinfo=UTC)) is None


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(
        ["* * * * *", "*/7 1-3 * * *", "30 2 * * *", "0 0 * * 0", "59 23 1 * 5", "@hourly", "5 0,12 31 * *"]
    ),
    st.sampled_from(["UTC", "Europe/Amsterdam", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia"]),
    st.sampled_from(["2026-03-29", "2026-10-25", "2026-04-05", "2026-09-06", "2011-12-30", "2026-06-30"]),
    st.integers(-3 * 86400, 3 * 86400),
    st.integers(0, 3 * 86400),
    st.sampled_from([0, 600]),
)
def test_what_is_counted_is_what_is_due(
    cron: str, timezone: str, day: str, before: int, seconds: int, jitter: int
) -> None:
    """Around changes of the clock too: the first, the last and the number of what `next_due` finds one by one."""
    trigger = {"cron": cron, "timezone": timezone, "jitter_seconds": jitter}
    begin = datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(seconds=before)
    check_counted(trigger, begin, begin + timedelta(seconds=seconds))


@settings(deadline=None)
@given(st.integers(300, 10**6), st.integers(0, 2**32), st.integers(0, 3 * 86400))
def test_what_is_counted_of_an_interval_is_what_is_due(seconds: int, at: int, span: int) -> None:
    """Both ends included as they are everywhere: from the first instant to before the last."""
    begin = datetime.fromtimestamp(at, UTC)
    check_counted({"interval_seconds": seconds}, begin, begin + timedelta(seconds=span))


def check_counted(trigger: dict[str, object], begin: datetime, end: datetime) -> None:
    """Against one after the other."""
    found: list[datetime] = []
    due = next_due(trigger, begin - timedelta(microseconds=1), "x")
    while due is not None and due < end:
        found.append(due)
        due = next_due(trigger, due, "x")
    expected = Starts(found[0], found[-1], len(found)) if found else None
    assert expected == starts_within(trigger, begin, end, "x")


def test_what_has_no_times_is_not_counted() -> None:
    """Poll, webhook and change triggers."""
    assert (
        starts_within({"type": "poll"}, datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
        is None
    )
