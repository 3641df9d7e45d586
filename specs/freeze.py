"""The kind Freeze (own-kinds): when nothing is deployed, where, and who may pass all the same.

Called by the kinds table. What stands under a Freeze is decided by those who know the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from specs import periods, references, windows
from specs.meta import Key
from specs.model import EnvironmentName, FreePart, PlainName, Spec, SpecFault, Steps, no_nul
from specs.references import Reference
from specs.schedule import check_timezone

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


_FIRST_YEAR, _LAST_YEAR = 1970, 9000  # further away, no offset can be added or taken


def moment(text: str) -> datetime:
    """The instant of a time with an offset; ValueError with a sentence."""
    if _MOMENT.fullmatch(text):
        try:
            found = datetime.fromisoformat(text.upper())
        except ValueError:
            found = None
        if found is not None and _FIRST_YEAR <= found.year < _LAST_YEAR:
            return found
    raise ValueError(f'must be a time with an offset, such as "2026-11-26T00:00:00+01:00", not "{text[:40]}"')


def _moment(text: str) -> str:
    moment(text)
    return text


def _timezone(name: str) -> str:
    if message := check_timezone(name):
        raise ValueError(message)
    return name


Held = Literal["deploy", "destroy", "errand", "repair"]
HELD: tuple[Held, ...] = ("deploy", "destroy")
"""What a Freeze holds where it says nothing."""

_SAID = Field(min_length=1, max_length=200)
Moment = Annotated[str, AfterValidator(_moment)]


class Recurrence(Spec):
    """A period that comes again; what it says must all hold."""

    begin_time: Annotated[str, _SAID, windows.A_TIME] | None = None
    """The time of the day it begins at; later than end_time, it ends on the next day."""
    end_time: Annotated[str, _SAID, windows.A_TIME] | None = None
    """The time of the day it ends at, up to "24:00"; never the same as begin_time."""
    days_of_week: Annotated[str, _SAID, windows.WEEKDAYS] | None = None
    """Days such as "sat sun"."""
    days_of_month: Annotated[str, _SAID, windows.DAYS_OF_MONTH] | None = None
    """Days such as "1 15"."""
    months_of_year: Annotated[str, _SAID, windows.MONTHS] | None = None
    """Months such as "dec"."""
    timezone: Annotated[str, AfterValidator(_timezone)] | None = None
    """The time zone of all this, such as Europe/Amsterdam; without it, the server's."""


class Pass(Spec):
    """A recorded way through."""

    roles: list[Literal["read", "write", "owner"]] = Field(default_factory=list)
    """Roles whose holders may let something through."""
    teams: list[PlainName] = Field(default_factory=list)
    """Teams whose members may."""
    approvals: Annotated[int, Field(ge=1, le=100)] = 1
    """How many of them it takes."""


class _Freeze(Spec):
    """The first fields; two of the others have names that are words of Python."""

    reason: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(no_nul)]
    """Why, in a sentence for people."""
    environments: list[EnvironmentName] = Field(default_factory=list)
    """The environments it holds in; empty means all."""
    applications: list[FreePart] = Field(default_factory=list, max_length=1000)
    """The Applications it holds; empty means whatever is deployed."""


_WORDS: dict[str, Any] = {
    "from": (Moment | None, Field(None, description="The beginning of the one period, with an offset.")),
    "until": (Moment | None, Field(None, description="The end of the one period, with an offset.")),
    "recurrence": (
        list[Recurrence],
        Field(
            default_factory=list, max_length=100, description="Periods that come again; any of them holds."
        ),
    ),
    "holds": (
        list[Held],
        Field(
            default_factory=lambda: [*HELD],
            min_length=1,
            description="What is held; repair is to put back the very digest that was deployed.",
        ),
    ),
    "pass": (Pass | None, Field(None, description="Who may let something through, which is recorded.")),
}
Freeze: type[Spec] = create_model(
    "Freeze",
    __base__=_Freeze,
    __doc__="A time without deploys, in a project or everywhere.",
    __module__=__name__,
    **_WORDS,
)


def check(spec: Mapping[str, Any], _key: Key) -> Iterator[SpecFault]:
    """Faults that the model alone cannot see."""
    begin, end = spec["from"], spec["until"]
    if begin is None and end is None and not spec["recurrence"]:
        yield ("from",), "a freeze needs from and until, or recurrence"
    if (begin is None) != (end is None):
        there, missing = ("from", "until") if end is None else ("until", "from")
        yield (there,), f"{there} needs {missing} beside it"
    if begin is not None and end is not None and moment(end) <= moment(begin):
        yield ("until",), "until is not later than from"
    yield from _check_recurrence(spec["recurrence"])
    for field in ("environments", "applications", "holds"):
        yield from references.twice((field,), spec[field])
    if spec["pass"] is not None and not (spec["pass"]["roles"] or spec["pass"]["teams"]):
        yield ("pass",), "pass names nobody; add roles or teams"


def _check_recurrence(rules: Sequence[Mapping[str, Any]]) -> Iterator[SpecFault]:
    """Each holds at some time, and leaves some time out; so do all together, as far as one time zone shows."""
    found = [fault for at, rule in enumerate(rules) for fault in _check_rule(("recurrence", at), rule)]
    yield from found
    zones = {rule["timezone"] for rule in rules} if not found else ()
    if any(not periods.leave_out(rule for rule in rules if rule["timezone"] == zone) for zone in zones):
        told = "these leave no time out together, so it would freeze for ever; leave some days or times out"
        yield ("recurrence",), told


def _check_rule(where: Steps, rule: Mapping[str, Any]) -> Iterator[SpecFault]:
    faults = list(windows.check(where, rule))
    yield from faults
    if faults:
        return
    begin, end = rule["begin_time"], rule["end_time"]
    if all(rule[part] is None for part in windows.PARTS):
        yield where, "this says no time, so it would freeze for ever; add days or times"
    elif begin is not None and windows.second_of_day(begin) == windows.second_of_day(end):
        whole = 'the whole day is begin_time "00:00" and end_time "24:00", or no times'
        yield (*where, "end_time"), f"end_time is the same as begin_time; {whole}"
    elif not periods.happens(rule):
        yield where, "this never happens: there is no such day"
    elif not periods.leave_out([rule]):
        told = "this leaves no time out, so it would freeze for ever; leave some days or times out"
        yield where, told


def named_elsewhere(spec: Mapping[str, Any], key: Key) -> Iterator[Reference]:
    """The Environments of its project, the Applications and the Teams that a Freeze names."""
    for at, name in enumerate(spec["environments"] if key.project is not None else ()):
        yield Reference(("environments", at), (f"Environment/{key.project}/{name}",), usable=False)
    for at, name in enumerate(spec["applications"]):
        yield Reference(("applications", at), (f"Application/{name}",), usable=False, must=False)
    for at, name in enumerate((spec["pass"] or {}).get("teams") or ()):
        yield Reference(("pass", "teams", at), (f"Team/{name}",))
