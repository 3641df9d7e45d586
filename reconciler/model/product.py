"""Products, their versions and releases, kinds of service, and until when each is given: values (pdc, 2.1 to 2.4).

Made from specifications in force and the numbers that the store keeps; read by the doors, and compared by what notes
changes. Never knows what day it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconciler.model.resource import Resource
from specs.product import RELEASE_TYPES

KINDS = frozenset({"SLA", "Product", "ProductVersion", "ProductRelease"})
"""The kinds that this is made of."""

RESOURCES: Mapping[str, str] = {
    "SLA": "sla",
    "Product": "product",
    "ProductVersion": "productversion",
    "ProductRelease": "release",
}
"""What a changeset calls the objects of these kinds."""

SCHEDULE = "releaseschedule"
"""What it calls an entry of a release's schedule."""

Pair = tuple[str, str]
"""A release and an SLA, by their names."""

Numbers = Mapping[tuple[str, str], int]
"""The number of (resource, name); of an entry the name is `name_of` its pair."""

_DIGITS = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)


def name_of(pair: Pair) -> str:
    """An entry of a schedule as one text; no name of the two holds a tab."""
    return "\t".join(pair)


@dataclass(frozen=True, slots=True)
class Sla:
    """A kind of service."""

    number: int
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a product. `releases` are ids in their order; `active`: one of these is."""

    number: int
    id: str
    short: str
    version: str
    name: str
    product: str
    releases: tuple[str, ...] = ()
    active: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """A product. `versions` are ids in their order; `active`: one of these is."""

    number: int
    short: str
    name: str
    versions: tuple[str, ...] = ()
    active: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """A release of a product, with its specification and the version that it belongs to."""

    number: int
    id: str
    spec: Mapping[str, Any]
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Until when (`YYYY-MM-DD`, in UTC) a release is given a service."""

    number: int
    release: Release
    sla: Sla
    date: str

    @property
    def pair(self) -> Pair:
        """What it is about."""
        return self.release.id, self.sla.name

    def active(self, today: str) -> bool:
        """Is the service given on this day?"""
        return self.date >= today


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of it at one state, each part in the order in which lists are shown: schedules by date, then number.

    `resources` is what it was made of, `changed` when each sort of object was changed last.
    """

    resources: Mapping[str, Resource]
    slas: Mapping[str, Sla] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    versions: Mapping[str, Version] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    of_release: Mapping[str, tuple[Schedule, ...]] = field(default_factory=dict)
    of_sla: Mapping[str, tuple[Schedule, ...]] = field(default_factory=dict)
    by_number: Mapping[int, Schedule] = field(default_factory=dict)
    by_pair: Mapping[Pair, Schedule] = field(default_factory=dict)
    sla_numbers: Mapping[int, Sla] = field(default_factory=dict)
    changed: Mapping[str, datetime] = field(default_factory=dict)


def catalogue(
    resources: Mapping[str, Resource], numbers: Numbers, changed: Mapping[str, datetime]
) -> Catalogue:
    """From the resources in force of these kinds. What has no number is left out."""
    specs: dict[str, dict[str, Mapping[str, Any]]] = {kind: {} for kind in KINDS}
    for resource in resources.values():
        if resource.spec is not None and (RESOURCES[resource.kind], resource.name) in numbers:
            specs[resource.kind][resource.name] = resource.spec
    slas = {
        name: Sla(numbers["sla", name], name, spec["description"])
        for name, spec in sorted(specs["SLA"].items())
    }
    plain = {
        name: version_of(numbers["productversion", name], name, spec)
        for name, spec in specs["ProductVersion"].items()
    }
    releases = sorted(
        (
            Release(numbers["release", name], name, spec, plain.get(spec["product_version"] or ""))
            for name, spec in specs["ProductRelease"].items()
        ),
        key=release_order,
    )
    versions = _versions(plain, releases)
    schedules = tuple(sorted(_schedules(releases, slas, numbers), key=lambda each: (each.date, each.number)))
    return Catalogue(
        resources,
        slas,
        _products(specs["Product"], numbers, versions.values()),
        versions,
        {release.id: release for release in releases},
        schedules,
        _grouped(schedules, lambda each: each.release.id),
        _grouped(schedules, lambda each: each.sla.name),
        {each.number: each for each in schedules},
        {each.pair: each for each in schedules},
        {each.number: each for each in slas.values()},
        changed,
    )


def version_of(number: int, name: str, spec: Mapping[str, Any]) -> Version:
    """A ProductVersion by itself."""
    short = spec["short"] or spec["product"]
    return Version(number, name, short, spec["version"], spec["display_name"], spec["product"])


def release_order(release: Release) -> tuple[Any, ...]:
    """By short name, then by the numbers of the version, 1.9 before 1.10 (pdc, 5.2)."""
    version = release.spec["version"]
    numeric = bool(_DIGITS.fullmatch(version))
    numbers = tuple(int(part) for part in version.split(".")) if numeric else ()
    return release.spec["short"], not numeric, numbers, version, release.id


def complete(catalogue: Catalogue) -> bool:
    """Had everything a number? Not while the state it was made of is being replaced."""
    found = sum(len(part) for part in (catalogue.slas, catalogue.products, catalogue.versions))
    wanted = sum(len(each.spec["schedule"]) for each in catalogue.releases.values())
    return found + len(catalogue.releases) == len(catalogue.resources) and wanted == len(catalogue.schedules)


def body_of(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An object with all that can be written of it, as the API and its changesets show it."""
    if kind == "SLA":
        return {"name": name, "description": spec["description"]}
    if kind == "Product":
        return {"short": name, "name": spec["display_name"]}
    if kind == "ProductVersion":
        version = version_of(0, name, spec)
        return {
            "product_version_id": name,
            "short": version.short,
            "version": version.version,
            "name": version.name,
            "product": version.product,
        }
    return {
        "release_id": name,
        "short": spec["short"],
        "version": spec["version"],
        "name": spec["display_name"],
        "base_product": None,
        "active": spec["active"],
        "product_version": spec["product_version"],
        "release_type": spec["release_type"],
        "compose_set": [],
        "integrated_with": spec["integrated_with"],
        "sigkey": None,
        "allow_buildroot_push": spec["allow_buildroot_push"],
        "allowed_debuginfo_services": [],
        "allowed_push_targets": [],
        "bugzilla": None if spec["bugzilla"] is None else dict(spec["bugzilla"]),
        "dist_git": None if spec["dist_git"] is None else dict(spec["dist_git"]),
    }


