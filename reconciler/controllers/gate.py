"""May this be deployed now? Freezes, hours of approval rulesets, service of product releases (design 8.2, 8.3).

Pure: `rules` reads what is declared, `blockers` tells what stands in the way at a moment, `opens_at` when nothing of
the calendar does. What people and other servers have to say is asked for by `asked`, and judged elsewhere
(`controllers.requests`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.model.execution import Type
from reconciler.model.gate import Blocker, Deploy
from reconciler.model.request import Mode
from reconciler.model.resource import Resource
from reconciler.model.rights import Scope
from specs import freeze as freezes
from specs import periods
from specs.product import day
from specs.release import NO_NAMESPACE
from specs.versions import matches
from specs.windows import PARTS

KINDS = frozenset({"Freeze", "Application", "ApprovalRuleset", "ProductRelease", "Environment"})
"""The kinds that say what is held."""

OWNERS = "protected"
"""The ruleset of protected environments that bind none: one owner approves, who did not start it."""

Passed = Mapping[str, datetime]
"""KEYs of Freezes that let just this through, until these ends of their periods."""

NO_END = datetime.max.replace(tzinfo=UTC)
"""The end of a Freeze that goes on for years, or for ever."""

_MOST_STEPS = 1_000
_MOST_TOLD = 50
_LONGEST = 250


@dataclass(frozen=True, slots=True)
class Asked:
    """An application in whose name approval is asked for, and the rulesets that judge it: (name, mode).

    `implicit`: no Application names what is deployed; `owners`: nobody else judges, so one owner does.
    """

    application: str
    rulesets: tuple[tuple[str, Mode], ...]
    implicit: bool = False
    owners: bool = False

    @property
    def gates(self) -> bool:
        """Does anything of it hold a deploy? What is permissive only records."""
        return self.owners or any(mode is Mode.ENFORCING for _, mode in self.rulesets)

    @property
    def judges(self) -> tuple[tuple[tuple[str, Mode], ...], bool]:
        """Those that are judged by the same have the same."""
        return self.rulesets, self.owners


@dataclass(frozen=True, slots=True)
class Rules:
    """All that is declared about holding. Applications by what they judge, product releases by application."""

    freezes: Sequence[Resource] = ()
    rulesets: Mapping[str, Resource] = field(default_factory=dict)
    applications: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    products: Mapping[str, Sequence[Resource]] = field(default_factory=dict)
    environments: Mapping[tuple[str, str], Resource] = field(default_factory=dict)
    timezone: str = "UTC"

    @property
    def any(self) -> bool:
        """Is anything held at all?"""
        return bool(self.freezes or self.applications or self.environments)


def rules(resources: Iterable[Resource], timezone: str) -> Rules:
    """From the resources in force of these KINDS."""
    found = sorted(resources, key=lambda resource: resource.key)
    applications: dict[str, list[Resource]] = {}
    products: dict[str, list[Resource]] = {}
    for resource in found:
        spec = resource.spec or {}
        if resource.kind == "Application":
            for release in spec["releases"]:
                applications.setdefault(release, []).append(resource)
        elif resource.kind == "ProductRelease":
            for name in spec["applications"]:
                products.setdefault(name.lower(), []).append(resource)
    return Rules(
        [resource for resource in found if resource.kind == "Freeze"],
        {resource.name: resource for resource in found if resource.kind == "ApprovalRuleset"},
        applications,
        products,
        {
            (resource.project or "", resource.name): resource
            for resource in found
            if resource.kind == "Environment" and _asks(resource.spec or {})
        },
        timezone,
    )


def _asks(environment: Mapping[str, Any]) -> bool:
    return bool(environment["protected"] or environment["approval_ruleset_bindings"])


def asked(known: Rules, deploy: Deploy) -> tuple[Asked, ...]:
    """In whose name approval is asked for; nobody's: it may go without (own-kinds, Application and Environment)."""
    if deploy.type is not Type.DEPLOY or deploy.repair:
        return ()
    around = known.environments.get((deploy.project, deploy.environment))
    spec = (around.spec if around is not None else None) or {}
    own = spec.get("approval_ruleset_bindings") or ()
    found = []
    for application in known.applications.get(deploy.release, ()):
        declared = application.spec or {}
        environments = declared["environments"]
        wants = (
            deploy.environment in environments if environments is not None else bool(spec.get("protected"))
        )
        if not wants and not own:
            continue
        bindings = _merged(declared["approval_ruleset_bindings"] if wants else (), own)
        found.append(_asked(known, application.name, bindings, spec, implicit=False))
    if not found and spec:
        found.append(_asked(known, implicit(deploy.release), _merged((), own), spec, implicit=True))
    return tuple(each for each in found if each is not None)


