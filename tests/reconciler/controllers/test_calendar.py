"""One calendar: what is on it, in which order, and where it ends."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.controllers.calendar import MOST_STARTS, calendar
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
from specs import schedule
from specs.kinds import KINDS
from specs.meta import parse_key

START, END = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)


def declared(key: str, spec: dict[str, Any]) -> Resource:
    """A resource as it would be in force."""
    found = parse_key(key)
    whole = KINDS[found.kind].model.model_validate(spec).model_dump(by_alias=True)
    named = (key, found.kind, found.project, found.environment, found.name)
    return Resource(
        *named, {}, {}, "a.yaml", 1, "r", "d", whole, (), (), 1, 1, Sync.SYNCED, Health.HEALTHY, (), "u"
    )


def told(*resources: Resource) -> list[str]:
    found = calendar(resources, START, END, "Europe/Amsterdam")
    return [
        f"{entry.start:%a %d %H:%M} {entry.end:%a %d %H:%M} {entry.kind} {entry.title}"
        for entry in found.entries
    ]


def test_freezes_are_shown_whole() -> None:
    peak = declared(
        "Freeze/_/peak",
        {
            "reason": "Peak",
            "from": "2026-11-20T00:00:00+01:00",
            "until": "2026-12-01T00:00:00+01:00",
            "recurrence": [
                {"days_of_week": "sat sun"},
                {"begin_time": "22:00", "end_time": "06:00", "days_of_week": "tue"},
            ],
        },
    )
    over = declared(
        "Freeze/_/over", {"reason": "x", "from": "2026-11-01T00:00:00Z", "until": "2026-11-23T00:00:00Z"}
    )
    assert told(peak, over) == [
        "Thu 19 23:00 Mon 30 23:00 freeze Freeze peak: Peak",
        "Tue 24 21:00 Wed 25 05:00 freeze Freeze peak: Peak",
        "Fri 27 23:00 Sun 29 23:00 freeze Freeze peak: Peak",
    ]


def test_periods_of_a_freeze_that_adjoin_are_one() -> None:
    """One that goes on before and after what is asked about is cut there, and says so."""
    halves = [{"begin_time": "00:00", "end_time": "12:00"}, {"begin_time": "12:00", "end_time": "24:00"}]
    most = [{**half, "days_of_week": "mon tue"} for half in halves]
    long = {"reason": "x", "recurrence": most}
    always = {"reason": "y", "recurrence": [{**halves[0], "timezone": "Europe/Amsterdam"}, halves[1]]}
    whole = {"reason": "z", "recurrence": [{"begin_time": "00:00", "end_time": "24:00"}]}
    found = [
        declared("Freeze/_/a", long),
        declared("Freeze/_/b", always),
        declared("Freeze/_/c", whole),
    ]
    assert told(*found) == [
        "Sun 22 23:00 Tue 24 23:00 freeze Freeze a: x",
        "Mon 23 00:00 Mon 30 00:00 freeze Freeze b: y (goes on before and after)",
        "Mon 23 00:00 Mon 30 00:00 freeze Freeze c: z (goes on before and after)",
        "Sun 29 23:00 Tue 01 23:00 freeze Freeze a: x",
    ]


def test_a_window_is_where_all_rules_of_a_bound_ruleset_hold() -> None:
    rules = [
        {"type": "schedule", "days_of_week": "mon tue"},
        {"type": "schedule", "begin_time": "09:00", "end_time": "18:00"},
        {"type": "schedule", "begin_time": "00:00", "end_time": "00:01", "enabled": False},
        {"type": "manual", "approval_policy": "any"},
    ]
    hours = declared("ApprovalRuleset/hours", {"rules": rules, "display_name": "Office hours"})
    people = declared("ApprovalRuleset/people", {"rules": rules[3:]})
    unbound = declared("ApprovalRuleset/unbound", {"rules": rules})
    bindings = [{"approval_ruleset": name, "mode": "permissive"} for name in ("hours", "people")]
    only = declared("Application/web", {"approval_ruleset_bindings": bindings})
    assert told(hours, people, unbound, only) == [
        "Mon 23 08:00 Mon 23 17:00 window Office hours: deploys may go (only recorded)",
        "Tue 24 08:00 Tue 24 17:00 window Office hours: deploys may go (only recorded)",
    ]
    prod = declared("Environment/shop/prod", {"approval_ruleset_bindings": [{"approval_ruleset": "hours"}]})
    assert told(hours, only, prod)[0] == "Mon 23 08:00 Mon 23 17:00 window Office hours: deploys may go"


def test_last_days_of_service_and_starts_of_schedules() -> None:
    release = declared(
        "ProductRelease/fedora-44",
        {
            "short": "fedora",
            "version": "44",
            "display_name": "Fedora 44",
            "release_type": "ga",
            "schedule": {"fixes": "2026-11-25", "late": "2026-11-30", "gone": "2026-11-22"},
        },
    )
    weekly = {
        "triggers": [{"type": "schedule", "cron": "0 6 * * 3"}, {"type": "poll"}],
        "tasks": [{"name": "a", "run": "x"}],
    }
    build = declared("Build/shop/_/weekly", weekly)
    off = declared("Build/shop/_/off", weekly | {"disabled": True})
    assert told(release, build, off) == [
        "Wed 25 00:00 Thu 26 00:00 service-end Fedora 44: last day of fixes",
        "Wed 25 05:00 Wed 25 05:00 start Build/shop/_/weekly starts (0 6 * * 3)",
    ]


TASKS = {"tasks": [{"name": "a", "run": "x"}]}


def scheduled(name: str, **schedule: Any) -> Resource:
    """A Build that starts by a schedule."""
    return declared(f"Build/shop/_/{name}", {"triggers": [{"type": "schedule", **schedule}], **TASKS})


def test_what_starts_often_is_one_entry_a_day() -> None:
    """From its first start of that day, in the server's zone, to the last; a few are an entry each."""
    often, thrice = scheduled("often", interval_seconds=60), scheduled("thrice", cron="0 6,12,18 * * *")
    found = calendar([often, thrice], START, END, "Europe/Amsterdam")
    days = [entry for entry in found.entries if entry.key == often.key]
    assert [(f"{entry.start:%a %H:%M}", f"{entry.end:%a %H:%M}", entry.count) for entry in days][:2] == [
        ("Mon 00:00", "Mon 22:59", 23 * 60),
        ("Mon 23:00", "Tue 22:59", 24 * 60),
    ]
    assert sum(entry.count for entry in days) == 7 * 24 * 60
    single = [entry for entry in found.entries if entry.key == thrice.key]
    assert [f"{entry.start:%a %H:%M}" for entry in single][:4] == [
        "Mon 05:00",
        "Mon 11:00",
        "Mon 17:00",
        "Tue 05:00",
    ]
    assert {entry.count for entry in single} == {1}
    assert not found.cut


