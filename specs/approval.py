"""The kinds Application and ApprovalRuleset (own-kinds; sqedule, 2.4 to 2.7): what is judged before it is deployed, and
by which rules.

Called by the kinds table. Never knows what is asked for, nor who has said yes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field

from specs import references, windows
from specs.meta import Key
from specs.model import EnvironmentName, FreePart, PlainName, Spec, SpecFault, Text, Web
from specs.references import Reference, SecretRef
from specs.release import ReleaseName
from specs.schedule import check_timezone
from specs.team import UserName


def _timezone(name: str) -> str:
    if message := check_timezone(name):
        raise ValueError(message)
    return name


_LONGEST = Field(max_length=200)


class ScheduleRule(Spec):
    """Holds at some times; all parts that are there must hold."""

    type: Literal["schedule"]
    """Judged by the time alone."""
    enabled: bool = True
    """A rule that is not enabled is left out."""
    begin_time: Annotated[str, _LONGEST, windows.A_TIME] | None = None
    """The time of the day it begins at; later than end_time, it ends on the next day."""
    end_time: Annotated[str, _LONGEST, windows.A_TIME] | None = None
    """The time of the day it ends at, which is still in it, up to "24:00"; as begin_time, it is one instant."""
    days_of_week: Annotated[str, _LONGEST, windows.WEEKDAYS] | None = None
    """Days such as "mon tue"; "" is no day at all."""
    days_of_month: Annotated[str, _LONGEST, windows.DAYS_OF_MONTH] | None = None
    """Days such as "1 15"."""
    months_of_year: Annotated[str, _LONGEST, windows.MONTHS] | None = None
    """Months such as "jan feb"."""


class Approvers(Spec):
    """Who decides a manual rule."""

    users: list[UserName] = Field(default_factory=list)
    """Users by name."""
    teams: list[PlainName] = Field(default_factory=list)
    """Teams, whose members decide."""


class ManualRule(Spec):
    """Holds once people have said so; one refusal decides it."""

    type: Literal["manual"]
    """Judged by people."""
    enabled: bool = True
    """A rule that is not enabled is left out."""
    approval_policy: Literal["any", "all", "minimum"]
    """Whether any one approver is enough, all are needed, or as many as `minimum` says."""
    minimum: Annotated[int, Field(ge=1, le=100)] | None = None
    """How many different people must approve; with the policy minimum only."""
    approvers: Approvers | None = None
    """Who may decide; without them, owners of what it concerns."""
    allow_self_approval: bool = True
    """Whether who asked for the deploy, or wrote the commit that did, may approve it."""


class HttpRule(Spec):
    """Holds where a server answers with success."""

    type: Literal["http_api"]
    """Judged by another server."""
    enabled: bool = True
    """A rule that is not enabled is left out."""
    url: Web
    """Where the release is posted to, as JSON; 2xx is success."""
    username: Annotated[Text, _LONGEST] | None = None
    """The name for HTTP Basic authentication."""
    password: SecretRef | None = None
    """The Secret that holds its password."""
    tls_ca_certificate: Annotated[Text, Field(max_length=100_000)] | None = None
    """A certificate authority of its own, in PEM, instead of the public ones."""
    retry_policy: Literal["never", "retry_on_fail"] = "never"
    """Whether a failure is tried again before it counts."""
    retry_limit: Annotated[int, Field(ge=0, le=100)] = 1
    """How many further tries there are with retry_on_fail."""


Rule = Annotated[ScheduleRule | ManualRule | HttpRule, Discriminator("type")]


class ApprovalRuleset(Spec):
    """A named group of rules; it does nothing until an Application or an Environment binds it."""

    display_name: Annotated[Text, _LONGEST] = ""
    """Its name for people."""
    description: Annotated[Text, Field(max_length=10_000)] = ""
    """What it is for."""
    enabled: bool = True
    """A ruleset that is not enabled is bound to nothing."""
    timezone: Annotated[str, AfterValidator(_timezone)] | None = None
    """The time zone of its schedule rules, such as Europe/Amsterdam; without it, the server's."""
    rules: list[Rule] = Field(default_factory=list, max_length=100)
    """The rules; each is judged."""