def asks_somebody(known: Rules, asked: Asked) -> bool:
    """Is it held by anything but the time?"""
    found = [
        known.rulesets[n] for n, mode in asked.rulesets if n in known.rulesets and mode is Mode.ENFORCING
    ]
    return asked.owners or any(
        rule["enabled"] and rule["type"] != "schedule"
        for ruleset in found
        if (ruleset.spec or {})["enabled"]
        for rule in (ruleset.spec or {})["rules"]
    )


def implicit(release: str) -> str:
    """The name of the application that stands for a release which no Application names."""
    return release.removeprefix(f"{NO_NAMESPACE}/").replace("/", "--")


def _asked(
    known: Rules,
    name: str,
    bindings: tuple[tuple[str, Mode], ...],
    environment: Mapping[str, Any],
    *,
    implicit: bool,
) -> Asked | None:
    """A protected environment in which no ruleset judges asks one owner."""
    owners = not any(_usable(known, each) for each, _ in bindings) and bool(environment.get("protected"))
    return Asked(name, bindings, implicit, owners) if bindings or owners else None


def _usable(known: Rules, name: str) -> bool:
    """Is there such a ruleset, and is it not switched off? One that is missing stands in the way by itself."""
    ruleset = known.rulesets.get(name)
    return ruleset is None or bool((ruleset.spec or {})["enabled"])


def _merged(
    of_application: Iterable[Mapping[str, Any]], of_environment: Iterable[Mapping[str, Any]]
) -> tuple[tuple[str, Mode], ...]:
    """On the same ruleset the Application's binding wins only if it is enforcing."""
    modes: dict[str, Mode] = {}
    for binding in of_environment:
        if binding["enabled"]:
            modes[binding["approval_ruleset"]] = Mode(binding["mode"])
    for binding in of_application:
        if binding["enabled"] and (
            binding["mode"] == Mode.ENFORCING or binding["approval_ruleset"] not in modes
        ):
            modes[binding["approval_ruleset"]] = Mode(binding["mode"])
    return tuple(sorted(modes.items()))


def applications_of(known: Rules, deploy: Deploy) -> tuple[str, ...]:
    """The applications that something is a deploy of, folded; the implicit one where none is declared."""
    declared = [application.name.lower() for application in known.applications.get(deploy.release, ())]
    return tuple(declared) or (implicit(deploy.release).lower(),)


def freezes_of(known: Rules, deploy: Deploy) -> list[Resource]:
    """The Freezes that hold it when they hold."""
    own = set(applications_of(known, deploy))
    return [freeze for freeze in known.freezes if _concerns(freeze, deploy, own)]


def _concerns(freeze: Resource, deploy: Deploy, own: Collection[str]) -> bool:
    spec = freeze.spec or {}
    if freeze.project not in (None, deploy.project) or deploy.held_as not in spec["holds"]:
        return False
    if spec["environments"] and deploy.environment not in spec["environments"]:
        return False
    return not spec["applications"] or any(name.lower() in own for name in spec["applications"])


