"""Release schedules: until when a release is given a service (pdc, 2.1, 3.3, 3.5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from api.pdc import inputs
from api.pdc.errors import Failure
from api.pdc.inputs import Input
from api.pdc.noun import Key, Noun, Predicate, Values, View, Writes, by_value, single, taken
from api.pdc.query import Query
from reconciler.commands.products import Draft, Entry, Thing
from reconciler.model.product import Catalogue, Release, Schedule, Sla, Version

_TRUE, _FALSE = ("true", "True", "t", "1"), ("false", "False", "f", "0")
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SAFE = "@:+,;=!*'()&$"


def _body(row: Schedule, view: View) -> Mapping[str, Any]:
    return {
        "id": row.number,
        "release": row.release.id,
        "sla": row.sla.name,
        "date": row.date,
        "active": row.active(view.today),
        "release_url": f"{view.base}/releases/{quote(row.release.id, safe=_SAFE)}/",
        "sla_url": f"{view.base}/component-sla-types/{row.sla.number}/",
    }


def _active(values: tuple[str, ...], view: View) -> Predicate | None:
    said = values[-1]
    if not said:
        return None
    if said not in _TRUE + _FALSE:
        raise Failure(
            400, [f"Value [{said}] of active is not a boolean: use one of {', '.join(_TRUE + _FALSE)}."]
        )
    wanted, today = said in _TRUE, view.today
    return lambda row: (row.date >= today) is wanted


def _dated(compare: Callable[[str, str], bool]) -> Callable[[tuple[str, ...], View], Predicate | None]:
    def made(values: tuple[str, ...], _view: View) -> Predicate | None:
        if not values[-1]:
            return None
        wanted = inputs.read_day(values[-1])
        return (lambda row: compare(row.date, wanted)) if wanted is not None else (lambda _row: False)

    return made


def _slas(values: tuple[str, ...], view: View) -> Predicate | None:
    """One of several; a name that there is not makes it nothing at all."""
    wanted = set(values)
    if not wanted <= view.catalogue.slas.keys():
        return lambda _row: False
    return lambda row: row.sla.name in wanted


def _near(catalogue: Catalogue, query: Query) -> Sequence[Schedule]:
    """The entries of the release, or of the one SLA, that is asked for."""
    release, slas = query.last("release"), query.all("sla")
    if release:
        return catalogue.of_release.get(release, ())
    if len(slas) == 1:
        return catalogue.of_sla.get(slas[0], ())
    return catalogue.schedules


def _of_version(value: Callable[[Version], Any]) -> Callable[[Schedule], Any]:
    return lambda row: None if row.release.version is None else value(row.release.version)


def _orders() -> Mapping[str, Callable[[Schedule], Any]]:
    found: dict[str, Callable[[Schedule], Any]] = {
        "id": lambda row: row.number,
        "date": lambda row: row.date,
        "release": lambda row: row.release.id,
        "release_url": lambda row: row.release.id,
        "sla": lambda row: row.sla.number,
        "sla_url": lambda row: row.sla.number,
        "sla__id": lambda row: row.sla.number,
        "sla__name": lambda row: row.sla.name,
        "sla__description": lambda row: row.sla.description,
        "release__id": lambda row: row.release.number,
        "release__release_id": lambda row: row.release.id,
        "release__name": lambda row: row.release.spec["display_name"],
        "release__product_version": _of_version(lambda version: version.number),
        "release__product_version__id": _of_version(lambda version: version.number),
        "release__product_version__product_version_id": _of_version(lambda version: version.id),
        "release__product_version__short": _of_version(lambda version: version.short),
        "release__product_version__version": _of_version(lambda version: version.version),
        "release__product_version__name": _of_version(lambda version: version.name),
        "release__product_version__product": _of_version(lambda version: version.product),
    }
    for name in ("short", "version", "release_type", "active", "integrated_with"):
        found[f"release__{name}"] = _of_release(name)
    return found


def _of_release(field: str) -> Callable[[Schedule], Any]:
    return lambda row: row.release.spec[field]


def _release(draft: Draft, values: Values) -> Thing:
    """The release that is named; it was looked up before, and may have been renamed since by an earlier item."""
    found = draft.find("ProductRelease", values["release"])
    if found is None:
        raise Failure(400, {"release": [f"Object with release_id={values['release']} does not exist."]})
    return found


def _create(draft: Draft, values: Values) -> Entry:
    release = _release(draft, values)
    _free(draft, release, values)
    return draft.add_entry(release, values["sla"], values["date"])


def _change(draft: Draft, entry: Entry, values: Values) -> None:
    release = _release(draft, values)
    if (release, values["sla"]) != (entry.release, entry.sla):
        _free(draft, release, values)
    draft.change_entry(entry, release, values["sla"], values["date"])


def _free(draft: Draft, release: Thing, values: Values) -> None:
    if draft.has_entry(release, values["sla"]):
        raise taken(
            f"The fields release, sla must make a unique set: {release.name}, {values['sla']} is there."
        )


def _row(_catalogue: Catalogue, entry: Entry) -> Schedule:
    """As it is in the draft, for filters."""
    spec = entry.release.spec
    return Schedule(entry.number, Release(0, entry.release.name, spec), Sla(0, entry.sla, ""), entry.date)


WRITES = Writes(
    inputs=(
        Input("release", inputs.named("ProductRelease", "release_id"), required=True),
        Input("sla", inputs.sla, required=True),
        Input("date", inputs.day, required=True),
    ),
    find=lambda draft, ident: draft.entry(int(ident)) if NUMBER.fullmatch(ident) else None,
    create=_create,
    current=lambda entry: {"release": entry.release.name, "sla": entry.sla, "date": entry.date},
    change=_change,
    row=_row,
    stored=lambda catalogue, entry: catalogue.by_pair.get(entry.pair),
    key=lambda entry: f"ProductRelease/{entry.release.name}",
    remove=lambda draft, entry: draft.remove_entry(entry),
)

NOUN = Noun(
    path="release-schedules",
    title="Release Schedule",
    about="Until when a release is given a service: up to and including a day, counted in UTC. "
    "Warning: This is an experimental API.",
    keys=(
        Key("id", "integer", read_only=True),
        Key("release", "field", required=True),
        Key("sla", "field", required=True),
        Key("date", "date", required=True),
        Key("active", "boolean", read_only=True),
        Key("release_url", "field", read_only=True),
        Key("sla_url", "field", read_only=True),
    ),
    rows=lambda catalogue: catalogue.schedules,
    find=lambda catalogue, ident: catalogue.by_number.get(int(ident)) if NUMBER.fullmatch(ident) else None,
    body=_body,
    filters={
        "active": _active,
        "date": _dated(lambda own, wanted: own == wanted),
        "date_after": _dated(lambda own, wanted: own >= wanted),
        "date_before": _dated(lambda own, wanted: own <= wanted),
        "product_version": single(lambda row: row.release.spec["product_version"]),
        "release": single(lambda row: row.release.id),
        "sla": _slas,
    },
    order=by_value(_orders()),
    near=_near,
    writes=WRITES,
)
