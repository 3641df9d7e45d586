"""The kinds Product, ProductVersion, ProductRelease and SLA (own-kinds; pdc, 2.1 to 2.4): what is looked after, and
until when.

Called by the kinds table. Never knows what day it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from specs import references
from specs.meta import Key
from specs.model import FreeName, FreePart, Spec, SpecFault, Text, metadata
from specs.references import Reference
from specs.release import WantedVersion

RELEASE_TYPES: Mapping[str, str] = {
    "ga": "Release",
    "updates": "Updates",
    "eus": "Extended Update Support",
    "aus": "Advanced Update Support",
    "els": "Extended Life Phase Support",
    "fast": "Fast",
}
"""The types of releases by their short names, in the order of those; all but `ga` end the id of a release."""

_SHORT = re.compile(r"[a-z]([a-z0-9]*-?[a-z0-9]+)*", re.ASCII)
_VERSION = re.compile(r"[^0-9].*|[0-9]+(\.[0-9]+)*", re.ASCII | re.DOTALL)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def short_fault(name: str) -> str | None:
    """What is wrong with the short name of a product or a release, or None."""
    if len(name) <= 200 and _is_short(name):
        return None
    return "a short name has at most 200 lower-case letters, digits and single dashes inside, and begins with a letter"


def _is_short(name: str) -> bool:
    """As its pattern says, without trying every way to part it."""
    words = name.split("-")
    return bool(re.match(r"[a-z]", name, re.ASCII)) and all(
        re.fullmatch(r"[a-z0-9]+", word, re.ASCII) for word in words
    )


def version_fault(version: str) -> str | None:
    """What is wrong with the version of a release or product version, or None."""
    if not 0 < len(version) <= 200 or "/" in version or any(ord(each) < 32 for each in version):
        return "must be 1 to 200 characters without / and control characters"
    if not _VERSION.fullmatch(version):
        return "must be numbers joined by single dots, or a text that does not begin with a digit"
    return None


def _short(name: str) -> str:
    if message := short_fault(name):
        raise ValueError(f"must be a short name: {message}")
    return name


def _version(version: str) -> str:
    if message := version_fault(version):
        raise ValueError(message)
    return version


def day(text: str) -> date:
    """The day that `YYYY-MM-DD` means; ValueError with a sentence."""
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise ValueError(f'must be a day of the calendar such as "2032-05-31", not "{text[:40]}"')


def _day(text: str) -> str:
    day(text)
    return text


Short = Annotated[str, AfterValidator(_short)]
AVersion = Annotated[str, AfterValidator(_version)]
Day = Annotated[str, AfterValidator(_day)]
_NAMED = Field(min_length=1, max_length=300)


class Product(Spec):
    """A product; its name is what PDC calls `short`."""

    display_name: Annotated[Text, _NAMED]
    """Its name for people."""


class ProductVersion(Spec):
    """A version of a product; its name is SHORT-VERSION."""

    product: Short
    """The Product's name."""
    version: AVersion
    """The version."""
    short: Short | None = None
    """The first part of its name, where that is not the product's."""
    display_name: Annotated[Text, _NAMED]
    """Its name for people."""


class SLA(Spec):
    """A kind of service that releases are given until a day."""

    description: Annotated[Text, Field(max_length=10_000)] = ""
    """What is given."""


class Bugzilla(Spec):
    """Where faults are told."""

    product: Annotated[Text, _NAMED]
    """The product there."""


class DistGit(Spec):
    """Where the sources of packages are."""

    branch: Annotated[Text, _NAMED]
    """The branch there."""


class ProductRelease(Spec):
    """A release of a product; its name is SHORT-VERSION, and -TYPE unless that is ga."""

    short: Short
    """The first part of its name."""
    version: AVersion
    """Its version."""
    display_name: Annotated[Text, _NAMED]
    """Its name for people."""
    release_type: Literal["ga", "updates", "eus", "aus", "els", "fast"]
    """What kind of release it is."""
    product_version: FreeName | None = None
    """The ProductVersion it belongs to."""
    active: bool = True
    """A word for people; it has nothing to do with the schedule."""
    integrated_with: FreeName | None = None
    """Another ProductRelease that it goes together with."""
    allow_buildroot_push: bool = False
    """Whether builds for it may be put into the build root."""
    bugzilla: Bugzilla | None = None
    """Where its faults are told."""
    dist_git: DistGit | None = None
    """Where its sources are."""
    applications: list[FreePart] = Field(default_factory=list, max_length=1000)
    """Applications whose deploys are held when no service of this release is given any more."""
    hold_when_inactive: list[FreeName] = Field(default_factory=list, max_length=100)
    """The SLAs that this is judged by; none means all of its schedule."""
    versions: WantedVersion = ""
    """The versions of the applications that this concerns, such as "42.@"; none means all."""
    schedule: dict[FreeName, Day] = Field(default_factory=dict)
    """SLA → the last day on which the service is given, counted in UTC."""


def version_id(spec: Mapping[str, Any]) -> str:
    """The name of a ProductVersion with these fields."""
    return f"{spec.get('short') or spec['product']}-{spec['version']}"


def release_id(spec: Mapping[str, Any]) -> str:
    """The name of a ProductRelease with these fields (pdc, 2.3)."""
    tail = "" if spec["release_type"] == "ga" else f"-{spec['release_type']}"
    return f"{spec['short']}-{spec['version']}{tail}"


def check_version(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """The name agrees with its parts."""
    if key.name != version_id(spec):
        yield metadata("name"), f'the name must be "{version_id(spec)}", after its short name and version'


def check_release(spec: Mapping[str, Any], key: Key) -> Iterator[SpecFault]:
    """The name agrees with its parts; lists have nothing twice."""
    if key.name != release_id(spec):
        wanted = release_id(spec)
        yield metadata("name"), f'the name must be "{wanted}", after short, version and release_type'
    for field in ("applications", "hold_when_inactive"):
        yield from references.twice((field,), spec[field])
    if spec["hold_when_inactive"] and not spec["applications"]:
        yield ("hold_when_inactive",), "hold_when_inactive says nothing without applications"
    if spec["integrated_with"] == key.name:
        yield ("integrated_with",), "a release is not integrated with itself"


def version_references(spec: Mapping[str, Any], _key: Key) -> Iterator[Reference]:
    """The Product of a ProductVersion."""
    yield Reference(("product",), (f"Product/{spec['product']}",), usable=False)


def release_references(spec: Mapping[str, Any], _key: Key) -> Iterator[Reference]:
    """What a ProductRelease names."""
    if spec["product_version"] is not None:
        yield Reference(("product_version",), (f"ProductVersion/{spec['product_version']}",), usable=False)
    if spec["integrated_with"] is not None:
        yield Reference(("integrated_with",), (f"ProductRelease/{spec['integrated_with']}",), usable=False)
    for at, name in enumerate(spec["applications"]):
        yield Reference(("applications", at), (f"Application/{name}",), usable=False)
    for at, name in enumerate(spec["hold_when_inactive"]):
        yield Reference(("hold_when_inactive", at), (f"SLA/{name}",), usable=False)
    for name in spec["schedule"]:
        yield Reference(("schedule", name), (f"SLA/{name}",), usable=False)