def blockers(known: Rules, deploy: Deploy, passed: Passed, at: datetime) -> list[Blocker]:
    """What of the calendar stands in the way at a moment."""
    found = [
        blocker
        for freeze in freezes_of(known, deploy)
        if not at < passed.get(freeze.key, at) and (blocker := _frozen(known, freeze, at)) is not None
    ]
    for name in dict.fromkeys(
        name for each in asked(known, deploy) for name, mode in each.rulesets if mode is Mode.ENFORCING
    ):
        ruleset = known.rulesets.get(name)
        if ruleset is None:
            told = (
                f"ApprovalRuleset/{name} is bound here, and there is no good one; declare it, or put it right"
            )
            found.append(Blocker("NoRuleset", told))
        else:
            found += _outside(known, ruleset, at)
    if deploy.type is Type.DEPLOY and not deploy.repair:
        found += _unserved(known, deploy, at)
    return found


def opens_at(known: Rules, deploy: Deploy, passed: Passed, now: datetime) -> datetime | None:
    """The first time from now on at which nothing of the calendar stands in the way; None: none is known."""
    return foreseen(known, deploy, passed, now)[1]


def foreseen(
    known: Rules, deploy: Deploy, passed: Passed, now: datetime
) -> tuple[list[tuple[datetime, Blocker]], datetime | None]:
    """What stands before it, one after the other, each from when it is in the way, and when it could start."""
    steps: list[tuple[datetime, Blocker]] = []
    at = now
    for _ in range(_MOST_STEPS):
        found = blockers(known, deploy, passed, at)
        if not found:
            return steps, at
        fresh = [cause for cause in found if not any(_same(cause, other) for _, other in steps)]
        steps += [(at, cause) for cause in fresh if len(steps) < _MOST_TOLD]
        ends = [blocker.until for blocker in found]
        if None in ends:
            return steps, None
        at = max(end for end in ends if end is not None)
    return steps, None


def _same(one: Blocker, other: Blocker) -> bool:
    return (one.reason, one.where, one.until) == (other.reason, other.where, other.until)


def concerned(known: Rules, deploy: Deploy) -> tuple[Any, ...]:
    """Deploys for which this is the same have the same calendar."""
    enforcing = {
        name for each in asked(known, deploy) for name, mode in each.rulesets if mode is Mode.ENFORCING
    }
    products = [
        (release.key, (release.spec or {})["versions"] and deploy.subject.version)
        for name in applications_of(known, deploy)
        for release in known.products.get(name, ())
    ]
    frozen = tuple(freeze.key for freeze in freezes_of(known, deploy))
    return deploy.type, deploy.repair, frozen, tuple(sorted(enforcing)), tuple(products)


def next_change(known: Rules, deploy: Deploy, now: datetime) -> datetime | None:
    """The next time at which a calendar that concerns it changes, be it for the better or the worse."""
    found: list[datetime | None] = []
    for freeze in freezes_of(known, deploy):
        spec = freeze.spec or {}
        if spec["from"] is not None:
            found += [freezes.moment(spec[name]) for name in ("from", "until")]
        zones = [zone_of(rule.get("timezone") or known.timezone) for rule in spec["recurrence"]]
        found += [
            periods.next_change(rule, now, zone) for rule, zone in zip(spec["recurrence"], zones, strict=True)
        ]
    for name in applications_of(known, deploy):
        found += [
            at for release in known.products.get(name, ()) for at in service_ends(release.spec or {}).values()
        ]
    for name in {name for each in asked(known, deploy) for name, _ in each.rulesets}:
        ruleset = known.rulesets.get(name)
        spec = (ruleset.spec if ruleset is not None else None) or {"rules": (), "timezone": None}
        zone = zone_of(spec["timezone"] or known.timezone)
        found += [
            periods.next_change(rule, now, zone) for rule in spec["rules"] if rule["type"] == "schedule"
        ]
    return min((each for each in found if each is not None and each > now), default=None)


def scope_of(deploy: Deploy) -> Scope:
    """Where roles count for it."""
    return Scope(deploy.project, deploy.environment)


