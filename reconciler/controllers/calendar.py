"""One calendar of all that is declared with a time: freezes, hours of rulesets, last days of service, schedules (8.3).

Called by the calendar's query with the resources that somebody sees. Pure: it knows no clock and decides nothing; what
really holds a deploy says `controllers.gate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import reduce
from heapq import merge
from itertools import chain, islice
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.controllers.gate import service_ends
from reconciler.model.resource import Resource
from specs import freeze as freezes
from specs import periods
from specs.periods import Span
from specs.schedule import Starts, next_due, starts_within

KINDS = frozenset(
    {"Freeze", "ApprovalRuleset", "Application", "Environment", "ProductRelease", "Build", "Pipeline"}
)
"""The kinds that are read."""

MOST_STARTS = 30_000
"""So many starts of schedules are shown at most; all else is shown always."""

FEW = 3
"""What starts more often on one day is one entry of that day."""

_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)
_AROUND = timedelta(days=7)
"""Periods that begin or end outside are shown whole, if they are no longer than this."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something from one instant to another; the same ones for what is one moment.

    `kind`: freeze, window (when a ruleset lets deploys through), service-end (a last day) or start (of a schedule).
    `count`: of a schedule that starts often on a day, how often it does, from its first start to its last; else 1.
    """

    start: datetime
    end: datetime
    kind: str
    key: str
    title: str
    where: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Calendar:
    """Entries by their start. `cut`: schedules start after the last start that is shown; all else is whole."""

    entries: tuple[Entry, ...]
    cut: bool


def calendar(resources: Iterable[Resource], start: datetime, end: datetime, timezone: str) -> Calendar:
    """What there is from one instant to before another. `timezone`: of days, and of what names none."""
    found = sorted(resources, key=lambda resource: resource.key)
    bound = _modes(found)
    sources: list[Iterator[Entry]] = []
    for resource in found:
        if resource.kind == "Freeze":
            sources += _of_freeze(resource, start, end, timezone)
        elif resource.kind == "ApprovalRuleset" and resource.name in bound:
            zone = ZoneInfo((resource.spec or {}).get("timezone") or timezone)
            sources.append(_of_ruleset(resource, bound[resource.name], start, end, zone))
        elif resource.kind == "ProductRelease":
            sources.append(_of_product(resource))
    declared = [entry for entry in chain(*sources) if _overlaps(entry, start, end)]
    days = list(_days(start, end, ZoneInfo(timezone)))
    schedules = [
        _starts(resource, position, schedule, days, timezone)
        for resource in found
        if resource.kind in ("Build", "Pipeline")
        for position, schedule in _schedules(resource)
    ]
    starts = list(islice(merge(*schedules, key=_order), MOST_STARTS + 1))
    shown = sorted([*declared, *starts[:MOST_STARTS]], key=_order)
    return Calendar(tuple(shown), len(starts) > MOST_STARTS)


def _order(entry: Entry) -> tuple[datetime, str]:
    return entry.start, entry.key


def _overlaps(entry: Entry, start: datetime, end: datetime) -> bool:
    return entry.start < end and (entry.end > start or entry.start >= start)


def _days(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Span]:
    """The stretch, cut at each midnight."""
    day = start.astimezone(zone).date()
    while start < end:
        day += _DAY
        until = min(end, datetime.combine(day, time(), zone).astimezone(UTC))
        if start < until:
            yield start, until
            start = until


def _of_freeze(freeze: Resource, start: datetime, end: datetime, timezone: str) -> Iterator[Iterator[Entry]]:
    """Its one period, and those that come again."""
    spec = freeze.spec or {}
    title = f"Freeze {freeze.name}: {spec['reason']}"
    around = start - _AROUND, end + _AROUND

    def entry(span: Span) -> Entry:
        if span != around:
            return Entry(*span, "freeze", freeze.key, title, freeze.location)
        return Entry(start, end, "freeze", freeze.key, f"{title} (goes on before and after)", freeze.location)

    if spec["from"] is not None:
        begin, until = (freezes.moment(spec[field]).astimezone(UTC) for field in ("from", "until"))
        yield iter([entry((begin, until))])
    zones = [ZoneInfo(rule.get("timezone") or timezone) for rule in spec["recurrence"]]
    found = [periods.spans(rule, *around, zone) for rule, zone in zip(spec["recurrence"], zones, strict=True)]
    yield (entry(span) for span in periods.joined(merge(*found)))


def _of_ruleset(
    ruleset: Resource, mode: str, start: datetime, end: datetime, zone: ZoneInfo
) -> Iterator[Entry]:
    """When all its schedule rules hold; nothing for one that does not speak of times."""
    spec = ruleset.spec or {}
    rules = [rule for rule in spec["rules"] if rule["type"] == "schedule" and rule["enabled"]]
    if not rules or not spec["enabled"]:
        return
    title = f"{spec['display_name'] or ruleset.name}: deploys may go"
    title += "" if mode == "enforcing" else " (only recorded)"
    each = [periods.spans(rule, start - _AROUND, end + _AROUND, zone) for rule in rules]
    for span in reduce(_both, each):
        yield Entry(*span, "window", ruleset.key, title, ruleset.location)


def _both(some: Iterator[Span], others: Iterator[Span]) -> Iterator[Span]:
    """Where both hold."""
    one, other = next(some, None), next(others, None)
    while one is not None and other is not None:
        begin, end = max(one[0], other[0]), min(one[1], other[1])
        if begin < end:
            yield begin, end
        if one[1] <= other[1]:
            one = next(some, None)
        else:
            other = next(others, None)


def _of_product(release: Resource) -> Iterator[Entry]:
    """The last day of each service."""
    spec = release.spec or {}
    found = [
        Entry(
            end - _DAY,
            end,
            "service-end",
            release.key,
            f"{spec['display_name']}: last day of {sla}",
            release.location,
        )
        for sla, end in service_ends(spec).items()
    ]
    return iter(sorted(found, key=_order))


def _modes(resources: Iterable[Resource]) -> dict[str, str]:
    """Rulesets that are bound anywhere; enforcing if they are anywhere."""
    modes: dict[str, str] = {}
    for resource in resources:
        if resource.kind in ("Application", "Environment"):
            for binding in (resource.spec or {})["approval_ruleset_bindings"]:
                if binding["enabled"] and modes.get(binding["approval_ruleset"]) != "enforcing":
                    modes[binding["approval_ruleset"]] = binding["mode"]
    return modes


def _schedules(resource: Resource) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The schedules of a Build or a Pipeline with their positions; of a disabled one there are none."""
    spec = resource.spec or {}
    if spec["disabled"]:
        return
    declared = spec["schedules"] if resource.kind == "Pipeline" else spec["triggers"]
    for position, each in enumerate(declared):
        if each.get("type", "schedule") == "schedule":
            yield position, each


