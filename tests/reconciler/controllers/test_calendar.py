"""One calendar: what is on it, in which order, and where it ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reconciler.controllers.calendar import MOST, MOST_STARTS, calendar
from reconciler.model.resource import Resource
from reconciler.model.status import Health, Sync
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


def test_it_says_where_it_was_cut() -> None:
    tasks = {"tasks": [{"name": "a", "run": "x"}]}
    often = [
        declared(f"Build/shop/_/b{at}", {"triggers": [{"type": "schedule", "interval_seconds": 60}], **tasks})
        for at in range(11)
    ]
    one = calendar(often[:1], START, END, "UTC")
    assert (len(one.entries), one.cut, one.shortened) == (MOST_STARTS, False, ("Build/shop/_/b0",))
    assert one.entries[0].start == START
    many = calendar(often, START, END, "UTC")
    assert (len(many.entries), many.cut, len(many.shortened)) == (MOST, True, 11)
    assert calendar([], START, END, "UTC").entries == ()