def active(known: Rules, freeze: Resource, at: datetime) -> datetime | None:
    """When a Freeze ends that holds at this moment, NO_END where that cannot be seen; None: it does not hold."""
    spec = freeze.spec or {}
    rules = [(rule, zone_of(rule.get("timezone") or known.timezone)) for rule in spec["recurrence"]]
    begin, until = (
        freezes.moment(spec[name]).astimezone(UTC) if spec[name] is not None else at
        for name in ("from", "until")
    )
    end = at
    while True:
        later = periods.lasts(rules, end)
        if later is None:
            return NO_END
        later = until if begin <= later < until else later
        if later == end:
            return end if end > at else None
        end = later


def _frozen(known: Rules, freeze: Resource, at: datetime) -> Blocker | None:
    end = active(known, freeze, at)
    if end is None:
        return None
    spec, ends = freeze.spec or {}, None if end == NO_END else end
    told = f"{freeze.key} until {_moment(ends)}" if ends else f"{freeze.key}, which has no end"
    told += f": {spec['reason'][:_LONGEST]}"
    if spec["pass"] is not None:
        told += f"; {_way(spec['pass'])}"
    return Blocker("Freeze", told, freeze.location, ends, freeze.key)


def _way(way: Mapping[str, Any]) -> str:
    """Who may let something through, in words."""
    roles = [f"{role}s" if role == "owner" else f"who may {role}" for role in way["roles"]]
    who = " or ".join([*roles, *(f"the team {team}" for team in way["teams"])])
    return f"{who} can let it through ({way['approvals']} needed): `steersman pass`"


def _outside(known: Rules, ruleset: Resource, at: datetime) -> list[Blocker]:
    spec = ruleset.spec or {}
    if not spec["enabled"]:
        return []
    zone = zone_of(spec["timezone"] or known.timezone)
    found = []
    for rule in spec["rules"]:
        if rule["type"] == "schedule" and rule["enabled"] and not periods.holds(rule, at, zone):
            until = periods.next_change(rule, at, zone)
            told = f"{ruleset.key} allows deploys {_hours(rule)} ({zone.key})"
            told += f", next from {_moment(until)}" if until is not None else ", which never comes"
            found.append(Blocker("OutsideWindow", told, ruleset.location, until))
    return found


def _hours(rule: Mapping[str, Any]) -> str:
    """A schedule rule in words."""
    words = []
    if rule.get("begin_time") is not None:
        words.append(f"from {rule['begin_time']} to {rule['end_time']}")
    for part, word in zip(PARTS[2:], ("on", "on the days", "in"), strict=True):
        if rule.get(part) is not None:
            words.append(f"{word} {rule[part] or 'no day'}")
    return " ".join(words)


def _unserved(known: Rules, deploy: Deploy, at: datetime) -> list[Blocker]:
    """Product releases whose services are all over (own-kinds, ProductRelease)."""
    concerned = {
        release.key: release
        for name in applications_of(known, deploy)
        for release in known.products.get(name, ())
        if not (release.spec or {})["versions"]
        or (deploy.subject.version and matches((release.spec or {})["versions"], deploy.subject.version))
    }
    found = []
    for release in concerned.values():
        spec = release.spec or {}
        judged = spec["hold_when_inactive"] or list(spec["schedule"])
        last = max((day(spec["schedule"][sla]) for sla in judged if sla in spec["schedule"]), default=None)
        if last is None or at.astimezone(UTC).date() > last:
            since = f"ended on {last.isoformat()}" if last is not None else "is not scheduled"
            told = f"{release.key}: its service ({', '.join(judged) or 'any'}) {since}; extend it there"
            found.append(Blocker("Inactive", told, release.location))
    return found


def service_ends(spec: Mapping[str, Any]) -> dict[str, datetime]:
    """SLA → the first moment after its last day, in UTC."""
    return {
        sla: datetime.combine(day(text) + timedelta(days=1), time(), UTC)
        for sla, text in spec["schedule"].items()
    }


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name."""
    return ZoneInfo(name)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
