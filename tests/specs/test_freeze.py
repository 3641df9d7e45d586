"""Freezes: one period or recurring ones, what they hold, who may pass; each mistake with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs import windows
from specs.freeze import moment

Told = Callable[[str, str, str], list[str]]
Effective = Callable[[str, str, str], dict[str, Any]]

WHEN = "reason: x, recurrence: [{days_of_week: sat}]"
FROM = "'2026-11-26T00:00:00+01:00'"

CASES = [
    ("§{recurrence: [{days_of_week: sat}]}", "§reason is missing"),
    ("{recurrence: [{days_of_week: sat}], reason: §''}", "§reason must not be empty"),
    ("§{reason: x}", "§a freeze needs from and until, or recurrence"),
    (f"{{reason: x, from: §{FROM}}}", "§from needs until beside it"),
    (f"{{reason: x, until: §{FROM}}}", "§until needs from beside it"),
    (f"{{reason: x, from: {FROM}, until: §{FROM}}}", "§until is not later than from"),
    (f"{{reason: x, from: '2026-11-26T00:00:00Z', until: §{FROM}}}", "§until is not later than from"),
    (f"{{reason: x, from: §2026-11-26, until: {FROM}}}", "§from must be a time with an offset, such as"),
    (f"{{reason: x, from: §'2026-11-26T00:00:00', until: {FROM}}}", "§from must be a time with an offset"),
    (f"{{reason: x, from: §'2026-13-26T00:00:00Z', until: {FROM}}}", "§from must be a time with an offset"),
    ("{reason: x, recurrence: [§{}]}", "§this says no time, so it would freeze for ever; add days or times"),
    ("{reason: x, recurrence: [§{timezone: UTC}]}", "§this says no time, so it would freeze for ever"),
    (
        "{reason: x, recurrence: [§{begin_time: '00:00', end_time: '24:00', timezone: UTC}]}",
        "§this leaves no time out, so it would freeze for ever; leave some days or times out",
    ),
    (
        "{reason: x, recurrence: [§{days_of_week: mon tue wed thu fri sat sun}]}",
        "§this leaves no time out, so it would freeze for ever",
    ),
    (
        "{reason: x, recurrence: §[{begin_time: '00:00', end_time: '12:00'}, "
        "{begin_time: '12:00', end_time: '24:00'}]}",
        "§these leave no time out together, so it would freeze for ever; leave some days or times out",
    ),
    (
        "{reason: x, recurrence: §[{days_of_week: mon tue wed thu}, {begin_time: '12:00', end_time: '11:00'}, "
        "{days_of_month: '31'}, {begin_time: '10:00', end_time: '13:00', days_of_week: fri sat sun}]}",
        "§these leave no time out together",
    ),
    (
        "{reason: x, recurrence: [{begin_time: '00:00', end_time: §'0:0:00'}]}",
        '§end_time is the same as begin_time; the whole day is begin_time "00:00" and end_time "24:00", or no times',
    ),
    (
        "{reason: x, recurrence: [§{days_of_month: '30 31', months_of_year: feb}]}",
        "§this never happens: there is no such day",
    ),
    (
        "{reason: x, recurrence: [§{days_of_month: '31', months_of_year: 4 jun sep nov}]}",
        "§this never happens: there is no such day",
    ),
    ("{reason: x, recurrence: [§{days_of_month: '0'}]}", "§this never happens: there is no such day"),
    ("{reason: x, recurrence: [§{days_of_week: ' '}]}", "§this never happens: there is no such day"),
    ("{reason: x, recurrence: [{begin_time: §'9:00'}]}", "§begin_time needs end_time beside it"),
    (
        "{reason: x, recurrence: [{begin_time: §9h, end_time: '10:00'}]}",
        "§recurrence[0].begin_time must be a time of",
    ),
    (
        "{reason: x, recurrence: [{begin_time: '9:00', end_time: §'24:01'}]}",
        "§recurrence[0].end_time must not be later",
    ),
    (
        "{reason: x, recurrence: [{begin_time: '9:00', end_time: §'10:61'}]}",
        "§recurrence[0].end_time must be a time of",
    ),
    (
        "{reason: x, recurrence: [{days_of_week: §mon-fri}]}",
        '§recurrence[0].days_of_week must be days such as "mon tue"',
    ),
    ("{reason: x, recurrence: [{days_of_week: §''}]}", "§recurrence[0].days_of_week must not be empty"),
    (
        "{reason: x, recurrence: [{days_of_month: §'32'}]}",
        '§recurrence[0].days_of_month must be days such as "1 15"',
    ),
    (
        "{reason: x, recurrence: [{days_of_month: §1}]}",
        '§recurrence[0].days_of_month must be a quoted string: write "1"',
    ),
    (
        "{reason: x, recurrence: [{months_of_year: §dez}]}",
        "§recurrence[0].months_of_year must be months such as",
    ),
    (
        "{reason: x, recurrence: [{days_of_week: sat, timezone: §Mars}]}",
        "§recurrence[0].timezone must be a time zone",
    ),
    (
        '{reason: x, from: "2026-01-01T00:00:00Z", until: §"9999-12-31T23:59:59-05:00"}',
        "§until must be a time with an offset",
    ),
    (f"{{{WHEN}, holds: §[]}}", "§holds must have at least 1 item(s)"),
    (f"{{{WHEN}, holds: [§build]}}", '§holds[0] must be deploy, destroy, errand or repair, not "build"'),
    (f"{{{WHEN}, holds: [deploy, §deploy]}}", '§"deploy" stands in holds twice; remove one'),
    (f"{{{WHEN}, environments: [§none]}}", "§Environment/shop/none is not declared"),
    (f"{{{WHEN}, environments: [dev, §dev]}}", '§"dev" stands in environments twice; remove one'),
    (f"{{{WHEN}, pass: §{{approvals: 2}}}}", "§pass names nobody; add roles or teams"),
    (f"{{{WHEN}, pass: {{roles: [§admin]}}}}", "§pass.roles[0] must be read, write or owner"),
    (f"{{{WHEN}, pass: {{teams: [§none]}}}}", "§Team/none is not declared"),
    (f"{{{WHEN}, pass: {{roles: [owner], approvals: §0}}}}", "§pass.approvals must be at least 1"),
    (f"{{{WHEN}, §form: x}}", '§unknown field "form"; did you mean "from"?'),
]


@pytest.mark.parametrize(("spec", "error"), CASES)
def test_a_mistake_in_a_freeze_is_told(told: Told, spec: str, error: str) -> None:
    """One error, at its place."""
    found = told("Freeze", "name: f, project: shop", spec)
    assert len(found) == 1, found
    assert found[0].startswith(error)


def test_a_full_freeze_is_valid(effective: Effective) -> None:
    """Fields named as in the specification, also those that are words of Python."""
    spec = effective(
        "Freeze",
        "name: black-friday, project: shop",
        f"{{reason: Peak, environments: [prod], from: {FROM}, until: '2026-12-01T00:00:00+01:00', "
        "recurrence: [{begin_time: '16:00', end_time: '24:00', days_of_week: fri, timezone: Europe/Amsterdam}], "
        "holds: [errand], pass: {roles: [owner], teams: [platform], approvals: 2}}",
    )
    assert spec["from"] == FROM.strip("'")
    assert spec["pass"] == {"roles": ["owner"], "teams": ["platform"], "approvals": 2}
    assert effective("Freeze", "name: f", f"{{{WHEN}, environments: [anywhere]}}")["holds"] == [
        "deploy",
        "destroy",
    ]


@pytest.mark.parametrize(
    "recurrence",
    [
        "{days_of_month: '29', months_of_year: feb}",
        "{days_of_month: '31'}",
        "{begin_time: '00:00', end_time: '12:00'}, {begin_time: '12:00:01', end_time: '24:00'}",
        "{begin_time: '00:00', end_time: '12:00'}, {begin_time: '12:00', end_time: '24:00', days_of_week: mon}",
        "{days_of_week: mon tue wed thu fri}, {days_of_week: sat}",
        "{begin_time: '00:00', end_time: '12:00', timezone: UTC}, {begin_time: '12:00', end_time: '24:00'}",
    ],
)
def test_a_freeze_that_leaves_some_time_out_is_valid(effective: Effective, recurrence: str) -> None:
    """Also by a second a day, on one day in four years, and where time zones differ."""
    assert effective("Freeze", "name: f", f"{{reason: x, recurrence: [{recurrence}]}}")


def test_a_default_may_set_any_field(effective: Effective, told: Told) -> None:
    """Also `from`."""
    found = told("Project", "name: mine", "{defaults: {Freeze: {from: §x}}}")
    assert found == ['§from must be a time with an offset, such as "2026-11-26T00:00:00+01:00", not "x"']
    assert effective("Project", "name: mine", "{defaults: {Freeze: {pass: {roles: [owner]}}}}")


def test_parts_of_rules_are_read() -> None:
    """Numbers, short and long names, any case; several spaces are one."""
    assert [windows.second_of_day(text) for text in ("9:0", "09:00:30", "24:00", "0:60")] == [
        32400,
        32430,
        86400,
        3600,
    ]
    assert windows.weekdays("MON  7 0 wednesday") == {1, 7, 3}
    assert windows.weekdays("") == frozenset()
    assert windows.days_of_month("0 31") == {0, 31}
    assert windows.months("1 DEC february") == {1, 12, 2}
    for read, text in (
        (windows.weekdays, "8"),
        (windows.months, "13"),
        (windows.days_of_month, "a"),
        (windows.weekdays, "m,t"),
    ):
        with pytest.raises(ValueError, match="must be"):
            read(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_told(text: str) -> None:
    """Never another error."""
    for read in (windows.second_of_day, windows.weekdays, windows.days_of_month, windows.months, moment):
        try:
            read(text)
        except ValueError as error:
            assert str(error).startswith("must")