class RulesetBinding(Spec):
    """A ruleset that judges."""

    approval_ruleset: FreePart
    """The ApprovalRuleset's name."""
    mode: Literal["enforcing", "permissive"] = "enforcing"
    """Whether a rule that does not hold rejects, or is only recorded."""
    enabled: bool = True
    """A binding that is not enabled counts as none."""


class Application(Spec):
    """What is judged before it is deployed."""

    display_name: Annotated[Text, _LONGEST] = ""
    """Its name for people."""
    enabled: bool = True
    """Shown with it; releases of it are judged all the same."""
    releases: list[ReleaseName] = Field(default_factory=list, max_length=1000)
    """NAMESPACE/APPLICATION names whose versions are judged as this application."""
    environments: list[EnvironmentName] | None = None
    """Where approval is asked for; without it, in the protected ones."""
    approval_ruleset_bindings: list[RulesetBinding] = Field(default_factory=list, max_length=100)
    """The rulesets that judge it."""


def check_ruleset(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults of an ApprovalRuleset that the model alone cannot see."""
    for at, rule in enumerate(spec["rules"]):
        where = ("rules", at)
        if rule["type"] == "schedule":
            yield from windows.check(where, rule)
        elif rule["type"] == "manual":
            counted = rule["approval_policy"] == "minimum"
            if counted and rule["minimum"] is None:
                yield where, "approval_policy: minimum needs minimum, how many must approve"
            if not counted and rule["minimum"] is not None:
                yield (*where, "minimum"), "minimum goes with approval_policy: minimum only"
            approvers = rule["approvers"]
            if approvers is not None and not (approvers["users"] or approvers["teams"]):
                yield (*where, "approvers"), "approvers names nobody; add users or teams"
        elif rule["password"] is not None and rule["username"] is None:
            yield (*where, "password"), "password needs username beside it"


def check_application(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults of an Application that the model alone cannot see."""
    yield from references.twice(("releases",), spec["releases"])
    yield from references.twice(("environments",), spec["environments"] or [])
    yield from bound_twice(spec)


def bound_twice(spec: Mapping[str, Any]) -> Iterator[SpecFault]:
    """Faults of a list of bindings: a ruleset is bound once."""
    names = [binding["approval_ruleset"] for binding in spec["approval_ruleset_bindings"]]
    for at, name in enumerate(names):
        if name in names[:at]:
            yield (
                ("approval_ruleset_bindings", at, "approval_ruleset"),
                f'"{name}" is bound above; remove one',
            )


def bound(spec: Mapping[str, Any]) -> Iterator[Reference]:
    """The rulesets that an Application or an Environment binds."""
    for at, binding in enumerate(spec["approval_ruleset_bindings"]):
        name = binding["approval_ruleset"]
        yield Reference(
            ("approval_ruleset_bindings", at, "approval_ruleset"), (f"ApprovalRuleset/{name}",), usable=False
        )


def application_references(spec: Mapping[str, Any], _key: Key) -> Iterator[Reference]:
    """What an Application names."""
    return bound(spec)


def ruleset_references(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """People, teams and Secrets that rules name."""
    for at, rule in enumerate(spec["rules"]):
        where = ("rules", at)
        if rule["type"] == "manual":
            approvers = rule["approvers"] or {"users": [], "teams": []}
            for index, name in enumerate(approvers["users"]):
                yield from references.user((*where, "approvers", "users", index), name)
            for index, name in enumerate(approvers["teams"]):
                yield Reference((*where, "approvers", "teams", index), (f"Team/{name}",), usable=False)
        elif rule["type"] == "http_api" and rule["password"] is not None:
            steps = (*where, "password", "secret_ref")
            yield references.secret(key, steps, rule["password"]["secret_ref"], usable=False)