def release_types() -> list[dict[str, str]]:
    """Those that there are, by short name."""
    return [
        {"short": short, "name": name, "suffix": "" if short == "ga" else f"-{short}"}
        for short, name in sorted(RELEASE_TYPES.items())
    ]


def _schedules(releases: Iterable[Release], slas: Mapping[str, Sla], numbers: Numbers) -> Iterable[Schedule]:
    for release in releases:
        for sla, date in release.spec["schedule"].items():
            number = numbers.get((SCHEDULE, name_of((release.id, sla))))
            if number is not None and sla in slas:
                yield Schedule(number, release, slas[sla], date)


def _versions(plain: Mapping[str, Version], releases: Iterable[Release]) -> dict[str, Version]:
    inside: dict[str, list[Release]] = {}
    for release in releases:
        if release.version is not None:
            inside.setdefault(release.version.id, []).append(release)
    return {
        name: Version(
            each.number,
            each.id,
            each.short,
            each.version,
            each.name,
            each.product,
            tuple(release.id for release in inside.get(name, ())),
            any(release.spec["active"] for release in inside.get(name, ())),
        )
        for name, each in sorted(plain.items())
    }


def _products(
    specs: Mapping[str, Mapping[str, Any]], numbers: Numbers, versions: Iterable[Version]
) -> dict[str, Product]:
    inside: dict[str, list[Version]] = {}
    for version in versions:
        inside.setdefault(version.product, []).append(version)
    return {
        name: Product(
            numbers["product", name],
            name,
            spec["display_name"],
            tuple(version.id for version in inside.get(name, ())),
            any(version.active for version in inside.get(name, ())),
        )
        for name, spec in sorted(specs.items())
    }


def _grouped(schedules: Iterable[Schedule], name: Any) -> dict[str, tuple[Schedule, ...]]:
    found: dict[str, list[Schedule]] = {}
    for each in schedules:
        found.setdefault(name(each), []).append(each)
    return {key: tuple(some) for key, some in found.items()}