def _starts(
    resource: Resource, position: int, schedule: Mapping[str, Any], days: Iterable[Span], timezone: str
) -> Iterator[Entry]:
    """A schedule's starts: each, or of a day with many all as one."""
    trigger, seed = (
        {**schedule, "timezone": schedule.get("timezone") or timezone},
        f"{resource.key}#{position}",
    )
    told = schedule.get("cron") or f"every {schedule.get('interval_seconds')} s"
    title = f"{resource.key} starts ({told})"
    following: datetime | None = None
    for begin, until in days:
        if following is not None and until <= following:
            continue
        found = starts_within(trigger, begin, until, seed)
        if found is None:
            following = next_due(trigger, until - _TICK, seed)
            if following is None:
                return
            continue
        if found.count > FEW:
            spans = [(found.first, found.last, found.count)]
        else:
            spans = [(due, due, 1) for due in _each(trigger, found, seed)]
        for first, last, count in spans:
            yield Entry(first, last, "start", resource.key, title, resource.location, count)


def _each(trigger: Mapping[str, Any], found: Starts, seed: str) -> Iterator[datetime]:
    due: datetime | None = found.first
    for _ in range(found.count - 2):
        if due is not None:
            yield due
            due = next_due(trigger, due, seed)
    if due is not None and due < found.last:
        yield due
    yield found.last