def test_a_month_of_many_schedules_is_whole() -> None:
    """Each night of each, an hourly one to the last day, and the freeze at the end of the year."""
    nightly = [scheduled(f"b{at}", cron=f"{at % 60} {at % 5} * * *") for at in range(250)]
    hourly = scheduled("hourly", cron="0 * * * *")
    rest = {"reason": "Rest", "recurrence": [{"days_of_month": "24 25 26", "months_of_year": "dec"}]}
    freeze = declared("Freeze/_/christmas", rest)
    first, end = datetime(2026, 11, 30, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)
    found = calendar([*nightly, hourly, freeze], first, end, "UTC")
    assert not found.cut
    starts = Counter((entry.start.date(), entry.key) for entry in found.entries if entry.kind == "start")
    assert len(starts) == 251 * 35
    assert set(starts.values()) == {1}
    assert [entry.count for entry in found.entries if entry.key == hourly.key] == [24] * 35
    assert [(entry.start.day, entry.end.day) for entry in found.entries if entry.kind == "freeze"] == [
        (24, 27)
    ]


def test_only_starts_are_ever_cut() -> None:
    """And it says so; what holds deploys is there to the end of the range."""
    many = [scheduled(f"b{at}", cron="0 3 * * *") for at in range(200)]
    freeze = declared(
        "Freeze/_/late", {"reason": "x", "from": "2027-10-01T00:00:00Z", "until": "2027-10-02T00:00:00Z"}
    )
    last = {
        "short": "f",
        "version": "4",
        "display_name": "F",
        "release_type": "ga",
        "schedule": {"fixes": "2027-10-05"},
    }
    product = declared("ProductRelease/f-4", last)
    found = calendar([*many, freeze, product], START, START.replace(year=2027), "UTC")
    starts = [entry for entry in found.entries if entry.kind == "start"]
    assert (len(starts), found.cut) == (MOST_STARTS, True)
    assert [entry.kind for entry in found.entries[MOST_STARTS:]] == ["freeze", "service-end"]
    assert max(entry.start for entry in starts) < found.entries[MOST_STARTS].start
    assert calendar([], START, END, "UTC").entries == ()


def test_many_frequent_schedules_are_counted_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one of their starts is looked for."""

    def never(*_: object) -> None:
        raise AssertionError("a start was looked for")

    monkeypatch.setattr(schedule, "next_due", never)
    monkeypatch.setattr("reconciler.controllers.calendar.next_due", never)
    each = [scheduled(f"b{at}", cron="* * * * *", timezone="Europe/Amsterdam") for at in range(50)]
    first = datetime(2026, 10, 1, tzinfo=UTC)  # with the hour that comes twice, in which nothing starts again
    found = calendar(each, first, first.replace(month=11), "Europe/Amsterdam")
    assert sum(entry.count for entry in found.entries) == 50 * 31 * 24 * 60 - 50 * 60
